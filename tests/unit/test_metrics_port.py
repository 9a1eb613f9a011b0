"""The metrics of a role are served where the settings say, and a port that cannot be had is named by its setting."""

import socket

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from streams.errors import StartError
from streams.metrics_port import serve_metrics
from streams.settings import Settings


def test_by_default_nobody_but_this_machine_reads_them() -> None:
    settings = Settings()
    assert settings.metrics_host == "127.0.0.1"
    assert settings.worker_metrics_port is None


def test_a_registry_is_served_on_a_free_port() -> None:
    registry = CollectorRegistry()
    Counter("eggs", "Laid.", registry=registry).inc(3)
    port = serve_metrics("127.0.0.1", 0, registry, "HEADRACE_EGGS_PORT")
    assert "eggs_total 3.0" in httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text


def test_a_port_or_an_address_that_cannot_be_had_is_one_sentence_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartError, match=rf":{port} \(Address already in use\); set HEADRACE_EGGS_PORT"):
            serve_metrics("127.0.0.1", port, CollectorRegistry(), "HEADRACE_EGGS_PORT")
    with pytest.raises(StartError, match=r"192\.0\.2\.1:0 .*HEADRACE_METRICS_HOST"):
        serve_metrics("192.0.2.1", 0, CollectorRegistry(), "HEADRACE_EGGS_PORT")
