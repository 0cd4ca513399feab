"""Anthropic's message batches.

Read `adapter` first; `requests` writes requests, `results` reads result lines.
"""
