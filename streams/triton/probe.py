"""Triton's health for Kubernetes and compose: exit code 0 when a real inference is answered in time.

The server's own health stays good when the process of its model is dead, and that process is never started again: so
the liveness probe asks for a list, and the server is restarted when it gets none. Only Python's own modules are
imported: `python3 -m streams.triton.probe` runs every few seconds. An argument names another port.
"""

import json
import sys
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

_SECONDS: Final = 3.0
_PATH: Final = "/v2/models/sequence/infer"
_ONE_UNKNOWN_ITEM: Final = {"rows": ("INT32", 0), "types": ("UINT8", 0), "times": ("INT64", 0), "lengths": ("INT32", 1)}


def main(port: int) -> None:
    """Ask for one list.

    Raises:
        SystemExit: it did not come.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("POST", _PATH, json.dumps({"inputs": _inputs()}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, HTTPException) as exc:
        sys.exit(f"Triton gives no list: {exc!r}.")
    finally:
        connection.close()
    if answer.status != HTTPStatus.OK:
        sys.exit(f"Triton gives no list: {answer.status} {body.decode(errors='replace')[:300]}")


def _inputs() -> list[dict[str, Any]]:
    wanted = {**_ONE_UNKNOWN_ITEM, "k": ("INT32", 1)}
    return [
        {"name": name, "datatype": type_, "shape": [1, 1], "data": [value]} for name, (type_, value) in wanted.items()
    ]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
