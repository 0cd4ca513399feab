"""The faults of a provider's wire, each with what it hits, for any of the three."""

from __future__ import annotations

import random
from typing import Any

#: What a fault may hit: method and path, of whichever provider.
CREATE = {"method": "POST", "path": r"^.*/batches$|:batchGenerateContent$"}
UPLOAD = {"method": "POST", "path": r"^.*/files(\b.*)?$"}
POLL = {"method": "GET", "path": r"^.*/batches/[^/]+$"}
LISTING = {"method": "GET", "path": r"^.*/batches$"}
DOWNLOAD = {"method": "GET", "path": r"^.*/(content|results)$|:download$"}
#: Gemini's inline jobs answer a look with their results.
READ = {"method": "GET", "path": r"^.*(/batches/[^/]+|/content|/results|:download)$"}
ANY = {"path": "*"}

#: Turned away at the door: nothing was created, whatever was asked.
DOOR = {
    "429": {"status": 429},
    "429 with a wait": {"status": 429, "headers": {"Retry-After": "0.05"}},
    "429 with no number": {"status": 429, "headers": {"Retry-After": "soon"}},
    "429 with a negative wait": {"status": 429, "headers": {"Retry-After": "-5"}},
    "429 with no finite wait": {"status": 429, "headers": {"Retry-After": "inf"}},
    "429 with a date gone by": {
        "status": 429,
        "headers": {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"},
    },
    "529": {"status": 529},
}
#: Perhaps accepted, and nobody says so.
UNCLEAR = {
    "500": {"status": 500},
    "502 by a proxy": {"status": 502, "body": "<html>Bad Gateway</html>"},
    "503": {"status": 503},
    "504": {"status": 504},
    "reset before acceptance": {"action": "drop"},
    "reset after acceptance": {"action": "accept_then_drop"},
    "accepted, then 500": {"action": "accept_then_status", "status": 500},
    "accepted, then 504": {"action": "accept_then_status", "status": 504},
    "a torn answer": {"action": "truncate"},
    "a garbled answer": {"action": "corrupt"},
    "a slow drip": {"action": "drip", "seconds": 0.1},
}
#: Only where reading is asked for: a create is not refused for these.
READING = {
    "404 for a moment": {"status": 404},
    "a short answer that looks whole": {"action": "truncate", "shorten_length": True, "keep": 0.8},
}

FAULTS: dict[str, dict[str, Any]] = {}
for _what, _where in {"create": CREATE, "upload": UPLOAD, "poll": POLL, "download": READ}.items():
    _kinds = DOOR | UNCLEAR | (READING if _what == "download" else {})
    for _name, _fault in _kinds.items():
        FAULTS[f"{_what}: {_name}"] = {"action": "status", "times": 2} | _where | _fault


def mix(seed: int) -> list[dict[str, Any]]:
    """Return a few faults at once, some of which pass requests first."""
    dice = random.Random(seed)
    names = dice.sample(sorted(FAULTS), dice.randint(2, 6))
    return [
        FAULTS[name] | {"times": dice.randint(1, 3), "after": dice.choice((0, 0, 1, 2))}
        for name in names
    ]
