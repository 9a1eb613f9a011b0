"""client -> may it ask now: a token bucket each."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

MAX_CLIENTS: Final = 65_536
"""Buckets held; the client that asked longest ago is forgotten first, and its bucket is full again."""


class RateLimit:
    """Each client may ask `requests_per_second` in the long run, and one second's worth at once."""

    def __init__(self, requests_per_second: float) -> None:
        self._rate = requests_per_second
        self._burst = max(1.0, requests_per_second)
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, client: Hashable, now: float) -> float:
        """Return 0 and count the request, or return the seconds after which one will be allowed.

        Args:
            client: what names the client.
            now: monotonic seconds.
        """
        level, at = self._buckets.pop(client, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        allowed = level >= 1.0
        self._buckets[client] = (level - allowed, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - level) / self._rate
