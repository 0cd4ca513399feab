"""The data folder: the SQLite journal, request and result files, leases, damage and recovery.

Belongs here: all SQL and every fsync.
Does not: what a state means, or when it changes (`core.lifecycle`).
Read `store` first, then `opening`. Imports only `core` and `data`.
"""
