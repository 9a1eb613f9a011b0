"""A worker whose follower has died ends: it would make lists of what was true at that moment, for ever (A.7)."""

from functools import partial
from types import SimpleNamespace

import pytest

from streams.errors import StartError
from streams.worker_app import Worker


@pytest.mark.parametrize("dead", ["catalogue", "neighbours", "decisions"])
async def test_a_dead_follower_is_a_dead_worker(dead: str) -> None:
    def check(name: str) -> None:
        if name == dead:
            raise StartError(f"the thread that follows {name} has ended")

    parts = {name: SimpleNamespace(check=partial(check, name)) for name in ("catalogue", "neighbours", "decisions")}
    with pytest.raises(StartError, match=dead):
        await Worker.watch(SimpleNamespace(**parts))  # type: ignore[arg-type]
