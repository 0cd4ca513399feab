"""What becomes of one row: by a directive in its prompt, by the rates, or simply an answer."""

from __future__ import annotations

import hashlib
import re
from enum import IntEnum

from .behaviour import Behaviour


class Fate(IntEnum):
    """How one row ends."""

    ANSWER = 0
    REFUSE = 1
    LENGTH = 2
    FILTER = 3
    #: Run and billed, and the line is in no result.
    MISSING = 4
    #: Run and billed once, and the line is there twice.
    DUPLICATE = 5
    #: Run and billed, and the line is no JSON.
    BADLINE = 6
    FAIL_400 = 7
    FAIL_429 = 8
    FAIL_500 = 9
    #: The endpoint refuses the request for what it says.
    INVALID = 10
    EXPIRE = 11
    TIMEOUT = 12
    #: Not reached before the batch was cancelled.
    CANCEL = 13
    #: Answered by a call of a tool.
    TOOL = 14
    #: Answered with the thoughts of the model beside the text.
    THINK = 15
    #: Answered, with nothing in the answer.
    EMPTY = 16
    #: Answered with citations.
    CITE = 17
    #: Answered in a form that nobody has seen before.
    ODD = 18

    @property
    def billed(self) -> bool:
        """Whether the row was executed."""
        return self <= Fate.BADLINE or self >= Fate.TOOL

    @property
    def delivered(self) -> bool:
        """Whether the row counts as completed and its line is among the answers."""
        return self.billed and self is not Fate.MISSING


#: Fates that change what an answer holds, in a batch and at once.
SHAPES = frozenset({Fate.TOOL, Fate.THINK, Fate.EMPTY, Fate.CITE})

DIRECTIVES = {
    "fail-400": Fate.FAIL_400,
    "fail-429": Fate.FAIL_429,
    "fail-500": Fate.FAIL_500,
    "expire": Fate.EXPIRE,
    "timeout": Fate.TIMEOUT,
    "refuse": Fate.REFUSE,
    "length": Fate.LENGTH,
    "filter": Fate.FILTER,
    "missing": Fate.MISSING,
    "duplicate": Fate.DUPLICATE,
    "badline": Fate.BADLINE,
    "tool": Fate.TOOL,
    "think": Fate.THINK,
    "empty": Fate.EMPTY,
    "cite": Fate.CITE,
    "odd": Fate.ODD,
}

_DIRECTIVE = re.compile(r"\[\[sim:([a-z0-9-]+)(?: x(\d+))?\]\]")


class Fates:
    """Draws fates, and counts how often a prompt was run where that matters."""

    def __init__(self, attempts: dict[str, int] | None = None) -> None:
        #: Runs so far of each prompt whose fate depends on it, by a hash of the prompt.
        self.attempts = attempts if attempts is not None else {}

    def draw(self, prompt: str, behaviour: Behaviour) -> Fate:
        """Return the fate of this run of a prompt."""
        if "[[sim:" in prompt and (found := _DIRECTIVE.findall(prompt)):
            before = self._count(prompt) if any(limit for _, limit in found) else 0
            # Of several the first that still holds.
            holding = (name for name, limit in found if not limit or before < int(limit))
            return DIRECTIVES.get(next(holding, ""), Fate.ANSWER)
        rates = (
            (behaviour.fail_rate, Fate.FAIL_400),
            (behaviour.server_error_rate, Fate.FAIL_500),
            (behaviour.expire_rate, Fate.EXPIRE),
            (behaviour.refuse_rate, Fate.REFUSE),
            (behaviour.missing_rate, Fate.MISSING),
        )
        if not any(rate for rate, _ in rates):
            return Fate.ANSWER
        drawn = self._chance(prompt, behaviour.seed)
        for rate, fate in rates:
            if drawn < rate:
                return fate
            drawn -= rate
        return Fate.ANSWER

    def _chance(self, prompt: str, seed: int) -> float:
        text = f"{seed}:{self._count(prompt)}:{prompt}"
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def _count(self, prompt: str) -> int:
        """Return how often the prompt was run before, and count this run."""
        key = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        before = self.attempts.get(key, 0)
        self.attempts[key] = before + 1
        return before
