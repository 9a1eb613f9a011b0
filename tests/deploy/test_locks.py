"""Each image has what its role imports: the lock that it is built from is enough, and its versions are the tested ones.

Each case is a Python of its own that finds nothing but what the lock names.
"""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from streams.local.local_triton import BACKEND

REPOSITORY = Path(__file__).parents[2]
LOCKS = ("worker", "learner", "triton")
ONLY = """
import sys

class Only:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in absent else self.finder.find_spec(name, path, target)

absent = set(sys.argv[1].split(","))
sys.meta_path[:] = map(Only, sys.meta_path)
for module in sys.argv[2:]:
    __import__(module)
"""


def pins(lock: Path) -> dict[tuple[str, str], str]:
    """What stands before the hashes: of each name, and the condition under which it counts, the version."""
    lines = re.findall(r"^([\w.-]+)==([^ ;\\]+) *(?:; *([^\\]*?))? *\\?$", lock.read_text(), re.MULTILINE)
    return {(name, condition.strip()): version for name, version, condition in lines}


def of_image(role: str) -> Path:
    return REPOSITORY / "deploy" / f"{role}.lock"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_by_the_backend() -> list[str]:
    nodes = [node for node in ast.walk(ast.parse(BACKEND.read_text())) if isinstance(node, ast.ImportFrom)]
    return [node.module for node in nodes if node.module and node.module.startswith(("engine", "streams"))]


MODULES = {
    "worker": ["streams.worker", "streams.cli.main", "streams.files.replay", "streams.files.validate", "polars",
               "streams.learning.models_admin", "streams.commands.ask", "streams.commands.doctor"],
    "learner": ["streams.learner"],
    "triton": ["streams.triton.container", "streams.triton.probe", *imported_by_the_backend()],
}  # fmt: skip


@pytest.mark.parametrize("role", LOCKS)
def test_an_image_holds_what_its_role_imports(role: str) -> None:
    held = {normal(name) for name, _ in pins(of_image(role))}
    ours = {"streams", "engine", "model_repo"}
    absent = {
        module
        for module, distributions in packages_distributions().items()
        if module not in ours and not held & {normal(name) for name in distributions}
    }
    assert "pytest" in absent
    assert ("torch" in absent) is (role == "worker")
    command = [sys.executable, "-c", ONLY, ",".join(absent), *MODULES[role]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("role", LOCKS)
def test_an_image_has_the_versions_that_the_tests_ran_with(role: str) -> None:
    tested = pins(REPOSITORY / "requirements.lock")
    versions = {name: {found for (of, _), found in tested.items() if of == name} for name, _ in tested}
    found = pins(of_image(role))
    assert len(found) > 10
    assert not {name: version for (name, _), version in found.items() if version not in versions[name]}


@pytest.mark.parametrize("path", [*map(of_image, LOCKS), REPOSITORY / "requirements.lock"], ids=lambda path: path.name)
def test_a_lock_names_no_registry(path: Path) -> None:
    assert "://" not in path.read_text()
