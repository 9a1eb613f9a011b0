"""Faust as it comes: one event at a time into a rocksdict table. Arguments: broker topic group folder events."""

import sys
from collections.abc import AsyncIterator

import faust


def main(broker: str, topic: str, group: str, folder: str, _events: str) -> None:
    """Run until stopped; what is measured is the group's committed offset."""
    app = faust.App(
        group,
        broker=f"kafka://{broker}",
        store="rocksdb://",
        datadir=folder,
        topic_partitions=4,
        topic_replication_factor=1,
        broker_commit_interval=0.5,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        stream_wait_empty=False,
    )
    histories = app.Table("histories", default=list, partitions=4, options={"driver": "rocksdict"})

    @app.agent(app.topic(topic, value_serializer="json"))
    async def keep(stream: AsyncIterator[dict[str, str]]) -> None:
        async for event in stream:
            histories[event["user_id"]] = [*histories[event["user_id"]], event["item_id"]][-50:]

    faust.Worker(app, loglevel="ERROR").execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:6])
