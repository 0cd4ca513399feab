"""The HTTP server: connections, control API, faults, rate limits, and the record of requests.

Read `http` first.
"""
