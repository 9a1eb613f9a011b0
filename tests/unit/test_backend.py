"""Triton's backend answers nobody with weights that nobody follows any more (A.7)."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from streams.errors import StartError
from streams.local.local_triton import BACKEND


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Any:
    utils = ModuleType("triton_python_backend_utils")
    utils.InferenceResponse = lambda error: error  # type: ignore[attr-defined]
    utils.TritonError = str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, utils.__name__, utils)
    spec = spec_from_file_location("backend", BACKEND)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_model_whose_follower_is_dead_refuses_every_request(backend: Any) -> None:
    def check() -> None:
        raise StartError("The thread that follows weights has ended.")

    model = backend.TritonPythonModel()
    model.follower = SimpleNamespace(check=check)
    assert model.execute([object(), object()]) == ["The thread that follows weights has ended."] * 2
