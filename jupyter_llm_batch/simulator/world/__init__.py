"""What the simulated providers share: batches in time, answers, files, and the ledger of costs.

Read `engine` first.
"""
