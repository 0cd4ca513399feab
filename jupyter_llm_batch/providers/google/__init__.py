"""Google Gemini's batches and explicit caches.

Read `adapter` first; `requests` writes requests, `results` reads result lines.
"""
