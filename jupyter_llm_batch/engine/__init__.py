"""The background: drives every job from "planned" to "done".

Belongs here: polling, look-up of lost creates, collecting results, real time, notifications.
Does not: what the user calls (`client`), or how it looks (`notebook`).
Read `poller` first, then `steps` and `collect`.
"""
