"""Issue 10, E: `make` on a machine without Python 3.11 or 3.12 says so in a sentence, not in the shell's words."""

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MAKE = shutil.which("make")

pytestmark = pytest.mark.skipif(not MAKE, reason="no make here")


def made(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `make install` in a clone whose PATH holds a shell, the tools of a recipe, and nothing else."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, folder)
    path = folder / "bin"
    path.mkdir()
    for name in ("sh", "test"):
        (path / name).symlink_to(shutil.which(name) or "")
    for name, content in variables.items():
        (path / name).write_text(content)
        (path / name).chmod(0o755)
    return subprocess.run(
        [str(MAKE), "-C", str(folder), "install"],
        capture_output=True, text=True, check=False, env={"PATH": str(path)},
    )  # fmt: skip


def test_no_python_at_all(tmp_path: Path) -> None:
    done = made(tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "Headrace needs Python 3.11 or 3.12 (found: none); install one, or name it: make PYTHON=/path/to/python3.12"
    )


def test_a_python_that_is_too_new_or_too_old(tmp_path: Path) -> None:
    done = made(tmp_path, python3="#!/bin/sh\nexit 1\n")
    assert done.stderr.startswith("Headrace needs Python 3.11 or 3.12 (found: python3); install")
    assert not (tmp_path / ".venv").exists()
