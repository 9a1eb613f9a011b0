"""Whatever happens to a generation, the next one is taken: a follower that ended would leave old weights serving."""

from types import SimpleNamespace

import numpy as np
import pytest

from engine.generations import Generation, encode_generation
from engine.weights import Weights, WeightsError
from streams.followers.weights import WeightsFollower


@pytest.mark.parametrize(
    "failure", [WeightsError("of another shape"), ValueError("could not broadcast"), KeyError("k")]
)
def test_a_generation_that_cannot_be_applied_is_reported_and_the_next_one_is_applied(failure: Exception) -> None:
    applied: list[int] = []
    reported: list[str] = []

    def apply(generation: Generation) -> None:
        if generation.generation == 1:
            raise failure
        applied.append(generation.generation)

    follower = WeightsFollower({}, "weights", ("champion",), apply, report=reported.append)
    weights = Weights({}, {"item_vectors": np.zeros((4, 2), np.float32)}, {})
    for number in (1, 2):
        for offset, (key, value) in enumerate(encode_generation(weights, "champion", number, 1)[0]):
            record = {"key": key.encode(), "value": value, "topic": "weights", "offset": offset}
            follower._take(SimpleNamespace(**{name: lambda found=found: found for name, found in record.items()}))  # type: ignore[arg-type]
    assert (applied, follower.applied, follower.rejected) == ([2], 1, 1)
    assert len(reported) == 1
    assert str(failure) in reported[0]
