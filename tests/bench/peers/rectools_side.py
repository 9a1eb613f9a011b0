"""RecTools' eSASRec on the same sequences: runs in an environment of its own, prints one JSON line.

Usage: rectools_side.py SEQUENCES.csv SECONDS SEED.
The table has a line an interaction: user, item, place, held (0 train, 1 validation, 2 test).
"""

import json
import math
import sys
import time
import warnings

import pandas as pd
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.ligr import LiGRLayers

warnings.filterwarnings("ignore")
CUTOFF = 10


def main(path: str, seconds: float, seed: int) -> None:
    """Train epoch by epoch until the CPU seconds are used up; the checks between are not counted."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    table = pd.read_csv(path)
    table[Columns.Weight] = 1.0
    table[Columns.Datetime] = pd.Timestamp("2020-01-01") + pd.to_timedelta(table.pop("place"), unit="s")
    names = {"user": Columns.User, "item": Columns.Item}
    train = table[table.held == 0].rename(columns=names).drop(columns="held")
    known = table[table.held < 2].rename(columns=names).drop(columns="held")  # 2 is the test item
    answers = table[table.held == 2].set_index("user").item
    model = SASRecModel(
        n_factors=64, n_blocks=1, n_heads=1, session_max_len=50, dropout_rate=0.2, lr=1e-3, batch_size=128,
        loss="sampled_softmax", n_negatives=256, transformer_layers_type=LiGRLayers, epochs=1, verbose=0,
        dataloader_num_workers=0, recommend_torch_device="cpu",
    )  # fmt: skip
    train_set, known_set = Dataset.construct(train), Dataset.construct(known)
    spent, epochs, curve = 0.0, 0, []
    while spent < seconds:
        begin = time.process_time()
        model.fit_partial(train_set, min_epochs=1, max_epochs=1)
        spent, epochs = spent + time.process_time() - begin, epochs + 1
        lists = model.recommend(answers.index.to_numpy(), known_set, k=CUTOFF, filter_viewed=True)
        hits = lists[lists[Columns.Item].to_numpy() == answers.loc[lists[Columns.User]].to_numpy()]
        curve.append([spent, sum(1 / math.log2(rank + 1) for rank in hits[Columns.Rank]) / len(answers)])
    print(json.dumps({"sequences_per_cpu_second": epochs * train[Columns.User].nunique() / spent, "curve": curve}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
