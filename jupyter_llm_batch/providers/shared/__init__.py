"""What several providers share: HTTP limits, errors, encoding and lenient decoding of lines.

Read `transport` first, then `errors`.
"""
