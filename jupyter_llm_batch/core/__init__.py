"""The nouns and the rules: batch, job, request, result, states, waits, errors, text.

Belongs here: what every wing shares and what needs no I/O. Does not: SQL, HTTP, IPython, files.
Read `batch` and `job` first, then `lifecycle`. Imports nothing of ours.
"""
