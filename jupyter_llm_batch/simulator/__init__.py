"""The providers' batch and real-time endpoints over real HTTP on loopback, at no cost.

Belongs here: servers that behave as the providers document it. Does not: anything of ours but
`core`, so that client and server read the same facts twice. Read `embedded` first, then `world`.

``Simulator`` runs inside a test, `ensure_running` starts or finds a process for notebooks, and
``python -m jupyter_llm_batch.simulator`` is a server of its own. The real SDKs talk to it with its
key, which is random and kept with its state. Every answer says that it is simulated.
"""

from __future__ import annotations

from .embedded import Simulator
from .launch import Running, ensure_running
from .world.answers import mark

__all__ = ["Running", "Simulator", "ensure_running", "mark"]
