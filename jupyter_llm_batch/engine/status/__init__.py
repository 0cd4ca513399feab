"""Snapshots for panels: what the journal knows about a batch, in words that a person uses.

Read `snapshot` first, then `words`.
"""
