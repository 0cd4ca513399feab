"""What a person touches in a notebook: magics, options, completion, help, variables, panels.

Belongs here: whatever imports IPython or widgets. Does not: what a script needs too (`client`).
Read `magics` first, then `commands`, `controller` and `panel.panels`.
"""
