"""a worker's HTTP API -> the terminal: lists and histories by name."""

import json
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import httpx
from rich.console import Console
from rich.table import Table

from streams.errors import StartError
from streams.settings import HttpSettings, Settings

_SECONDS: Final = 10.0


def show_recommendations(settings: Settings, user_id: str, k: int, *, as_json: bool) -> None:
    """Print what a user would be recommended now.

    Raises:
        StartError: no worker answers, or it refuses.
    """
    answer = WorkerApi(settings.http).get(f"/v1/users/{path_segment(user_id)}/recommendations?k={k}")
    if as_json:
        print(json.dumps(answer, indent=2))  # noqa: T201 - for programs
        return
    table = Table("", "item", "name", "score", "by", box=None, header_style="bold")
    for place, item in enumerate(answer["items"], start=1):
        table.add_row(str(place), item["item_id"], item.get("title") or "", f"{item['score']:.3f}", item["source"])
    Console().print(
        table,
        f"user {user_id}: rung {answer['rung']}, version {answer['version']}, generation {answer['generation']}",
        sep="\n",
        highlight=False,
    )


def show_history(settings: Settings, user_id: str, *, as_json: bool) -> None:
    """Print what is remembered of a user.

    Raises:
        StartError: no worker answers, or it refuses.
    """
    answer = WorkerApi(settings.http).get(f"/v1/users/{path_segment(user_id)}/history")
    if as_json:
        print(json.dumps(answer, indent=2))  # noqa: T201 - for programs
        return
    table = Table("when", "did", "item", box=None, header_style="bold")
    for entry in answer["interactions"]:
        when = datetime.fromtimestamp(entry["timestamp"] / 1000, UTC)
        table.add_row(f"{when:%Y-%m-%d %H:%M}", entry["type"], entry["item_id"])
    Console().print(table, f"user {user_id}: {len(answer['interactions'])} interactions", sep="\n", highlight=False)


class WorkerApi:
    """A worker's HTTP API, over connections that stay open."""

    def __init__(self, settings: HttpSettings) -> None:
        token = next((token for token, scopes in settings.tokens.items() if "read" in scopes), None)
        self._address = worker_address(settings)
        self._client = httpx.Client(
            base_url=self._address,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=_SECONDS,
            trust_env=False,  # HTTP_PROXY is for the web: the token would pass through it
            # A worker's own certificate is seldom signed by an authority that this machine knows.
            verify=str(settings.tls_certfile) if settings.tls_certfile else True,
        )

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """Return what the worker answers.

        Raises:
            StartError: no worker answers, or it refuses.
        """
        try:
            response = self._client.get(path)
        except httpx.HTTPError as exc:
            raise StartError(
                f"No worker answers at {self._address} ({exc}); start one (`headrace worker`) or set "
                "HEADRACE_HTTP__PORT."
            ) from exc
        if response.is_error:
            raise StartError(f"The worker at {self._address} refused: {_reason(response)}")
        return response.json()


def path_segment(identifier: str) -> str:
    """Return an id as a part of a path; `.` and `..` would be taken out of it by whoever normalises paths."""
    return quote(identifier, safe="").replace(".", "%2E")


def worker_address(settings: HttpSettings) -> str:
    """Return the base URL of this machine's worker."""
    return f"{'https' if settings.tls_certfile else 'http'}://{settings.local_address}"


def _reason(response: httpx.Response) -> str:
    try:
        problem = response.json()
        return str(problem.get("detail") or problem.get("title") or response.status_code)
    except (ValueError, AttributeError):
        return f"{response.status_code} {response.reason_phrase}"
