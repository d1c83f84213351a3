"""Runs many drawn histories by both judges: `python -m tests.many_histories 10000 [FIRST_SEED]`."""

import sys
import time
from collections import Counter
from random import Random

from tests.drawn_histories import draw_history
from tests.two_judges import disagreements


def main(histories: int, first_seed: int = 0) -> int:
    started, events, different = time.monotonic(), 0, 0
    for seed in range(first_seed, first_seed + histories):
        random = Random(seed)
        history = draw_history(random)
        events += len(history.events)
        found = disagreements(history, random)
        different += len(found)
        if found:
            print(f"seed {seed}: {Counter(one.when for one in found)}, first {found[0]}")
        if (seed + 1) % 1000 == 0:
            print(f"{seed + 1 - first_seed:,} histories, {different} differences", file=sys.stderr)
    seconds = time.monotonic() - started
    print(f"{histories:,} histories, {events:,} events, {different} differences, {seconds:.0f} s")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
