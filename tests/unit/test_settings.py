"""A setting that is unknown, malformed or contradicts another stops the start and is named; a secret is never shown."""

from pathlib import Path
from typing import get_args

import pytest

from engine.network.model import PRESETS
from streams.errors import SettingsError
from streams.settings import LearnerSettings, describe, load_settings

ANY_TOKEN = '{"a-long-secret": ["read"]}'  # noqa: S105 - made up
SECRET = "do-not-show"  # noqa: S105 - made up


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def refused(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["HEADRACE_COLOUR", "HEADRACE_SERVING__COLOUR", "HEADRACE_SERVING_K", "HEADRACE_STATE__HISTORY__LENGTH"],
)
def test_an_unknown_setting_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert name in refused(monkeypatch, **{name: "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEADRACE_HTTP__PORT", "99999"),
        ("HEADRACE_STATE__IDLE_DAYS", "0"),
        ("HEADRACE_IMPRESSIONS__PENDING", "many"),
        ("HEADRACE_LOG__LEVEL", "loud"),
        ("HEADRACE_PREFIX", "no spaces"),
        ("HEADRACE_KAFKA__SSL_CAFILE", "nowhere.pem"),
        ("HEADRACE_WORKER_ID", "../elsewhere"),
        ("HEADRACE_LEARNER__PRESET", "huge"),
        ("HEADRACE_BROKER", "kafka"),
        ("HEADRACE_BROKER", "kafka:9092,other"),
        ("HEADRACE_TRITON__URL", "http://triton:8001"),
        ("HEADRACE_TRITON__URL", "triton:8001,triton-2:8001"),
        ("HEADRACE_BROKER", "kafka:99999"),
        ("HEADRACE_BROKER", "kafka:0"),
        ("HEADRACE_HTTP__ADVERTISED", "worker-1"),
        ("HEADRACE_KAFKA__SESSION_TIMEOUT_SECONDS", "0.1"),
        ("HEADRACE_LEARNER__GENERATION_SECONDS", "inf"),
    ],
)
def test_a_malformed_setting_is_named_with_what_was_given(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    said = refused(monkeypatch, **{name: value})
    assert name in said
    assert value in said


def test_an_empty_folder_is_not_the_one_the_user_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, HEADRACE_DATA_DIR="") == "Setting HEADRACE_DATA_DIR is wrong: name a folder (got '')."


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"HEADRACE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL"}, "HEADRACE_KAFKA__SASL_MECHANISM"),
        ({"HEADRACE_HTTP__HOST": "0.0.0.0"}, "HEADRACE_HTTP__TOKENS"),  # noqa: S104 - it is refused
        ({"HEADRACE_HTTP__HOST": "0.0.0.0", "HEADRACE_HTTP__TOKENS": ANY_TOKEN}, "HEADRACE_HTTP__ADVERTISED"),  # noqa: S104
        ({"HEADRACE_HTTP__HOST": "::", "HEADRACE_HTTP__TOKENS": ANY_TOKEN}, "HEADRACE_HTTP__ADVERTISED"),
        ({"HEADRACE_HTTP__HOST": "", "HEADRACE_HTTP__TOKENS": ANY_TOKEN}, "HEADRACE_HTTP__ADVERTISED"),
        ({"HEADRACE_SERVING__K": "20", "HEADRACE_TRITON__CANDIDATES": "10"}, "HEADRACE_TRITON__CANDIDATES"),
        ({"HEADRACE_TRITON__TLS_KEYFILE": "k.pem"}, "HEADRACE_TRITON__TLS_CERTFILE"),
        ({"HEADRACE_TRITON__TLS_CERTFILE": "c", "HEADRACE_TRITON__TLS_KEYFILE": "k"}, "HEADRACE_TRITON__TLS_CAFILE"),
        ({"HEADRACE_CONFIG": "nowhere.toml"}, "HEADRACE_CONFIG"),
    ],
)
def test_a_contradiction_is_refused_with_what_to_set(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], named: str
) -> None:
    assert named in refused(monkeypatch, **environment)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"KAFKA__SSL_CAFILE": "text"}, "KAFKA__SSL_CAFILE"),
        ({"KAFKA__SSL_CERTFILE": "text"}, "KAFKA__SSL_CERTFILE"),
        ({"TRITON__TLS_CAFILE": "nowhere"}, "TRITON__TLS_CAFILE"),
        ({"HTTP__TLS_CERTFILE": "text", "HTTP__TLS_KEYFILE": "text"}, "HTTP__TLS_CERTFILE"),
        ({"HTTP__TLS_KEYFILE": "text"}, "HTTP__TLS_CERTFILE"),
    ],
)
def test_a_file_that_is_no_certificate_is_refused_by_its_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, str], named: str
) -> None:
    (tmp_path / "text").write_text("no certificate")
    assert f"HEADRACE_{named}" in refused(monkeypatch, **{f"HEADRACE_{name}": file for name, file in settings.items()})


def test_the_environment_goes_before_the_file_and_the_file_before_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "headrace.toml").write_text("broker = 'file:1'\n[serving]\nk = 20\nfilter_seen = true\n")
    monkeypatch.setenv("HEADRACE_SERVING__K", "30")
    settings = load_settings()
    assert (settings.broker, settings.serving.k, settings.serving.filter_seen) == ("file:1", 30, "seen")
    assert settings.serving.deadline_ms == 100


def test_an_unknown_name_in_the_file_is_refused_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text("[serving]\ncolour = 'red'\n")
    assert "HEADRACE_SERVING__COLOUR" in refused(monkeypatch)


def test_a_file_that_is_no_toml_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("broker = ")
    assert "mine.toml cannot be read" in refused(monkeypatch, HEADRACE_CONFIG="mine.toml")


@pytest.mark.parametrize("name", ["HEADRACE_HTTP__TOKENS", "HEADRACE_KAFKA"])
def test_what_is_no_json_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    said = refused(monkeypatch, **{name: f'{{"{SECRET}"'})
    assert f"{name} is wrong" in said
    assert SECRET not in said


def test_every_size_of_the_model_may_be_set() -> None:
    assert get_args(LearnerSettings.model_fields["preset"].annotation) == tuple(PRESETS)


def test_no_secret_is_shown_in_what_is_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAFKA__SASL_PASSWORD", "TRITON__CONTROL_TOKEN", "PSEUDONYM_KEY"):
        monkeypatch.setenv(f"HEADRACE_{name}", SECRET)
    monkeypatch.setenv("HEADRACE_HTTP__TOKENS", f'{{"{SECRET}": ["read"]}}')
    settings = load_settings()
    assert SECRET not in str(describe(settings))
    assert SECRET not in repr(settings)


@pytest.mark.parametrize("scopes", ['["everything"]', "1", "[]"])
def test_a_token_is_not_shown_when_its_scopes_are_refused(monkeypatch: pytest.MonkeyPatch, scopes: str) -> None:
    said = refused(monkeypatch, HEADRACE_HTTP__TOKENS=f'{{"{SECRET}": {scopes}}}')
    assert "HEADRACE_HTTP__TOKENS is wrong" in said
    assert SECRET not in said.lower()


def test_a_password_is_not_shown_when_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text("[kafka]\nsasl_password = 90210\n")
    said = refused(monkeypatch)
    assert "HEADRACE_KAFKA__SASL_PASSWORD" in said
    assert "90210" not in said
