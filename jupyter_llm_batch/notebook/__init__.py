"""The notebook's side: magics, completion, variables and the panel."""
