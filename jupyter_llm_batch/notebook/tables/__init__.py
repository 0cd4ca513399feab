"""Tables of the line magics: rows, errors, history, money, and a chart.

Read `show` first.
"""
