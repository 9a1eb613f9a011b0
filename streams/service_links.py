"""environment -> names that Kubernetes put there, of each Service of a namespace.

A Service `headrace-worker` makes HEADRACE_WORKER_SERVICE_HOST, HEADRACE_WORKER_PORT and more, which look like settings,
unless a pod sets `enableServiceLinks: false`.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

_HOST: Final = "_SERVICE_HOST"
_PORT: Final = "_SERVICE_PORT"
_MADE: Final = re.compile(r"_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?")


def service_links(environment: Iterable[str]) -> frozenset[str]:
    """Return the names that belong to the Services of which both host and port are there; a single one is a mistake.

    >>> sorted(service_links(["A_SERVICE_HOST", "A_SERVICE_PORT", "A_PORT", "A_PORTS", "B_SERVICE_HOST", "B_PORT"]))
    ['A_PORT', 'A_SERVICE_HOST', 'A_SERVICE_PORT']
    """
    names = frozenset(environment)
    return frozenset(
        name
        for service in _services(names)
        for name in names
        if name.startswith(service) and _MADE.fullmatch(name, len(service))
    )


def _services(names: frozenset[str]) -> Iterator[str]:
    for name in names:
        service = name.removesuffix(_HOST)
        if service != name and service + _PORT in names:
            yield service
