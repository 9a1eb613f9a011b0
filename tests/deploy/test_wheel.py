"""What the code reads beside itself is installed with it: `pip install 'headrace[local]'` brings Triton's backend too.

Issue 10, E, a sibling: the backend lay outside every package, so that `headrace up` ran from a clone only.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from streams.files.event_files import SHOP, open_events
from streams.local.kafka_jars import LOCK
from streams.local.local_triton import BACKEND

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[frozenset[str]]:
    """The files of the wheel, built of a copy: a build leaves folders behind."""
    copy = tmp_path_factory.mktemp("copy") / "headrace"
    wanted = [REPOSITORY / name for name in ("engine", "streams", "model_repo", "pyproject.toml", "README.md")]
    copy.mkdir()
    for path in wanted:
        if path.is_dir():
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, copy)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, check=True)
    with ZipFile(copy / done.stdout.splitlines()[-1]) as wheel:
        yield frozenset(wheel.namelist())


@pytest.mark.parametrize("path", [BACKEND, LOCK, open_events(SHOP)[0]], ids=lambda path: path.name)
def test_a_file_that_is_read_beside_the_code_is_in_the_wheel(installed: frozenset[str], path: Path) -> None:
    assert path.is_file()
    assert str(path.relative_to(REPOSITORY)) in installed


def test_the_tests_are_not(installed: frozenset[str]) -> None:
    assert not [name for name in installed if name.startswith("tests")]
