"""A long campaign: every point of every scenario, or kills and faults of the wire at random,
also among several kernels.

Run it from the repository: ``python -m tests.campaign --every``, or
``python -m tests.campaign --kills 1000 --seed 1``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable

from .harness import Lane, lane
from .scenarios import plays


def every(here: Lane, deed: str, wanted: list[str]) -> tuple[Counter[str], int]:
    """Kill or freeze at every point; return how often per provider, and what broke the promise."""
    done: Counter[str] = Counter()
    broken = 0
    for provider, scenario in plays():
        if wanted and scenario not in wanted:
            continue
        began = time.monotonic()
        try:
            met = here.everywhere(deed, provider, scenario)
        except Exception:
            broken += 1
            print(traceback.format_exc(), flush=True)
            continue
        done[provider] += met
        seconds = time.monotonic() - began
        print(f"{provider}, {scenario}: {met} {deed}, {seconds:.0f} s", flush=True)
    if here.locked_out:
        print(f"{here.locked_out} times the frozen one kept the other out, who said so")
    return done, broken


def at_random(
    play: Callable[[int], tuple[str, int]], kills: int, first: int
) -> tuple[Counter[str], int]:
    """Play stories until there were enough kills; return the same."""
    done: Counter[str] = Counter()
    stories = broken = 0
    while done.total() < kills:
        seed = first + stories
        stories += 1
        try:
            story, killed = play(seed)
            done[story.partition(": ")[2].partition(",")[0]] += killed
        except Exception:
            broken += 1
            print(f"seed {seed}:", traceback.format_exc(), flush=True)
        if stories % 10 == 0:
            print(f"{stories} stories, {done.total()} kills, {broken} broken", flush=True)
    print(f"{stories} stories from seed {first}")
    return done, broken


def main() -> int:
    """Run a campaign, print its figures; return how often the promise broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--every", action="store_true", help="kill once at every point")
    parser.add_argument("--freezes", action="store_true", help="freeze once at every point")
    parser.add_argument("--only", nargs="*", default=[], help="scenarios, of those two")
    parser.add_argument("--kills", type=int, default=1000, help="how many at random, at least")
    parser.add_argument("--crowds", action="store_true", help="random kills among several kernels")
    parser.add_argument("--seed", type=int, default=1, help="of the first story")
    options = parser.parse_args()
    began = time.monotonic()
    here = lane()
    deed = "freezes" if options.freezes else "kills"
    try:
        if options.every or options.freezes:
            done, broken = every(here, deed, options.only)
        else:
            done, broken = at_random(
                here.crowd if options.crowds else here.chaos, options.kills, options.seed
            )
    finally:
        here.close()
        shutil.rmtree(here.folder, ignore_errors=True)
    for what, count in sorted(done.items()):
        print(f"{count:6} {deed}: {what}")
    minutes = (time.monotonic() - began) / 60
    print(f"{done.total()} {deed}, {broken} broken promises, {minutes:.1f} minutes")
    return min(broken, 100)


if __name__ == "__main__":
    sys.exit(main())
