"""The crash campaign: a batch is killed or frozen at every point, and nothing is paid twice.

A run is a child process that plays a scenario against a simulator. An undisturbed run names the
points it passes: around every commit of the journal, every file operation and every piece of
network traffic. Then, for each of them, a child is killed (or frozen) exactly there, another one
goes on where it was, and the simulator's ledger is held against the answers.

``python -m tests.campaign`` runs it at random and for longer; the test files run it whole.
"""
