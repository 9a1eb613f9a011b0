"""Requests to Triton while generations and a new version arrive: none may fail; `make bench-updates`."""

import argparse
import asyncio
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.batch import HistoryBatch
from engine.blending.scoring import RecommenderModel, ScoringConfig
from engine.network.model import ModelConfig, SequenceModel
from streams.errors import ScorerUnavailableError
from streams.kafka.topic_setup import ensure_topics
from streams.learning.publisher import Publisher
from streams.local.local_broker import LocalBroker
from streams.local.local_triton import LocalTriton
from streams.local.processes import free_port
from streams.settings import Settings
from streams.triton.model_repository import ModelRepository
from streams.triton.scorer import TritonScorer

ITEMS = 4000
CLIENTS = 4
HISTORY = HistoryBatch.of([(range(1, 51), [1] * 50, range(0, 3000, 60))])


async def hammer(address: str, requests: int) -> dict[str, Any]:
    """Ask for a user's list again and again; milliseconds and failures."""
    scorer = TritonScorer(address)
    taken: list[float] = []
    failed = 0
    generations: set[tuple[int, int]] = set()

    async def client() -> None:
        nonlocal failed
        for _ in range(requests // CLIENTS):
            began = time.perf_counter()
            try:
                answer = await scorer.top_k(HISTORY, 128, 10)
                generations.add((answer.version, answer.generation))
            except ScorerUnavailableError:
                failed += 1
            taken.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    await scorer.close()
    p50, p99 = np.percentile(taken, (50, 99))
    found = {"requests": len(taken), "failed": failed, "p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}
    return {**found, "generations": len(generations), "versions": len({version for version, _ in generations})}


def main() -> None:
    """Print what requests took without updates and with them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=50_000, help="of each of the two halves")
    requests = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as name, LocalBroker(Path(name) / "kafka", free_port()) as broker:
        settings = Settings(broker=broker.address, data_dir=Path(name))
        ensure_topics(settings)
        model = SequenceModel(ModelConfig.preset("small"), ITEMS + 1, torch.Generator().manual_seed(0))
        weights = RecommenderModel(model, ScoringConfig()).weights()
        repository, publisher, done = ModelRepository(settings.models_dir), Publisher(settings), threading.Event()
        repository.write_version(weights, 0)

        def update(server: LocalTriton) -> None:
            for generation in range(1, 1_000_000):
                publisher.publish(weights, None, generation, 1, learned={})
                if generation == 2:
                    repository.write_version(weights, generation)
                server.healthy()  # which loads a new version
                if done.wait(1.0):
                    return

        backend = {"consumer": {"bootstrap.servers": broker.address}, "topic": settings.topics.weights}
        with LocalTriton(Path(name) / "triton", repository, free_port(), backend=backend) as server:
            found = {"quiet": asyncio.run(hammer(server.address, requests))}
            updates = threading.Thread(target=update, args=(server,))
            updates.start()
            found["with_updates"] = asyncio.run(hammer(server.address, requests))
            done.set()
            updates.join()
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
