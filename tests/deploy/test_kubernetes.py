"""The pods of the manifests start: their environment is accepted, their volumes are writable, their probes ask.

Issue 10, E: Kubernetes makes HEADRACE_WORKER_SERVICE_HOST and more of a Service `headrace-worker`: no pod started.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from streams.errors import SettingsError
from streams.settings import load_settings
from streams.triton import probe

DEPLOY = Path(__file__).parents[2] / "deploy"
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "headrace.yaml").read_text()))
SECRETS = {
    "headrace-worker": {"HEADRACE_HTTP__TOKENS": '{"a-long-secret": ["events", "read"]}'},
    "headrace-kafka": {"HEADRACE_KAFKA__SASL_USERNAME": "ann", "HEADRACE_KAFKA__SASL_PASSWORD": "p"},
    "headrace-triton": {"HEADRACE_TRITON__CONTROL_TOKEN": "t"},
}
OTHERS = [("headrace", 80), ("headrace-http", 8080), ("headrace-learner", 9102), ("headrace-kafka-bootstrap", 9092)]
"""Services that other manifests might bring into the namespace."""


def of_kind(kind: str) -> list[Any]:
    return [document for document in MANIFESTS if document["kind"] == kind]


PODS = {
    manifest["metadata"]["name"]: manifest["spec"]["template"]["spec"]
    for manifest in (*of_kind("StatefulSet"), *of_kind("Deployment"))
}


def links(service: str, *ports: tuple[str | None, int]) -> Iterator[tuple[str, str]]:
    """What the kubelet puts into each pod of the namespace for a Service that has an address (package `envvars`)."""
    name, address = service.upper().replace("-", "_"), "10.0.0.1"
    yield f"{name}_SERVICE_HOST", address
    yield f"{name}_SERVICE_PORT", str(ports[0][1])
    for port_name, port in ports:
        if port_name:
            yield f"{name}_SERVICE_PORT_{port_name.upper().replace('-', '_')}", str(port)
    yield f"{name}_PORT", f"tcp://{address}:{ports[0][1]}"
    for _, port in ports:
        stem = f"{name}_PORT_{port}_TCP"
        yield stem, f"tcp://{address}:{port}"
        yield from {f"{stem}_PROTO": "tcp", f"{stem}_PORT": str(port), f"{stem}_ADDR": address}.items()


def injected() -> dict[str, str]:
    found = dict(link for service, port in OTHERS for link in links(service, (None, port)))
    for service in of_kind("Service"):
        if service["spec"].get("clusterIP") != "None":
            ports = [(port.get("name"), port["port"]) for port in service["spec"]["ports"]]
            found |= links(service["metadata"]["name"], *ports)
    return found


def environment(pod: str) -> dict[str, str]:
    """The variables of a pod, its secrets made up."""
    [container] = PODS[pod]["containers"]
    maps = {document["metadata"]["name"]: document["data"] for document in of_kind("ConfigMap")}
    found: dict[str, str] = {}
    for source in container["envFrom"]:
        [(kind, of)] = source.items()
        found |= (maps if kind == "configMapRef" else SECRETS)[of["name"]]
    for variable in container.get("env", ()):
        value = variable.get("value", f"{pod}-0")
        found[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], value)
    return found


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_takes_its_environment_with_and_without_what_kubernetes_makes_of_the_services(
    pod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PODS[pod]["enableServiceLinks"] is False
    for name, value in environment(pod).items():
        monkeypatch.setenv(name, value)
    without = load_settings()
    assert "HEADRACE_WORKER_PORT" in injected()
    for name, value in injected().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == without


def test_a_name_like_those_that_belongs_to_no_service_is_refused_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HTTP_PORT", "8081")
    with pytest.raises(SettingsError, match="HEADRACE_HTTP_PORT is unknown"):
        load_settings()


def test_a_service_whose_name_makes_a_setting_is_named_as_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in links("headrace-learner-metrics", (None, 9102)):
        monkeypatch.setenv(name, value)
    with pytest.raises(
        SettingsError, match=r"HEADRACE_LEARNER_METRICS_PORT is what Kubernetes makes .* enableServiceL"
    ):
        load_settings()


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_may_write_its_volumes(pod: str) -> None:
    """A volume belongs to root, and the process does not."""
    security = PODS[pod]["securityContext"]
    image = DEPLOY / ("triton.Dockerfile" if "triton" in pod else "Dockerfile")
    assert f"USER {security['runAsUser']}" in image.read_text()
    assert security["runAsNonRoot"]
    assert security["fsGroup"] == security["runAsUser"]
    [container] = PODS[pod]["containers"]
    assert "/data" in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert "VOLUME /data" in image.read_text()


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_is_given_time_to_start_and_is_restarted_when_it_hangs(pod: str) -> None:
    [container] = PODS[pod]["containers"]
    starting = container["startupProbe"]
    assert starting["periodSeconds"] * starting["failureThreshold"] >= 300
    assert container["livenessProbe"]["failureThreshold"] > 1
    if "triton" in pod:
        assert {
            tuple(container[f"{name}Probe"]["exec"]["command"]) for name in ("startup", "readiness", "liveness")
        } == {("python3", "-m", probe.__name__)}


def test_triton_begins_with_the_learners_preset_and_has_kafkas_credentials() -> None:
    learner, triton = environment("headrace-learner"), environment("headrace-triton")
    assert triton["HEADRACE_LEARNER__PRESET"] == learner["HEADRACE_LEARNER__PRESET"]
    for name in ("HEADRACE_BROKER", *SECRETS["headrace-kafka"]):
        assert triton[name] == learner[name]


def test_the_workers_tokens_are_the_workers_alone() -> None:
    assert "HEADRACE_HTTP__TOKENS" in environment("headrace-worker")
    for pod in ("headrace-learner", "headrace-triton"):
        assert "HEADRACE_HTTP__TOKENS" not in environment(pod)
