"""From the options of a cell to a planned batch on disk.

Belongs here: prompts, the split into jobs, reuse, retries, adoption, questions before spending.
Does not: calls to a provider's batch API (`engine`). Read `plan` first, then `read_options`.
"""
