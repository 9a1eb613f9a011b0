"""What is deployed is configured by settings that exist and watched by instruments that are declared."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from streams.instruments import declared_names
from streams.settings import load_settings
from streams.triton import probe

DEPLOY = Path(__file__).parents[2] / "deploy"


def documents() -> Iterator[tuple[str, Any]]:
    for path in sorted(DEPLOY.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield path.name, document


def settings_of(part: Any) -> Iterator[tuple[str, Any]]:
    """Yield each HEADRACE_ variable of a document, however it is set; None for a value given elsewhere."""
    if isinstance(part, list):
        for one in part:
            yield from settings_of(one)
    elif isinstance(part, dict):
        if str(part.get("name", "")).startswith("HEADRACE_"):
            yield part["name"], part.get("value")
        for name, value in part.items():
            if name.startswith("HEADRACE_"):
                yield name, value
            else:
                yield from settings_of(value)


def expressions() -> Iterator[str]:
    for group in yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"]
            yield rule["expr"]
    for panel in json.loads((DEPLOY / "dashboard.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def test_every_setting_of_a_manifest_is_one_that_the_roles_know(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name: value for _, document in documents() for name, value in settings_of(document)}
    assert len(found) > 5
    for name, value in found.items():
        if value is not None and "$" not in str(value):
            monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("HEADRACE_HTTP__TOKENS", '{"a-long-secret": ["events", "read"]}')
    monkeypatch.setenv("HEADRACE_HTTP__ADVERTISED", "10.0.0.7:8080")  # which the container finds out when it starts
    load_settings()


def test_triton_begins_with_the_learners_preset_and_follows_the_learners_topic() -> None:
    """Issue 10, E: Triton's preset was a variable of its own; what it follows, a JSON written by hand."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    triton, learner = (services[name]["environment"] for name in ("triton", "learner"))
    for name in ("HEADRACE_LEARNER__PRESET", "HEADRACE_BROKER"):
        assert triton[name] == learner[name]
    assert services["triton"]["healthcheck"]["test"][-1] == probe.__name__


def test_alerts_and_the_dashboard_name_only_declared_instruments() -> None:
    declared = declared_names()
    for expression in expressions():
        names = re.findall(r"headrace_\w+", expression)
        assert names or "up{" in expression, expression
        for name in names:
            family = re.sub(r"_(total|bucket|sum|count)$", "", name)
            assert family in declared, f"{name} in {expression}"


def test_prometheus_asks_where_the_roles_serve_their_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name, value in {**services["learner"]["environment"], **services["worker"]["environment"]}.items():
        monkeypatch.setenv(name, "{}" if "$" in value else value)
    monkeypatch.setenv("HEADRACE_HTTP__TOKENS", '{"a-long-secret": ["events", "read"]}')
    monkeypatch.setenv("HEADRACE_HTTP__ADVERTISED", "10.0.0.7:8080")  # which the container finds out when it starts
    settings = load_settings()
    asked = (DEPLOY / "prometheus.yaml").read_text()
    assert f"{{names: [worker], type: A, port: {settings.worker_metrics_port}}}" in asked
    assert f"learner:{settings.learner_metrics_port}" in asked
    assert settings.metrics_host == "0.0.0.0"  # noqa: S104 - of a container
    for manifest in yaml.safe_load_all((DEPLOY / "kubernetes" / "headrace.yaml").read_text()):
        template = manifest["spec"].get("template") if "spec" in manifest else None
        if template:
            asked = template["metadata"]["annotations"]["prometheus.io/port"]
            ports = {str(port["containerPort"]) for port in template["spec"]["containers"][0]["ports"]}
            assert asked in {*ports} & {str(settings.worker_metrics_port), str(settings.learner_metrics_port), "8002"}


def test_what_compose_mounts_is_there() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    files = [DEPLOY / source for source in mounted if source.startswith("./")]
    assert files
    assert all(file.is_file() for file in files)
