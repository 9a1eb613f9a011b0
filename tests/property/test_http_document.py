"""Whatever the API's own document allows or forbids is answered as the document says, and nothing fails."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from prometheus_client import CollectorRegistry
from schemathesis import Case
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.specs.openapi.schemas import OpenApiSchema

from streams.api.http import create_api
from streams.instruments import WorkerInstruments
from streams.settings import Settings
from tests.fakes import FakeServing

HERE = "http://localhost:8080"
TOKEN = {"Authorization": "Bearer sesame"}
load_all_checks()
BEYOND = CHECKS.get_by_names(["positive_data_acceptance"])
"""A schema cannot say what is refused beyond it: ids of more than 255 bytes of UTF-8, events of tomorrow."""
examples = settings(
    max_examples=settings().max_examples // 4,  # of each route, also of the longer profile of `make fuzz`
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class Reached(FakeServing):
    """No position is ahead of its state: waiting for one would be answered with 504, rightly."""

    def _reach(self, after: str | None) -> None:
        pass


def document(**http: Any) -> OpenApiSchema:
    registry = CollectorRegistry()
    serving = Reached()
    serving.neighbours["0"] = []  # schemathesis likes this id
    app = create_api(serving, Settings(http=http), WorkerInstruments(registry), registry)
    return schemathesis.openapi.from_asgi("/openapi.json", app)


open_to_all, behind_tokens = document(), document(tokens={"sesame": ["admin"]})


@open_to_all.parametrize()
@examples
def test_on_loopback(case: Case) -> None:
    case.call_and_validate(base_url=HERE, excluded_checks=BEYOND)


@behind_tokens.parametrize()
@examples
def test_behind_tokens(case: Case) -> None:
    # The token stands in for what was generated for its header, which may have been all that was wrong.
    wrong = CHECKS.get_by_names(["negative_data_rejection"])
    case.call_and_validate(base_url=HERE, headers=TOKEN, excluded_checks=BEYOND + wrong)
