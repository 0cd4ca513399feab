"""What test files import by name; fixtures stand in conftest.py."""

import hashlib

from jupyter_llm_batch.lifecycle import Policy

#: As fast as a test may be; every wait is tiny, every rule stays.
FAST = Policy(poll=0.02, poll_longest=0.05, retry=0.02, retry_longest=0.1, room=0.05, settle=0.2)


def mark(prompt):
    """Return the hash that the simulator puts into its answer to `prompt`."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:8]
