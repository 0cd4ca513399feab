"""The providers' batch and real-time endpoints over real HTTP on loopback, at no cost.

``Simulator`` runs inside a test, `ensure_running` starts or finds a process for notebooks, and
``python -m jupyter_llm_batch.simulator`` is a server of its own. The real SDKs talk to it with its
key, which is random and kept with its state. Every answer says that it is simulated.
"""

from __future__ import annotations

from .answers import mark
from .embedded import Simulator
from .launch import Running, ensure_running

__all__ = ["Running", "Simulator", "ensure_running", "mark"]
