"""What a list costs beside the model: microseconds in the event loop, by size of the catalogue and how much is retired.

`python -m tests.bench.lists` prints the median of a few hundred lists of one user with 50 interactions, by the rung
that gives them.
"""

import asyncio
import statistics
import time

import numpy as np
from prometheus_client import CollectorRegistry

from streams.catalogue.catalogue import Catalogue
from streams.followers.neighbours import NeighbourTables
from streams.instruments import WorkerInstruments
from streams.lists.ladder import Ladder
from streams.lists.query import Query
from streams.settings import Settings
from streams.state.entries import Entry
from tests.fakes import FakeScorer

SIZES = ((50_000, 0), (200_000, 0), (200_000, 50_000), (200_000, 100_000), (1_000_000, 0), (1_000_000, 100_000))
"""Items, and how many of the most popular of them are retired."""
NEIGHBOURS = 64
LISTS = 200
SECONDS = 5.0


class Held:
    """Tables of one generation."""

    def __init__(self, items: int) -> None:
        draw = np.random.default_rng(1)
        rows_IK = draw.integers(1, items + 1, (items + 1, NEIGHBOURS), np.int32)
        weights_IK = np.full(rows_IK.shape, 0.5, np.float32)
        popularity_I = np.append(0, np.arange(items, 0, -1)).astype(np.float32)
        self.tables: NeighbourTables | None = NeighbourTables(rows_IK, weights_IK, popularity_I, 9)


def measure(items: int, retired: int) -> dict[str, float]:
    """Return microseconds a list, by rung."""
    catalogue = Catalogue()
    for number in range(1, items + 1):
        catalogue.add_row(f"i{number}")
    for number in range(1, retired + 1):
        catalogue.describe(f"i{number}", None)
    scorer, held = FakeScorer(items + 1), Held(items)
    scorer.generation = 9
    ladder = Ladder(scorer, held, catalogue, Settings(), WorkerInstruments(CollectorRegistry()))
    history = [Entry(f"i{items - number * 7}", 2, 1_000 * number) for number in range(50)]
    found = {"triton": _median(ladder, Query(history, 10), 1.0)}
    found["covisit"] = _median(ladder, Query(history, 10), 0.0)
    found["popular"] = _median(ladder, Query([], 10), 0.0)
    return found


def _median(ladder: Ladder, query: Query, seconds_left: float) -> float:
    async def lists() -> list[float]:
        took = []
        end = time.monotonic() + SECONDS
        while len(took) < LISTS and (time.monotonic() < end or len(took) < 3):
            began = time.perf_counter()
            await ladder.recommend([query], seconds_left)
            took.append((time.perf_counter() - began) * 1e6)
        return took

    return round(statistics.median(asyncio.run(lists())), 1)


def main() -> None:
    """Measure all sizes and print a line for each."""
    for items, retired in SIZES:
        print(f"{items:>9,} items, {retired:>7,} retired:", measure(items, retired), flush=True)


if __name__ == "__main__":
    main()
