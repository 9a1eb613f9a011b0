"""The command line answers at once, in sentences: no traceback, 2 for a wrong option or setting, 1 for the rest."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from streams.local.processes import free_port

COMMANDS = (
    "demo", "up", "broker", "triton", "worker", "learner", "replay", "validate", "recommend", "history", "topics",
    "doctor", "config", "models", "evaluate",
)  # fmt: skip


def headrace(
    *arguments: str, folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from streams.cli.main import main; main()", *arguments],
        capture_output=True, text=True, check=False, cwd=folder, timeout=60,
        env={"PATH": "", "COLUMNS": "200", "HEADRACE_LOG__LEVEL": "warning", **(environment or {})},
    )  # fmt: skip


def test_help_names_every_command_and_version_prints_one(tmp_path: Path) -> None:
    shown = headrace("--help", folder=tmp_path)
    assert shown.returncode == 0
    assert not [command for command in COMMANDS if command not in shown.stdout]
    assert headrace("--version", folder=tmp_path).stdout.strip().count(".") == 2


def test_help_imports_none_of_the_heavy_libraries() -> None:
    heavy = ("torch", "faust", "confluent_kafka", "polars", "pydantic", "httpx", "fastapi")
    code = f"import sys, streams.cli.main; print([name for name in {heavy!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str, tmp_path: Path) -> None:
    shown = headrace(command, "--help", folder=tmp_path)
    assert shown.returncode == 0
    assert "Usage" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (("config",), {"HEADRACE_COLOUR": "red"}, "HEADRACE_COLOUR is unknown"),
        (("config",), {"HEADRACE_HTTP__PORT": "tall"}, "HEADRACE_HTTP__PORT is wrong"),
        (("replay",), {}, "FILE or --topic"),
        (("replay", "x.csv", "--speed", "fast"), {}, "--speed fast is no speed"),
        (("replay", "x.csv", "--from", "soon"), {}, "--from soon is no time"),
        (("validate", "x.csv", "--columns", "who=x"), {}, "is no field=column"),
        (("broker",), {"HEADRACE_BROKER": "kafka.example.org:9092"}, "127.0.0.1:PORT"),
    ],
)
def test_a_wrong_option_or_setting_ends_with_2_and_a_sentence_that_names_it(
    arguments: tuple[str, ...], environment: dict[str, str], says: str, tmp_path: Path
) -> None:
    done = headrace(*arguments, folder=tmp_path, environment=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("validate", "nowhere.csv"), "There is no file nowhere.csv"),
        (("recommend", "u1"), "No worker answers"),
        (("topics",), "does not answer"),
        (("replay", "online-retail"), "does not answer"),
        (("models", "log"), "does not answer"),
    ],
)
def test_what_is_not_there_ends_with_1_and_what_to_do(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    nobody = {"HEADRACE_BROKER": f"127.0.0.1:{free_port()}", "HEADRACE_HTTP__PORT": str(free_port())}
    done = headrace(*arguments, folder=tmp_path, environment=nobody)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_up_refuses_a_named_kafka_that_does_not_answer_before_it_starts_anything(tmp_path: Path) -> None:
    done = headrace("up", folder=tmp_path, environment={"HEADRACE_BROKER": f"127.0.0.2:{free_port()}"})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "correct HEADRACE_BROKER" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "completed"),
    [("headrace mod", "models"), ("headrace models pr", "promote"), ("headrace up --", "--help")],
)
def test_the_shell_completes_commands_their_commands_and_options(words: str, completed: str, tmp_path: Path) -> None:
    asked = {"_HEADRACE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [Path(sys.executable).with_name("headrace")]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=asked, cwd=tmp_path)
    assert found.stdout.split() == [completed]


@pytest.mark.parametrize("command", ["up", "triton", "broker"])
def test_a_folder_that_cannot_be_made_ends_with_1_and_is_named(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ports = {name: f"127.0.0.1:{free_port()}" for name in ("HEADRACE_BROKER", "HEADRACE_TRITON__URL")}
    done = headrace(command, folder=tmp_path, environment={**ports, "HEADRACE_DATA_DIR": "file/data"})
    assert done.returncode == 1
    assert "file/data" in done.stderr
    assert done.stderr.count("\n") == 1


def test_config_masks_secrets_and_marks_what_was_changed(tmp_path: Path) -> None:
    environment = {
        "HEADRACE_PSEUDONYM_KEY": "hush",
        "HEADRACE_HTTP__TOKENS": '{"sesame": ["read"]}',
        "HEADRACE_SERVING__K": "5",
    }
    shown = headrace("config", folder=tmp_path, environment=environment).stdout
    assert "HEADRACE_SERVING__K=5  # changed" in shown
    assert "HEADRACE_BROKER=127.0.0.1:9092\n" in shown
    assert "hush" not in shown
    assert "sesame" not in shown
    assert json.loads(headrace("config", "--json", folder=tmp_path).stdout)["serving"]["k"] == 10
