"""A long campaign at random: kills, and faults of the wire, until enough were survived.

Run it from the repository: ``python -m tests.campaign --kills 1000 --seed 1``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
import traceback
from collections import Counter

from .harness import lane


def main() -> int:
    """Play stories until there were enough kills; return how many broke the promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="how many at least")
    parser.add_argument("--seed", type=int, default=1, help="of the first story")
    options = parser.parse_args()
    began = time.monotonic()
    here = lane()
    kills: Counter[str] = Counter()
    stories = broken = 0
    try:
        while kills.total() < options.kills:
            seed = options.seed + stories
            stories += 1
            try:
                story, killed = here.chaos(seed)
                kills[story.partition(": ")[2].partition(",")[0]] += killed
            except Exception:
                broken += 1
                print(f"seed {seed}:", traceback.format_exc(), flush=True)
            if stories % 10 == 0:
                print(f"{stories} stories, {kills.total()} kills, {broken} broken", flush=True)
    finally:
        here.close()
        shutil.rmtree(here.folder, ignore_errors=True)
    for what, count in sorted(kills.items()):
        print(f"{count:6} kills: {what}")
    minutes = (time.monotonic() - began) / 60
    print(
        f"{kills.total()} kills in {stories} stories from seed {options.seed}, "
        f"{broken} broken promises, {minutes:.1f} minutes"
    )
    return min(broken, 100)


if __name__ == "__main__":
    sys.exit(main())
