"""OpenAI, Azure OpenAI, and servers that speak OpenAI's API.

Read `adapter` first; `requests` writes request lines, `results` reads result lines.
"""
