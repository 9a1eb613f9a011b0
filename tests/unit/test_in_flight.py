"""Batches between fold and commit: many small ones at once, few large ones, in turn."""

import asyncio

from streams.kafka.in_flight import LEAST, MOST, InFlight


async def begun(in_flight: InFlight, events: int) -> tuple[asyncio.Task[None], bool]:
    task = asyncio.create_task(in_flight.begin(events))
    await asyncio.sleep(0)
    return task, task.done()


async def test_sixteen_small_batches_are_under_way_and_the_next_waits_for_one_to_end() -> None:
    in_flight = InFlight()
    for _ in range(MOST // LEAST):
        assert (await begun(in_flight, 1))[1]
    waiting, done = await begun(in_flight, 1)
    assert not done
    in_flight.end(1)
    await waiting


async def test_a_batch_larger_than_all_room_goes_alone() -> None:
    in_flight = InFlight()
    await in_flight.begin(1)
    large, done = await begun(in_flight, 2 * MOST)
    assert not done
    in_flight.end(1)
    await large
    assert not (await begun(in_flight, 1))[1]


async def test_a_small_batch_does_not_overtake_a_large_one() -> None:
    in_flight = InFlight()
    await in_flight.begin(MOST // 2 + 1)
    large, _ = await begun(in_flight, MOST // 2)
    small, done = await begun(in_flight, 1)
    assert not done
    in_flight.end(MOST // 2 + 1)
    await asyncio.gather(large, small)


async def test_alone_means_nothing_before_and_nothing_meanwhile() -> None:
    in_flight = InFlight()
    await in_flight.begin(1)
    entered = asyncio.Event()
    leave = asyncio.Event()

    async def review() -> None:
        async with in_flight.alone():
            entered.set()
            await leave.wait()

    reviewing = asyncio.create_task(review())
    await asyncio.sleep(0)
    assert not entered.is_set()
    in_flight.end(1)
    await entered.wait()
    waiting, done = await begun(in_flight, 1)
    assert not done
    leave.set()
    await asyncio.gather(reviewing, waiting)
