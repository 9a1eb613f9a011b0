"""The topics and groups of a deployment: their names and how each must be kept. Knows nothing of a Kafka client."""

from dataclasses import dataclass, field
from typing import Final

BY_USER: Final = 0
"""In a TopicSpec: as many partitions as the setting says, the same for all topics keyed by user."""

CHANGELOG: Final = "workers-histories-changelog"
"""Without the prefix."""

_COMPACTED: Final = {"cleanup.policy": "compact"}
_WHOLE: Final = {"cleanup.policy": "delete"}
"""Compacted, a topic of events would keep the newest of each user."""
_FOR_EVER: Final = {"retention.ms": "-1", "retention.bytes": "-1"}
_LARGE: Final = str(16 * 1024 * 1024)
_LARGER: Final = str(64 * 1024 * 1024)


@dataclass(frozen=True)
class Topics:
    """The full names in one deployment.

    >>> Topics("shop.").interactions
    'shop.interactions'
    """

    prefix: str
    """Before every topic and group name."""

    def named(self, name: str) -> str:
        """Return the full name of a topic or of a consumer group."""
        return f"{self.prefix}{name}"

    def bare(self, topic: str) -> str:
        """Return a topic's name without the prefix: what records and HTTP call it."""
        return topic.removeprefix(self.prefix)

    @property
    def interactions(self) -> str:
        """The topic `interactions`."""
        return self.named("interactions")

    @property
    def impressions(self) -> str:
        """The topic `impressions`."""
        return self.named("impressions")

    @property
    def items(self) -> str:
        """The topic `items`."""
        return self.named("items")

    @property
    def requests(self) -> str:
        """The topic `requests`."""
        return self.named("requests")

    @property
    def recommendations(self) -> str:
        """The topic `recommendations`."""
        return self.named("recommendations")

    @property
    def examples(self) -> str:
        """The topic `examples`."""
        return self.named("examples")

    @property
    def rows(self) -> str:
        """The topic `rows`."""
        return self.named("rows")

    @property
    def weights(self) -> str:
        """The topic `weights`."""
        return self.named("weights")

    @property
    def decisions(self) -> str:
        """The topic `decisions`."""
        return self.named("decisions")

    @property
    def dead_letters(self) -> str:
        """The topic `dead-letters`."""
        return self.named("dead-letters")

    @property
    def identities(self) -> str:
        """The topic `identities`."""
        return self.named("identities")

    @property
    def changelog(self) -> str:
        """The changelog of the workers' table, under the name that Faust gives it."""
        return self.named(CHANGELOG)

    @property
    def workers(self) -> str:
        """The workers' consumer group; Faust names the changelogs after it."""
        return self.named("workers")


@dataclass(frozen=True)
class TopicSpec:
    """One topic as Headrace needs it."""

    name: str
    """Without the prefix."""
    key: str
    partitions: int = BY_USER
    config: dict[str, str] = field(default_factory=dict)
    """What the topic must be set to; the rest is the broker's default."""


SPECS: Final = (
    TopicSpec("interactions", "user_id", BY_USER, _WHOLE),
    TopicSpec(CHANGELOG, "user_id", BY_USER, _COMPACTED),
    TopicSpec("impressions", "user_id", BY_USER, _WHOLE),
    TopicSpec("items", "item_id", 1, _COMPACTED),
    TopicSpec("requests", "user_id", BY_USER, _WHOLE),
    TopicSpec("recommendations", "user_id"),
    TopicSpec("examples", "user_id", BY_USER, _WHOLE),
    # Never compacted: an item's row is its rank among the first appearances in this log.
    TopicSpec("rows", "item_id", 1, {"cleanup.policy": "delete", **_FOR_EVER}),
    # Small segments: the newest one is not compacted, and whoever joins reads all of it.
    TopicSpec(
        "weights",
        "slot/block",
        1,
        {**_COMPACTED, "max.message.bytes": _LARGE, "segment.bytes": _LARGER, "min.cleanable.dirty.ratio": "0.1"},
    ),
    TopicSpec("decisions", "slot", 1, _COMPACTED),
    TopicSpec("identities", "topic", 1, _COMPACTED),
    TopicSpec("dead-letters", "as it came", 1, {"max.message.bytes": _LARGE}),
)
