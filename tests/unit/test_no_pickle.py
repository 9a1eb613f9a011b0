"""Nothing that is read can run code: no pickle is loaded from a file, a topic or a store."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
SOURCES = sorted(path for folder in ("engine", "streams", "model_repo") for path in (ROOT / folder).rglob("*.py"))


def unpicklings(code: str) -> Iterator[str]:
    """Give what a module does that may unpickle."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import(names):
                yield from (name.name for name in names if name.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in MODULES:
                yield module
            case ast.Call(ast.Attribute(ast.Name("torch"), "load")):
                yield "torch.load"
            case ast.Call(ast.Name("Rdict")):
                yield "Rdict, which pickles unless its options are raw: faust opens it with ours"
            case ast.keyword("allow_pickle", ast.Constant(True)):
                yield "allow_pickle"
            case ast.keyword("key_serializer" | "value_serializer" | "serializer", ast.Constant("pickle")):
                yield "a pickling serializer"


def test_no_module_unpickles() -> None:
    assert len(SOURCES) > 90
    assert {path.name: found for path in SOURCES if (found := list(unpicklings(path.read_text())))} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load('x')",
        "np.load('x', allow_pickle=True)",
        "app.topic('x', value_serializer='pickle')",
    ],
)
def test_what_unpickles_is_found(code: str) -> None:
    assert list(unpicklings(code))
