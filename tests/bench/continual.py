"""Methods of continual learning on the first periods of a folder, all from one first fit; `make bench-continual`.

Each method takes in the same periods and is asked the same cases, full ranking over all items seen so far, seen items
not filtered. Printed and written after each method: what is stopped has lost nothing.
"""

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.continual.measures import summary
from engine.evaluation.fitting import Clock, ranks
from engine.evaluation.protocols import Fold, folds
from engine.evaluation.sequence_ranker import PRESETS, SequenceRanker, with_method
from engine.metrics import mrr, recall
from streams.files.data_sets import read

NOTHING = "no update"
METHODS = (
    NOTHING,
    "finetune",
    "finetune+replay",
    "finetune+dropout+replay",
    "finetune+herding+distillation",
    "finetune+ewc+replay",
    "rows+replay",
    "top+replay",
    "lora+replay",
    "adalora+replay",
    "adapter+replay",
)
COLUMNS = ("recall@20", "mrr@20", "older", "forgetting", "plasticity", "seconds", "parameters_changed")


@dataclass(frozen=True)
class Limits:
    """How small the run is."""

    folds: int = 2
    """The first is fitted to the end, the others are updates."""
    cases: int = 2000
    """Of each period, drawn at random."""
    seconds: float = 200.0
    """CPU time of the first fit at most."""
    seed: int = 0


def compare(data: Path, methods: Sequence[str], limits: Limits, clock: Clock, report: Path | None) -> dict[str, Any]:
    """Runs the methods one after another.

    Args:
        data: A folder of periods.
        methods: Names that `Method.of` knows, and NOTHING.
        limits: Of the run.
        clock: CPU seconds.
        report: Written after each method.

    Returns:
        `methods.NAME`: means over the updates, and `updates` one by one; `first`: what all begin with; `settings`.
    """
    taken = [_asked(fold, limits) for fold in itertools.islice(folds("continual", read(data)), limits.folds)]
    preset = PRESETS["default"]
    preset = replace(preset, fit=replace(preset.fit, seconds=limits.seconds))
    base = SequenceRanker(preset, limits.seed, clock)
    base.fit(taken[0])
    first = _accuracy(base, taken[0]) | {"seconds": base.curve[-1].seconds}
    found: dict[str, Any] = {"first": first, "methods": {}, "settings": {"data": data.name, **vars(limits)}}
    print(f"first fit, {taken[0].name}: Recall@20 {first['recall@20']:.4f}, MRR@20 {first['mrr@20']:.4f}\n")
    print(f"| method | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for name in methods:
        found["methods"][name] = figures = _run(base, name, taken[1:])
        cells = (f"{figures[column]:.4g}" for column in COLUMNS)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        if report:
            report.write_text(json.dumps(found, indent=1) + "\n")
    return found


def _asked(fold: Fold, limits: Limits) -> Fold:
    drawn = np.random.default_rng(limits.seed).permutation(len(fold.test))[: limits.cases]
    return replace(fold, test=fold.test.part(np.sort(drawn)))


def _run(base: SequenceRanker, name: str, updates: Sequence[Fold]) -> dict[str, Any]:
    preset = with_method(base.preset, "finetune" if name == NOTHING else name)
    if name == NOTHING:
        preset = replace(preset, update=replace(preset.update, epochs=0))
    ranker = base.branch(preset)
    accuracies = []
    for fold in updates:
        ranker.fit(fold)
        accuracies.append(_accuracy(ranker, fold))
    means = {column: float(np.mean([each[column] for each in accuracies])) for column in accuracies[0]}
    return means | summary(ranker.updates) | {"updates": [vars(each) for each in ranker.updates]}


def _accuracy(ranker: SequenceRanker, fold: Fold) -> dict[str, float]:
    """On all of the fold's cases; what is reported with an update is on a sample of them."""
    ranks_B = ranks(ranker.model, fold.test, filter_seen=False)
    return {"recall@20": float(recall(ranks_B, 20).mean()), "mrr@20": float(mrr(ranks_B, 20).mean())}


def main() -> None:
    """Print the table, write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of periods: files with lines `session item`")
    parser.add_argument("--report", type=Path, help="where the JSON report goes")
    parser.add_argument("--methods", default=",".join(METHODS), help="by comma")
    parser.add_argument("--folds", type=int, default=Limits.folds, help="one for the first fit, the others are updates")
    parser.add_argument("--cases", type=int, default=Limits.cases, help="test cases of each period")
    parser.add_argument("--seconds", type=float, default=Limits.seconds, help="CPU seconds of the first fit")
    parser.add_argument("--seed", type=int, default=Limits.seed)
    wanted = parser.parse_args()
    if not wanted.data.is_dir():
        parser.error(f"there is no folder {wanted.data}: give --data one with a file a period, lines `session item`")
    if wanted.folds < 2:
        parser.error("--folds is at least 2: one for the first fit, one for an update")
    torch.set_num_threads(1)
    limits = Limits(wanted.folds, wanted.cases, wanted.seconds, wanted.seed)
    compare(wanted.data, wanted.methods.split(","), limits, time.process_time, wanted.report)


if __name__ == "__main__":
    main()
