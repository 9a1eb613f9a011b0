"""Read-your-writes: who waits for an offset goes on when the states reflect it, not before, and not for ever."""

import asyncio

import pytest

from streams.state.progress import Progress


async def test_a_reader_goes_on_when_its_offset_is_reached() -> None:
    progress = Progress("interactions")
    waiting = asyncio.create_task(progress.reached(0, 5, 1.0))
    await asyncio.sleep(0)
    progress.advance(0, 4)
    await asyncio.sleep(0)
    assert not waiting.done()
    progress.advance(0, 5)
    await waiting


async def test_a_reader_of_another_partition_runs_into_its_deadline() -> None:
    progress = Progress("interactions")
    progress.advance(0, 5)
    with pytest.raises(TimeoutError):
        await progress.reached(1, 5, 0.01)


async def test_what_was_reached_before_a_rebalance_is_no_longer_known() -> None:
    progress = Progress("interactions")
    progress.advance(0, 5)
    progress.forget(0)
    with pytest.raises(TimeoutError):
        await progress.reached(0, 5, 0.01)


async def test_readers_that_gave_up_leave_nothing_behind() -> None:
    progress = Progress("interactions")
    for offset in range(3):
        with pytest.raises(TimeoutError):
            await progress.reached(0, 10**17 + offset, 0.001)
    assert progress._waiting[0] == []
