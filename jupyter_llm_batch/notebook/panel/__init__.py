"""The live panel: a widget with its script and styles, and the static summary that replaces it.

Read `panels` first.
"""
