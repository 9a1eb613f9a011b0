"""The bare loop: confluent-kafka and rocksdict, no checks. Arguments: broker topic group folder events."""

import json
import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from rocksdict import Options, Rdict, WriteBatch


def main(broker: str, topic: str, group: str, folder: str, events: int) -> None:
    """Read the topic once, keep the states, commit after each batch's changelog is acknowledged."""
    consumer = Consumer(
        {"bootstrap.servers": broker, "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    )
    producer = Producer({"bootstrap.servers": broker, "acks": "all", "enable.idempotence": True, "linger.ms": 1})
    consumer.subscribe([topic])
    store = Rdict(folder, Options(raw_mode=True))
    seen = 0
    while seen < events:
        records = [record for record in consumer.consume(10_000, 0.2) if record.error() is None]
        if not records:
            continue
        states: dict[tuple[int, str], list[str]] = {}
        for record in records:
            event = json.loads(record.value())
            key = (record.partition(), event["user_id"])
            if key not in states:
                stored = store.get(event["user_id"].encode())
                states[key] = json.loads(stored) if stored else []
            states[key].append(event["item_id"])
        batch = WriteBatch(raw_mode=True)
        for (partition, user_id), items in states.items():
            value = json.dumps(items[-50:]).encode()
            batch.put(user_id.encode(), value)
            producer.produce(f"{group}-changelog", value, user_id.encode(), partition)
        producer.flush()
        store.write(batch)
        ends: dict[int, int] = {record.partition(): record.offset() + 1 for record in records}
        consumer.commit(offsets=[TopicPartition(topic, p, end) for p, end in ends.items()], asynchronous=False)
        seen += len(records)
    consumer.close()
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
