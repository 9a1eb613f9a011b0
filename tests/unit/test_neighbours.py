"""The neighbour tables follow the generations, and whoever holds older tables keeps them unchanged."""

import numpy as np
from prometheus_client import CollectorRegistry

from engine.generations import GenerationAssembler, Place, TouchedRows, encode_generation
from engine.weights import Weights
from streams.followers.neighbours import TABLES, NeighbourFollower
from streams.instruments import WorkerInstruments


def weights(rows: int, fill: int) -> Weights:
    tables = {
        "item_vectors": np.zeros((rows, 2), np.float32),
        "neighbour_rows": np.full((rows, 2), fill, np.int32),
        "neighbour_weights": np.full((rows, 2), fill, np.float32),
        "popularity": np.full(rows, fill, np.float32),
    }
    return Weights({}, tables, {})


def test_changed_rows_are_taken_and_new_rows_added_without_touching_tables_in_use() -> None:
    instruments = WorkerInstruments(CollectorRegistry())
    follower = NeighbourFollower({}, "weights", instruments)
    assembler = GenerationAssembler(tables=frozenset(TABLES))

    def follow(of: Weights, number: int, touched: TouchedRows | None = None, before: Place | None = None) -> None:
        records, _ = encode_generation(of, "champion", number, 1, touched=touched, before=before)
        for key, value in records:
            if generation := assembler.feed(key, value):
                follower._apply(generation)

    assert follower.tables is None
    follow(weights(rows=256, fill=1), 7)
    first = follower.tables
    touched = TouchedRows()
    touched.add(np.arange(128, 320), TABLES)
    follow(weights(rows=320, fill=2), 8, touched, Place(7, 256, turn=9))
    second = follower.tables

    assert first is not None
    assert first.generation == 7
    assert (first.popularity_I == 1).all()
    assert second is not None
    assert second.generation == 8
    assert second.popularity_I.tolist() == [1] * 128 + [2] * 192
    assert second.rows_IK[:, 0].tolist() == [1] * 128 + [2] * 192
    assert second.weights_IK.shape == (320, 2)
    assert instruments.generation._value.get() == 8

    follow(weights(rows=320, fill=2), 9, TouchedRows(), Place(8, 320, turn=10))
    assert follower.tables is not None
    assert follower.tables.generation == 9
    assert follower.tables.rows_IK is second.rows_IK

    follow(weights(rows=100, fill=3), 10)  # as when the pin of a larger version is taken back
    assert follower.tables is not None
    assert follower.tables.popularity_I.tolist() == [3] * 100
