"""a request for another worker's user -> that worker -> its answer, as it is."""

import ssl
from typing import Final

import httpx
from starlette.requests import Request
from starlette.responses import Response

from streams.api.parameters import header
from streams.api.problems import ProblemError
from streams.errors import StartError
from streams.settings import HttpSettings

FORWARDED: Final = b"headrace-forwarded"
"""Header of a forwarded request: it is answered or refused, but not forwarded again."""

_TIMEOUT: Final = httpx.Timeout(8.0, connect=1.0)
"""Above the owner's own deadline for ?after=, so that its answer arrives rather than ours."""
_PASSED_ON: Final = (b"authorization", b"accept")
_PASSED_BACK: Final = ("content-type", "retry-after", "www-authenticate")


class Forwarder:
    """Keeps connections to the other workers. The client's token goes along: the owner checks it again."""

    def __init__(self, settings: HttpSettings) -> None:
        self._scheme = "https" if settings.tls_certfile else "http"
        self._client = httpx.AsyncClient(verify=_verification(settings), timeout=_TIMEOUT, trust_env=False)

    async def forward(self, owner: str, request: Request) -> Response:
        """Return the owner's answer.

        Args:
            owner: host:port.
            request: GET or HEAD; the owner is asked for GET's answer.

        Raises:
            ProblemError: the owner does not answer, or the request was forwarded to this worker already.
        """
        if header(request, FORWARDED) is not None:
            raise _unavailable("the user is moving between workers; ask again")
        headers = [(name, value) for name, value in request.scope["headers"] if name in _PASSED_ON]
        # As it came: a URL's path is normalised, which makes user b of x/../b.
        target = request.scope["raw_path"] + b"?" + request.scope["query_string"]
        try:
            answer = await self._client.get(
                f"{self._scheme}://{owner}", headers=[*headers, (FORWARDED, b"1")], extensions={"target": target}
            )
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise _unavailable("the worker that owns the user does not answer; ask again") from exc
        passed = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
        return Response(answer.content, answer.status_code, passed)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _unavailable(detail: str) -> ProblemError:
    return ProblemError("owner-unavailable", detail, {"Retry-After": "1"})


def _verification(settings: HttpSettings) -> ssl.SSLContext | bool:
    """Trust the machine's authorities and the certificate that the workers share, which may be self-signed."""
    if not settings.tls_certfile:
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(settings.tls_certfile)
    except OSError as exc:
        raise StartError(
            f"The certificate {settings.tls_certfile} cannot be used ({exc}); check HEADRACE_HTTP__TLS_CERTFILE."
        ) from exc
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    return context
