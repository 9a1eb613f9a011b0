"""Every Prometheus instrument of every role, on a registry passed in.

Names are headrace_<noun>_<unit>[_total] in base units; labels are few and bounded, never ids.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY_BUCKETS = (
    0.0005,
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.04,
    0.06,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
)


RUNGS = ("triton", "covisit", "popular")
"""Of the ladder: what a list may come from."""


class WorkerInstruments:
    """What a worker counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.interactions = Counter(
            "headrace_interactions", "Interactions folded into a history.", ["type"], registry=registry
        )
        self.replayed = Counter(
            "headrace_replayed_interactions", "Interactions read again after a restart, not folded.", registry=registry
        )
        self.duplicates = Counter(
            "headrace_duplicate_interactions", "Interactions dropped by their event_id.", registry=registry
        )
        self.dead_letters = Counter("headrace_dead_letters", "Rejected events.", ["topic", "reason"], registry=registry)
        self.misplaced = Counter(
            "headrace_misplaced_users",
            "Users of a batch whose records belong into another partition, by topic",
            ["topic"],
            registry=registry,
        )
        self.lenient_fields = Counter(
            "headrace_lenient_fields",
            "Fields of events that did not fit the schema: read all the same, or left out.",
            ["topic", "field", "fate"],
            registry=registry,
        )
        self.recommendations = Counter(
            "headrace_recommendations", "Lists sent or returned.", ["rung"], registry=registry
        )
        for rung in RUNGS:  # a rate of what was never counted is nothing, and nothing is not 0
            self.recommendations.labels(rung)
        self.left_out_answers = Counter(
            "headrace_left_out_batches", "Batches whose answers could not be sent.", registry=registry
        )
        self.items_recommended = Counter(
            "headrace_recommended_items", "Items in those lists, by what proposed them.", ["source"], registry=registry
        )
        self.listed_items = Counter(
            "headrace_listed_items",
            "Items in lists, by whether anybody had touched them when the newest generation was made.",
            ["touched"],
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "headrace_stage_seconds",
            "Time a batch spends in a stage; batch is all of it, from its fold until it may be committed.",
            ["stage"],
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.latency_seconds = Histogram(
            "headrace_recommendation_latency_seconds",
            "From an event's fetch to its list being acknowledged, by the worker's own clock.",
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.batch_events = Histogram(
            "headrace_batch_events",
            "Events a fetched batch.",
            buckets=(1, 4, 16, 64, 256, 1024, 4096, 16384),
            registry=registry,
        )
        self.owned_partitions = Gauge(
            "headrace_owned_partitions", "Partitions of users that the worker answers for.", registry=registry
        )
        self.lag = Gauge(
            "headrace_consumer_lag_records",
            "Records behind the end of a partition.",
            ["topic", "partition"],
            registry=registry,
        )
        self.scorer_failures = Counter(
            "headrace_scorer_failures", "Requests to Triton that failed or were late.", ["reason"], registry=registry
        )
        self.fallbacks = Counter(
            "headrace_fallback_lists",
            "Lists that the model did not give, by why: late, busy, down, failed, no_time, untrained or behind.",
            ["reason"],
            registry=registry,
        )
        self.triton_generation = Gauge(
            "headrace_triton_generation", "Generation of the champion that answered last.", registry=registry
        )
        self.generation = Gauge("headrace_generation", "Newest generation followed.", registry=registry)
        self.generation_timestamp = Gauge(
            "headrace_generation_timestamp_seconds", "When the newest generation arrived.", registry=registry
        )
        self.catalogue_items = Gauge("headrace_catalogue_items", "Items with a row.", registry=registry)
        self.retired_items = Gauge("headrace_retired_items", "Items never recommended any more.", registry=registry)
        self.table_bytes = Gauge(
            "headrace_table_bytes", "Disk used by a partition of the table.", ["partition"], registry=registry
        )
        self.cached_users = Gauge("headrace_cached_users", "Users whose state is in memory.", registry=registry)
        self.expired_users = Counter("headrace_expired_users", "Idle users forgotten.", registry=registry)
        self.impressions = Counter(
            "headrace_impressions",
            "Impressions by what became of them: shown, then joined, expired or evicted; or duplicate.",
            ["fate"],
            registry=registry,
        )
        self.failed_tasks = Counter(
            "headrace_failed_tasks", "Rounds of a task beside the streams that failed.", ["task"], registry=registry
        )
        self.foreign_writes = Counter(
            "headrace_foreign_changelog_records", "Found in a partition of ours.", registry=registry
        )
        self.recovered = Counter("headrace_recovered_records", "Changelog records applied.", registry=registry)
        self.http_seconds = Histogram(
            "headrace_http_request_seconds",
            "HTTP requests by route and status.",
            ["route", "status"],
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )


class LearnerInstruments:
    """What the learner counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.examples = Counter("headrace_learned_examples", "Outcomes predicted, scored, learned.", registry=registry)
        self.skipped = Counter(
            "headrace_skipped_outcomes", "Outcomes seen before, not learned again.", registry=registry
        )
        self.rejected = Counter(
            "headrace_rejected_examples", "Examples and outcomes that were not learned.", ["reason"], registry=registry
        )
        self.loss = Gauge("headrace_learner_loss", "Training loss, mean of the last step.", registry=registry)
        self.quality = Gauge(
            "headrace_prequential_quality", "Over the last window of outcomes.", ["model", "metric"], registry=registry
        )
        self.step_seconds = Histogram(
            "headrace_learner_step_seconds",
            "CPU time a micro-batch to score and learn; time to copy a checkpoint's state, and to write it meanwhile.",
            ["stage"],
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.generations = Counter("headrace_published_generations", "Generations published.", registry=registry)
        self.versions = Counter("headrace_published_versions", "Full versions written.", registry=registry)
        self.generation_timestamp = Gauge(
            "headrace_published_generation_timestamp_seconds",
            "When the newest of what serves everybody was published.",
            registry=registry,
        )
        self.unpublished_since = Gauge(
            "headrace_unpublished_since_timestamp_seconds",
            "Since when a generation is to be published and cannot be; 0: none is.",
            registry=registry,
        )
        self.publish_seconds = Histogram(
            "headrace_publish_seconds", "Time to publish a generation.", buckets=_LATENCY_BUCKETS, registry=registry
        )
        self.lag = Gauge(
            "headrace_learner_lag_records", "Records behind the end of examples.", ["partition"], registry=registry
        )
        self.drifts = Counter("headrace_drifts", "Falls of quality that a detector noticed.", registry=registry)
        self.decisions = Counter("headrace_gate_decisions", "Decisions of the gate.", ["decision"], registry=registry)


def declared_names() -> set[str]:
    """Return the names under which the instruments are scraped, for checks of dashboards and alerts."""
    registry = CollectorRegistry()
    WorkerInstruments(registry)
    LearnerInstruments(registry)
    return {family.name for family in registry.collect()}
