"""Prices, tokens, estimates, budgets, the ledger, and advice.

Belongs here: whatever computes money.
Does not: what was spent on disk (`storage.spending`), or tables for people.
Read `prices` first, then `estimate`. Imports only `core`, `data` and `storage`.
"""
