"""Lists that the model gives, by how many are offered: what cannot be answered in time is to cost nobody else his."""

from typing import Any

from streams.kafka.topic_setup import ensure_topics
from tests.bench import latency
from tests.bench.stack import running, samples

RATES = (100, 200, 400, 800, 1600)
WARM_RATE = 200


def run(seconds: int, items: int) -> dict[str, Any]:
    """Measure all rates one after another on one worker; figures are lists a second, and milliseconds."""
    found = {}
    with running(items) as stack:
        ensure_topics(stack.settings())
        stack.start("worker")
        latency.measure(stack, WARM_RATE, 5, items)
        for rate in RATES:
            before = _fallbacks(stack.port)
            seen = latency.measure(stack, rate, seconds, items)
            found[str(rate)] = {
                "model_lists_per_second": round(seen["rungs"].get("triton", 0) / seconds),
                "lists_per_second": round(seen["answers"] / seconds),
                "p50": seen["p50"],
                "p99": seen["p99"],
                "rungs": seen["rungs"],
                "without_model": {why: round(n - before.get(why, 0)) for why, n in _fallbacks(stack.port).items()},
            }
    return found


def _fallbacks(port: int) -> dict[str, float]:
    """Return the lists that the model did not give so far, by why."""
    return {sample.labels["reason"]: sample.value for sample in samples(port, "headrace_fallback_lists_total")}
