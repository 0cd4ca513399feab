"""Cell text and rows to prompts: templates, ready-made prompts, media, and the choice of a model.

Read `template` first.
"""
