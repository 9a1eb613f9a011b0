"""Training speed and accuracy by CPU time on one core: Headrace beside RecTools' eSASRec, same sequences and sizes.

Dim 64, 1 block, 1 head, length 50, 256 negatives; each user's last item is asked, full ranking, seen items filtered.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.batch import HistoryBatch
from engine.evaluation.fitting import ranks, split
from engine.evaluation.interactions import Interactions
from engine.evaluation.protocols import Fold, folds
from engine.evaluation.sequence_ranker import PRESETS
from engine.metrics import ndcg
from engine.network.model import ModelConfig, SequenceModel
from engine.network.negatives import Negatives
from engine.network.optimisers import OptimiserConfig
from engine.network.training import Trainer, TrainingConfig
from streams.files.data_sets import read

BEAUTY = Path(__file__).parents[3] / "shared" / "data" / "beauty" / "sequences.txt.gz"
TUNED = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(16 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
}
"""glibc maps and unmaps the buffers of each step otherwise: half of RecTools' CPU time."""


def main() -> None:
    """Run both sides, print both curves, write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=BEAUTY, help="a sequence file, a line a user: `user item item …`, oldest first"
    )
    parser.add_argument("--seconds", type=float, default=150, help="CPU seconds of training for each side")
    parser.add_argument("--report", type=Path, help="where the JSON report goes")
    parser.add_argument("--rectools", help="Python with RecTools in it; left out, Headrace runs alone")
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    if not wanted.data.is_file():
        parser.error(
            f"there is no {wanted.data}: give --data a text file (.txt, .txt.gz) with a line a user, "
            "`user item item …`, oldest first, such as Amazon Beauty 5-core"
        )
    if any(os.environ.get(name) != value for name, value in TUNED.items()):
        # ourselves, malloc tuned; as a module, or `http.py` beside this file stands for Python's
        os.execve(sys.executable, [sys.executable, "-m", "tests.bench.train", *sys.argv[1:]], os.environ | TUNED)  # noqa: S606
    torch.set_num_threads(1)
    data = read(wanted.data)
    (fold,) = folds("leave-one-out", data)
    sides = {"headrace": headrace(fold, wanted.seconds, wanted.seed)}
    if wanted.rectools:
        sides["rectools"] = rectools(data, wanted.rectools, wanted.seconds, wanted.seed)
    for side, found in sides.items():
        print(f"{side}: {found['sequences_per_cpu_second']:.0f} sequences a CPU second with 256 negatives")
        print("".join(f"  {seconds:7.1f} s  NDCG@10 {value:.4f}\n" for seconds, value in found["curve"]), end="")
    if wanted.report:
        names = ("sequences_per_cpu_second", "curve")
        report: dict[str, Any] = {name: {side: found[name] for side, found in sides.items()} for name in names}
        report["settings"] = {name: str(value) for name, value in vars(wanted).items()}
        wanted.report.write_text(json.dumps(report, indent=1) + "\n")


def headrace(fold: Fold, seconds: float, seed: int) -> dict[str, Any]:
    """The rate with 256 shared negatives and nothing else, and the curve of the default preset."""
    pieces = split(fold.train, 51)
    config = TrainingConfig(
        loss="sampled_softmax", negatives=Negatives(256, 0, in_batch=False), optimiser=OptimiserConfig()
    )
    trainer = _trainer(fold, ModelConfig(), config, seed)
    _train(trainer, pieces, 128, 40)  # the first steps compile kernels
    begin = time.process_time()
    steps = _train(trainer, pieces, 128, -(-len(pieces) // 128))
    rate = steps * 128 / (time.process_time() - begin)
    return {"sequences_per_cpu_second": rate, "curve": _curve(fold, pieces, seconds, seed)}


def _curve(fold: Fold, pieces: HistoryBatch, seconds: float, seed: int) -> list[list[float]]:
    preset = PRESETS["default"]
    trainer = _trainer(fold, preset.model, preset.training, seed)
    spent, curve = 0.0, []
    while spent < seconds:
        begin = time.process_time()
        _train(trainer, pieces, preset.fit.batch, -(-len(pieces) // preset.fit.batch))
        spent += time.process_time() - begin
        curve.append([spent, float(ndcg(ranks(trainer.model, fold.test), 10).mean())])
    return curve


def _trainer(fold: Fold, model: ModelConfig, training: TrainingConfig, seed: int) -> Trainer:
    initial = torch.Generator()
    initial.manual_seed(seed)
    return Trainer(SequenceModel(model, fold.rows, initial), training, np.random.default_rng(seed))


def _train(trainer: Trainer, pieces: HistoryBatch, size: int, steps: int) -> int:
    order = np.empty(0, np.int64)
    for _ in range(steps):
        if len(order) < size:
            order = trainer.generator.permutation(len(pieces))
        trainer.step(pieces.select(order[:size]))
        order = order[size:]
    return steps


def rectools(data: Interactions, python: str, seconds: float, seed: int) -> dict[str, Any]:
    """The same sequences in RecTools' own environment."""
    histories, _ = data.histories()
    left_T = np.repeat(histories.lengths_B, histories.lengths_B) - histories.positions_T
    held_T = np.select([left_T == 1, left_T == 2], [2, 1], 0)
    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="") as table:
        lines = csv.writer(table)
        lines.writerow(["user", "item", "place", "held"])
        columns = (histories.users_T, histories.rows_T, histories.positions_T, held_T)
        lines.writerows(zip(*(column.tolist() for column in columns), strict=True))
        table.flush()
        script = str(Path(__file__).parent / "peers" / "rectools_side.py")
        done = subprocess.run(  # our own script
            [python, script, table.name, str(seconds), str(seed)], stdout=subprocess.PIPE, check=True, text=True
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
