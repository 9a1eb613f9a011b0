"""Commands that start all roles as processes of their own, and what they leave behind."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil


def begin(folder: Path, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "streams", *arguments],
        env=environment | settings | {"HEADRACE_DATA_DIR": str(folder / "data")},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def mapped_regions(processes: list[psutil.Process]) -> set[str]:
    """Shared memory that these processes hold; others may run beside the test."""
    found = set()
    for process in processes:
        with suppress(psutil.Error):
            found |= {region.path for region in process.memory_maps() if region.path.startswith("/dev/shm/")}  # noqa: S108
    return found


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
