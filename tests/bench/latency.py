"""Event -> recommendation by the broker's timestamps: without a model, with it, and while it learns.

While it learns also event -> served: the first list of anybody by a generation that has learned from the event.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition

from streams.demo.observe import Answer, Event, Learned, learned_by
from streams.demo.report import seconds_to_learned
from streams.kafka.topic_setup import ensure_topics
from streams.records import encode
from streams.settings import Settings
from tests.bench.load import Watch, interaction_of
from tests.bench.stack import Stack, running

RATES = (50, 200, 1000)
ITEMS = 50_000
SATURATION_EVENTS = 100_000
USERS = 10_000
SKEW = 3.0
"""Popular items come so much oftener: there is something to learn."""
CATCH_UP_SECONDS = 90
NEARLY = 100
"""Events of users who came first leave nothing to learn from."""
NO_MODEL = {"HEADRACE_TRITON__URL": "127.0.0.1:1"}
"""Nothing listens there: every list comes from the popular rung, which is the floor."""


def run(seconds: int) -> dict[str, Any]:
    """Measure all rates and modes; figures are milliseconds."""
    found: dict[str, Any] = {str(rate): {} for rate in RATES}
    with running(ITEMS) as stack:
        settings = stack.settings()
        ensure_topics(settings)
        for mode in ("floor", "with_model", "while_training"):
            stack.start("worker", NO_MODEL if mode == "floor" else None)
            if mode == "while_training":
                stack.start("learner")
                found["200"]["catching_up"] = measure(stack, 200, seconds)  # it has all of the past to learn, at once
                found["200"]["caught_up"] = learned_all(settings)
            measure(stack, 200, 5)  # warm
            for rate in RATES:
                found[str(rate)][mode] = measure(stack, rate, seconds)
            stack.stop("worker")
        stack.stop("learner")
        found["saturation"] = saturation(stack)
    return found


def learned_all(settings: Settings) -> bool:
    """Wait until the learner has learned from nearly the last event of each partition; say whether it has, in time."""
    topics = [settings.topics.named(name) for name in ("interactions", "weights")]
    reader = Consumer({"bootstrap.servers": settings.broker, "group.id": "bench", "isolation.level": "read_committed"})
    partitions = [TopicPartition(topics[0], p) for p in range(settings.kafka.partitions)]
    ends = {p.partition: reader.get_watermark_offsets(p)[1] for p in partitions}
    reader.assign([TopicPartition(topics[1], 0, OFFSET_BEGINNING)])
    missing, deadline = len(ends), time.monotonic() + CATCH_UP_SECONDS
    while missing and time.monotonic() < deadline:
        for record in reader.consume(100, 1.0):
            if learned := learned_by(record):
                missing = sum(learned.until.get(partition, 0) < end - NEARLY for partition, end in ends.items())
    reader.close()
    return not missing


def saturation(stack: Stack) -> dict[str, float]:
    """Let the worker catch up with a full topic, lists by Triton: events/s through to recommendations."""
    settings = stack.settings()
    events = settings.topics.interactions
    watch = Watch(settings.broker, settings.topics.workers, events, settings.kafka.partitions)
    answers = Watch(settings.broker, "bench", settings.topics.recommendations, settings.kafka.partitions)
    send(settings, SATURATION_EVENTS)
    done, sent, end = watch.committed(), answers.written(), watch.written()
    stack.start("worker")
    began = time.monotonic()
    while watch.committed() < end:
        time.sleep(0.05)
    seconds = time.monotonic() - began
    figures: dict[str, float] = {
        "events_per_second": round((end - done) / seconds),
        "lists_per_second": round((answers.written() - sent) / seconds),
        "worker_megabytes": round(stack.rss_bytes("worker") / 1e6),
    }
    stack.stop("worker")
    watch.close()
    answers.close()
    return figures


def send(settings: Settings, count: int, users: int = USERS, items: int = ITEMS) -> None:
    """Put events on the topic as fast as it takes them."""
    producer = Producer({"bootstrap.servers": settings.broker, "partitioner": "murmur2_random", "linger.ms": 20})
    draw, run_id = random.Random(count), time.time_ns()
    for number in range(count):
        event = interaction_of(run_id + number, users, items, draw, SKEW)
        producer.produce(settings.topics.interactions, encode(event), event.user_id.encode())
        producer.poll(0)
    producer.flush()


def measure(stack: Stack, rate: int, seconds: int, items: int = ITEMS) -> dict[str, Any]:
    """Send at a rate, match each recommendation with its cause."""
    settings = stack.settings()
    events, answers, weights = (settings.topics.named(name) for name in ("interactions", "recommendations", "weights"))
    producer = Producer({"bootstrap.servers": settings.broker, "partitioner": "murmur2_random", "linger.ms": 0})
    consumer = Consumer({"bootstrap.servers": settings.broker, "group.id": "bench", "fetch.wait.max.ms": 10})
    followed = [TopicPartition(answers, p) for p in range(settings.kafka.partitions)] + [TopicPartition(weights, 0)]
    consumer.assign([TopicPartition(p.topic, p.partition, consumer.get_watermark_offsets(p)[1]) for p in followed])
    written: dict[tuple[int, int], int] = {}

    def on_delivery(_error: KafkaError | None, record: Message) -> None:
        written[record.partition(), record.offset()] = record.timestamp()[1]

    latencies: list[int] = []
    served: list[Answer] = []
    generations: list[Learned] = []
    rungs: Counter[str] = Counter()
    stages: list[dict[str, float]] = []
    run_id, number, began, cpu = time.time_ns(), 0, time.monotonic(), stack.cpu_seconds("worker")
    draw = random.Random(run_id)
    while (now := time.monotonic() - began) < seconds + 2:
        while now < seconds and number < now * rate:
            event = interaction_of(run_id + number, USERS, items, draw, SKEW)
            producer.produce(events, encode(event), event.user_id.encode(), on_delivery=on_delivery)
            number += 1
        producer.poll(0)
        for record in consumer.consume(100, 0.001):
            if record.topic() == weights:
                generations += filter(None, [learned_by(record)])
                continue
            answer = json.loads(record.value())
            cause = (answer["cause"]["partition"], answer["cause"]["offset"])
            if cause in written:
                latencies.append(record.timestamp()[1] - written[cause])
                rungs[answer["rung"]] += 1
                stages.append(answer["stage_ms"])
                served.append(Answer("", *cause, record.timestamp()[1], "", 0, answer["generation"], ()))
    consumer.close()
    p50, p95, p99 = (round(float(value), 1) for value in np.percentile(latencies, (50, 95, 99)))
    return {
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "events": number,
        "answers": len(latencies),
        "cpu_ms_per_answer": round((stack.cpu_seconds("worker") - cpu) / len(latencies) * 1000, 2),
        "rungs": dict(rungs),
        "stage_p50": {name: round(float(np.median([s[name] for s in stages])), 2) for name in stages[0]},
        "event_to_served_seconds": to_served(written, served, generations) if generations else {},
    }


def to_served(
    written: Mapping[tuple[int, int], int], served: Sequence[Answer], generations: Sequence[Learned]
) -> dict[str, float]:
    """Return percentiles over the events that a list has been made of before the end."""
    events = [Event(*position, written_ms, history=False, user_id="") for position, written_ms in written.items()]
    seconds = seconds_to_learned(events, served, generations)
    shares = zip(("p50", "p95"), np.percentile(seconds, (50, 95)), strict=True) if seconds else ()
    return {**{name: round(value, 2) for name, value in shares}, "events": len(seconds), "of": len(events)}
