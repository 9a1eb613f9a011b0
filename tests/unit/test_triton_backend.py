"""Triton's backend refuses, in a sentence and for that request alone, what costs more than an answer is worth."""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from streams.errors import StartError
from streams.settings import TritonSettings
from streams.triton import model_repository

BACKEND = Path(model_repository.__file__).parents[2] / "model_repo" / "backends" / "headrace" / "model.py"


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The backend's module as Triton loads it, with a request that is a dictionary."""
    tensor = lambda request, name: SimpleNamespace(as_numpy=lambda: request[name])  # noqa: E731
    utilities = ModuleType("triton_python_backend_utils")
    monkeypatch.setattr(utilities, "get_input_tensor_by_name", tensor, raising=False)
    monkeypatch.setitem(sys.modules, utilities.__name__, utilities)
    found = importlib.util.spec_from_file_location("headrace_backend", BACKEND)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def request(k: list[int], users: int = 1, **more: Any) -> Mapping[str, Any]:
    """A request of users without a past."""
    empty = np.zeros(0, np.int32)
    asked = {"rows": empty, "types": empty, "times": empty, "lengths": np.zeros((1, users), np.int32), **more}
    return {**asked, "k": np.array([k], np.int32)}


def test_a_request_within_the_bounds_is_read(backend: Any) -> None:
    batch, k = backend._decode(request([backend.MAX_K], backend.MAX_USERS))
    assert (len(batch), k) == (backend.MAX_USERS, backend.MAX_K)
    assert backend._decode(request([0]))[1] == 1  # Triton warms up with zeros


@pytest.mark.parametrize(
    ("k", "users"), [([20_000_000], 1), ([10_001], 1), ([-1], 1), ([], 1), ([1, 2], 1), ([1], 1025)]
)
def test_a_request_for_too_much_is_refused(backend: Any, k: list[int], users: int) -> None:
    """Issue 10, D: a k of 20 million gave an answer of 160 MB."""
    with pytest.raises(ValueError, match="1024 histories and one k of at most 10000"):
        backend._decode(request(k, users))


def test_lengths_that_contradict_the_rows_are_refused(backend: Any) -> None:
    with pytest.raises(ValueError, match="as long as lengths add up to"):
        backend._decode(request([1], rows=np.ones(2, np.int32)))


def test_no_setting_asks_for_more_than_the_backend_gives(backend: Any) -> None:
    fields = TritonSettings.model_fields
    bounds = [fields[name].metadata[1].le for name in ("candidates", "batch_users")]
    assert bounds == [backend.MAX_K, backend.MAX_USERS]


def test_a_model_whose_follower_is_dead_refuses_every_request(backend: Any) -> None:
    """Issue 10, A.7: it would serve the weights of that moment for ever, in good health."""

    def check() -> None:
        raise StartError("The thread that follows weights has ended.")

    backend.pb_utils.InferenceResponse = lambda error: error
    backend.pb_utils.TritonError = str
    model = backend.TritonPythonModel()
    model.follower = SimpleNamespace(check=check)
    assert model.execute([request([1]), request([1])]) == ["The thread that follows weights has ended."] * 2
