# ruff: noqa: INP001 - Triton loads this file by its path
"""Triton's side of the sequence model: requests in, one forward pass for all of them, answers out.

A python-based backend: version folders hold weights only. HEADRACE_BACKEND, a JSON object, may name `consumer`
(librdkafka's settings) and `topic`: then the model follows the generations on that topic. A request whose parameter
`slot` is `challenger` is answered by the challenger while one is published; the output `challenger` tells.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils

from engine.batch import HistoryBatch, joined
from engine.blending.serving import ServedModel, ServedSlots
from engine.generations import Generation
from engine.weights import CHALLENGER, CHAMPION, load, metadata
from streams.errors import HeadraceError
from streams.followers.weights import WeightsFollower
from streams.triton.memory import drop_library_pages

INPUTS = ("rows", "types", "times", "lengths")
MAX_K = 10_000
MAX_USERS = 1024
"""Of one request: an answer's size is their product, and anybody who reaches the port may ask."""


class TritonPythonModel:
    """One instance of one version."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the version's weights and follow the generations after it."""
        torch.set_num_threads(1)  # the server has as many cores as it has instances
        version = int(args["model_version"])
        file = Path(args["model_repository"]) / str(version) / "model.safetensors"
        on_gpu = args["model_instance_kind"] == "GPU"
        device = f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu"
        generation = int(metadata(file).get("generation", 0))
        self.slots = ServedSlots(ServedModel(load(file), version, generation, device), device)
        if not on_gpu:
            drop_library_pages(("/nvidia/", "libtorch_cuda"))
        settings = json.loads(os.environ.get("HEADRACE_BACKEND", "{}"))
        self.follower = None
        if settings:
            self.follower = WeightsFollower(
                settings["consumer"],
                settings["topic"],
                (CHAMPION, CHALLENGER),
                self._apply,
                drop=self.slots.drop,
                report=self._report,
            )
            self.follower.start()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer all requests of a slot from one pass over the histories of all of them.

        Nothing is answered by a model whose follower has ended: its weights would be served for ever, in good health.
        """
        try:
            if self.follower:
                self.follower.check()
        except HeadraceError as exc:
            return [pb_utils.InferenceResponse(error=pb_utils.TritonError(str(exc))) for _ in requests]
        answers: list[Any] = [None] * len(requests)
        asked: dict[str, list[tuple[int, HistoryBatch, int]]] = {}
        for at, request in enumerate(requests):
            try:
                batch, k = _decode(request)
            except ValueError as exc:
                answers[at] = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(exc)))
            else:
                asked.setdefault(_slot(request), []).append((at, batch, k))
        for slot, some in asked.items():
            answer = self.slots.top_k(joined([batch for _, batch, _ in some]), max(k for _, _, k in some), slot)
            start = 0
            for at, batch, k in some:
                users = slice(start, start := start + len(batch))
                answers[at] = pb_utils.InferenceResponse(
                    [
                        pb_utils.Tensor("item_rows", answer.rows_BK[None, users, :k]),
                        pb_utils.Tensor("scores", answer.scores_BK[None, users, :k]),
                        pb_utils.Tensor("version", np.array([[answer.version]])),
                        pb_utils.Tensor("generation", np.array([[answer.generation]])),
                        pb_utils.Tensor("challenger", np.array([[answer.slot == CHALLENGER]])),
                    ]
                )
        return answers

    def finalize(self) -> None:
        """Stop following."""
        if self.follower:
            self.follower.stop()

    def _apply(self, change: Generation) -> None:
        before = self.slots.champion
        self.slots.apply(change)
        if self.slots.champion is not before:
            self._report(f"Generation {change.generation} is of another config: the model was made anew from it.")

    @staticmethod
    def _report(message: str) -> None:
        pb_utils.Logger.log_warn(message)


def _decode(request: Any) -> tuple[HistoryBatch, int]:  # noqa: ANN401 - Triton ships no types
    """Read one request; ValueError when it contradicts itself or asks for more than is given."""
    rows, types, times, lengths, k = (
        pb_utils.get_input_tensor_by_name(request, name).as_numpy().ravel() for name in (*INPUTS, "k")
    )
    if (lengths < 0).any() or not len(rows) == len(types) == len(times) == lengths.sum():
        raise ValueError("rows, types and times must be as long as lengths add up to")
    if len(lengths) > MAX_USERS or k.size != 1 or not 0 <= k[0] <= MAX_K:
        raise ValueError(f"a request may ask for {MAX_USERS} histories and one k of at most {MAX_K}; send several")
    return HistoryBatch(rows, types, times, lengths), max(1, int(k[0]))  # 0 is what Triton warms up with


def _slot(request: Any) -> str:  # noqa: ANN401 - Triton ships no types
    """Return the slot that is asked for: a parameter, so that a request without one is as it always was."""
    return str(json.loads(request.parameters() or "{}").get("slot", CHAMPION))
