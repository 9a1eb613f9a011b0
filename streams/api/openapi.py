"""What the API's documentation page says of the routes, from the records themselves."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from streams.api.parameters import MAX_K, POSITION
from streams.api.problems import MEDIA_TYPE, PROBLEMS
from streams.records import MAX_ID_BYTES, Interaction, Positions, Recommendation, SimilarItems, TitledItem, UserHistory

Json = dict[str, Any]

_RECORDS: Final = (Interaction, Positions, Recommendation, SimilarItems, TitledItem, UserHistory)
_EVERYWHERE: Final = ("method-not-allowed", "internal")
_BEHIND_TOKENS: Final = ("unauthenticated", "forbidden", "misdirected", "rate-limited")


class DirectRoute(APIRoute):
    """A FastAPI route that calls its endpoint at once.

    The endpoints check their own parameters, and FastAPI's resolution of dependencies would take as long again as the
    rest of a request: 68 us against 43 us of CPU, with 50 interactions in the answer.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        methods = (self.methods or set()) | ({"HEAD"} if "GET" in (self.methods or ()) else set())
        if scope["method"] not in methods:  # the answer to HEAD is GET's: the server leaves its body out
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(methods))})
        response = await self.endpoint(Request(scope, receive))
        await response(scope, receive, send)


class DocumentedApi(FastAPI):
    """FastAPI whose document holds the schemas of the msgspec records."""

    def openapi(self) -> Json:
        """Return the OpenAPI document."""
        if self.openapi_schema is None:
            document = super().openapi()
            components = document.setdefault("components", {})
            components["schemas"] = {**_schemas(), "Problem": _PROBLEM}
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        assert self.openapi_schema is not None
        return self.openapi_schema


def parameter(name: str, description: str, schema: Mapping[str, Any], place: str = "query") -> Json:
    """Return the description of a parameter."""
    return {
        "name": name, "in": place, "required": place == "path", "description": description, "schema": dict(schema),
    }  # fmt: skip


_ID: Final = {"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES}
USER: Final = parameter("user_id", "The user.", _ID, "path")
ITEM: Final = parameter("item_id", "The item.", _ID, "path")
K: Final = parameter("k", "How many items.", {"type": "integer", "minimum": 1, "maximum": MAX_K})
EXCLUDE: Final = parameter("exclude", "An item to leave out; repeat it for several.", {"type": "array", "items": _ID})
AFTER: Final = parameter(
    "after", "Wait until the state reflects this position.",
    {"type": "string", "pattern": f"^{POSITION.pattern}$"},
)  # fmt: skip
EVENTS: Final = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "oneOf": [
                    {"$ref": "#/components/schemas/Interaction"},
                    {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Interaction"}},
                ]
            }
        }
    },
}


def responses(answer: str, problems: Iterable[str], *, open_to_all: bool) -> dict[int | str, Json]:
    """Return what a route may answer: a record, an `object` or text of a media type; and its problems by status."""
    media_type, schema = "application/json", {"$ref": f"#/components/schemas/{answer}"}
    if "/" in answer:
        media_type, schema = answer, {"type": "string"}
    elif answer == "object":
        schema = {"type": "object"}
    found: dict[int | str, Json] = {200: {"description": "Done.", "content": {media_type: {"schema": schema}}}}
    for problem in (*problems, *_EVERYWHERE, *(() if open_to_all else _BEHIND_TOKENS)):
        status, title = PROBLEMS[problem]
        known = found.get(status)
        found[status] = {
            "description": f"{known['description']} {title} (`{problem}`)." if known else f"{title} (`{problem}`).",
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return found


def _schemas() -> Json:
    _, components = msgspec.json.schema_components(_RECORDS, ref_template="#/components/schemas/{name}")
    return dict(components)


_PROBLEM: Final = {
    "title": "Problem",
    "description": "RFC 9457.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "enum": [f"urn:headrace:problem:{name}" for name in PROBLEMS]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string", "description": "The field, parameter or header at fault."},
        "reason": {"type": "string", "description": "Of a refused event: as in the metric of dead letters."},
        "index": {"type": "integer", "description": "Of a refused event: its place in the list."},
    },
}
