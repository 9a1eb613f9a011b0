"""Quix Streams, its own state on RocksDB with a changelog. Arguments: broker topic group folder events."""

import sys
from typing import Any

from quixstreams import Application, State  # type: ignore[import-not-found]  # lives in a venv of its own


def keep(event: dict[str, Any], state: State) -> None:
    """Keep the last 50 items."""
    items = state.get("items", [])
    items.append(event["item_id"])
    state.set("items", items[-50:])


def main(broker: str, topic: str, group: str, folder: str, _events: str) -> None:
    """Run until stopped; what is measured is the group's committed offset."""
    app = Application(
        broker_address=broker,
        consumer_group=group,
        auto_offset_reset="earliest",
        state_dir=folder,
        commit_interval=0.5,
        loglevel="ERROR",
    )
    frame = app.dataframe(app.topic(topic, value_deserializer="json"))
    frame.update(keep, stateful=True)
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:6])
