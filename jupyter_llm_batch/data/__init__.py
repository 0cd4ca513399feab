"""Rows in and answers out: frames, schemas, media types, copies of the input.

Belongs here: whatever knows pandas, polars, pyarrow or JSON schema.
Does not: prompts, providers, the journal.
Read `rows` first, then `answers`. Imports only `core`.
"""
