"""Decode malformed records of every topic by the million: `make fuzz ARGS="--events 1000000 --seed 1"`.

Each must be a record that whoever reads the topic can hold, or a rejection with a known reason. The first that is
neither is printed with its bytes, and the exit code is 1.
"""

import argparse
import random
import sys
import time
from collections import Counter

from tests.property.decoding import TOPICS, outcome
from tests.property.events import malformed


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng, outcomes, began = random.Random(arguments.seed), Counter[str](), time.monotonic()
    for number in range(arguments.events):
        topic = TOPICS[number % len(TOPICS)]
        value = malformed(topic, rng)
        try:
            outcomes[f"{topic}: {outcome(topic, value)}"] += 1
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is what we look for
            print(f"event {number} of {topic}: {exc!r}\n{value!r}")  # noqa: T201
            return 1
    for name, count in sorted(outcomes.items()):
        print(f"{name:36}{count:>12,}")  # noqa: T201
    print(f"{arguments.events:,} events in {time.monotonic() - began:.0f} s, seed {arguments.seed}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
