"""A role's registry -> Prometheus: a port of its own, on loopback unless HEADRACE_METRICS_HOST says otherwise.

Whoever reaches it reads every metric, without a token: counts and times by topic and stage, no ids.
"""

import structlog
from prometheus_client import CollectorRegistry, start_http_server

from streams.errors import StartError

_log = structlog.get_logger()


def serve_metrics(host: str, port: int, registry: CollectorRegistry, setting: str) -> int:
    """Serve a registry from a thread until the process ends; return the port in use.

    Args:
        host: an address of this machine.
        port: 0 is any free one.
        registry: what is served.
        setting: names the port, for whoever has to change it.

    Raises:
        StartError: nobody can listen there.
    """
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as exc:
        raise StartError(
            f"Metrics cannot be served on {host}:{port} ({exc.strerror}); set {setting} to a free port, or to 0, and "
            "HEADRACE_METRICS_HOST to an address of this machine."
        ) from exc
    _log.info("metrics", address=f"http://{host}:{server.server_port}/metrics")
    return int(server.server_port)
