"""histories -> proposals: ask Triton for the best rows, in time or not at all."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import grpc
import numpy as np
import tritonclient.grpc.aio as triton
from numpy.typing import NDArray
from tritonclient.grpc import InferInput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from engine.batch import HistoryBatch
from engine.weights import CHALLENGER, CHAMPION
from streams.errors import ScorerUnavailableError
from streams.triton.model_repository import MODEL

_LARGEST_BYTES: Final = 64 * 2**20


@dataclass(frozen=True)
class Proposals:
    """What the model proposes for the users of a batch."""

    rows_BK: NDArray[np.int32]
    """Best first; 0 is no item."""
    scores_BK: NDArray[np.float32]
    version: int
    generation: int
    slot: str = CHAMPION
    """Which model answered."""


class TritonScorer:
    """A Scorer on a Triton server; to be made, used and closed in one event loop.

    Args:
        url: host:port of gRPC.
        batch_users: users a request at most; larger batches are cut and their parts asked for at once.
        credentials: of TLS; plain text without.
    """

    def __init__(self, url: str, batch_users: int = 32, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._client = triton.InferenceServerClient(url, creds=credentials, channel_args=channel_options())
        self._url = url
        self._batch_users = batch_users

    async def top_k(self, batch: HistoryBatch, k: int, timeout_seconds: float, slot: str = CHAMPION) -> Proposals:
        """Return the k best rows of each history.

        Raises:
            ScorerUnavailableError: the server is dead, late or fails.
        """
        starts = range(0, len(batch), self._batch_users)
        parts = [batch.select(np.arange(start, min(start + self._batch_users, len(batch)))) for start in starts]
        try:
            async with asyncio.timeout(timeout_seconds):
                answers = await asyncio.gather(
                    *(self._ask(part, k, timeout_seconds, slot) for part in parts or [batch])
                )
        except (InferenceServerException, TimeoutError) as exc:
            raise ScorerUnavailableError(
                f"Triton at {self._url} gives no answer: {str(exc) or 'too late'}.", gone=_is_gone(exc)
            ) from exc
        # A generation may have come between two parts: the older one is what all of them have at least.
        return Proposals(
            np.concatenate([answer.rows_BK for answer in answers]),
            np.concatenate([answer.scores_BK for answer in answers]),
            min(answer.version for answer in answers),
            min(answer.generation for answer in answers),
            max(answer.slot for answer in answers),  # the champion, as soon as one part is of it
        )

    async def close(self) -> None:
        """Let go of the connection."""
        await self._client.close()

    async def _ask(self, batch: HistoryBatch, k: int, timeout_seconds: float, slot: str) -> Proposals:
        request = inputs(batch.rows_T, batch.types_T, batch.times_T, batch.lengths_B, k)
        parameters = {"slot": slot} if slot != CHAMPION else None
        answer = await self._client.infer(MODEL, request, client_timeout=timeout_seconds, parameters=parameters)
        challenger = answer.as_numpy("challenger")
        return Proposals(
            answer.as_numpy("item_rows")[0],
            answer.as_numpy("scores")[0],
            int(answer.as_numpy("version").item()),
            int(answer.as_numpy("generation").item()),
            CHALLENGER if challenger is not None and challenger.item() else CHAMPION,
        )


def inputs(
    rows_T: NDArray[np.int32],
    types_T: NDArray[np.uint8],
    times_T: NDArray[np.int64],
    lengths_B: NDArray[np.int32],
    k: int,
) -> list[InferInput]:
    """Return the tensors of one request; the histories of all its users lie one after another."""
    return [
        _tensor("rows", rows_T),
        _tensor("types", types_T),
        _tensor("times", times_T),
        _tensor("lengths", lengths_B),
        _tensor("k", np.array([k], np.int32)),
    ]


def channel_options() -> list[tuple[str, int]]:
    """Return gRPC options under which a server that comes back is found in 0.15 s; by default it took 27."""
    return [
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.max_send_message_length", _LARGEST_BYTES),
        ("grpc.max_receive_message_length", _LARGEST_BYTES),
        ("grpc.enable_http_proxy", 0),
    ]


def _is_gone(exc: Exception) -> bool:
    """Whether there is no connection; a server that refuses one request, or is late with it, may answer the next."""
    return isinstance(exc, InferenceServerException) and exc.status() == "StatusCode.UNAVAILABLE"


def _tensor(name: str, values: NDArray[Any]) -> InferInput:
    tensor = InferInput(name, [1, len(values)], np_to_triton_dtype(values.dtype))
    tensor.set_data_from_numpy(values[None])
    return tensor
