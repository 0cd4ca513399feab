"""Batches without a notebook: submit, wait, results, cancel, retry, keys, money.

Belongs here: what a script calls. Does not: IPython (`notebook`),
what happens in the background (`engine`).
Read `client` first, then `handle`.
"""
