"""A worker that did not run for longer than its lease may not send."""

import asyncio
import time

import pytest

from streams.kafka.lease import Lease, LeaseLapsedError


async def test_a_lease_holds_while_the_loop_runs() -> None:
    lease = Lease(0.2)
    keeping = asyncio.create_task(lease.keep())
    await asyncio.sleep(0.4)
    lease.check()
    keeping.cancel()


async def test_a_frozen_loop_finds_its_lease_lapsed_and_cannot_renew_it() -> None:
    lease = Lease(0.1)
    keeping = asyncio.create_task(lease.keep())
    await asyncio.sleep(0)
    time.sleep(0.15)  # noqa: ASYNC251 - the freeze itself
    with pytest.raises(LeaseLapsedError):
        lease.check()
    with pytest.raises(LeaseLapsedError):
        await keeping


async def test_a_lease_begins_when_it_is_kept() -> None:
    lease = Lease(0.1)
    await asyncio.sleep(0.15)
    keeping = asyncio.create_task(lease.keep())
    await asyncio.sleep(0)
    lease.check()
    keeping.cancel()
