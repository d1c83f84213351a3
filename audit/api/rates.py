"""How often a client may ask: a bucket of tokens for each, refilled at a constant rate. In memory, of one process."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from threading import Lock

# Buckets that are full again are forgotten once there are so many.
_MOST = 10_000


class TokenBuckets:
    """`rate`: requests a second, for ever; `burst`: at once. Thread-safe. clock: seconds, monotonic."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = Lock()

    def take(self, client: str) -> int | None:
        """None: it may. Else the whole seconds that it must wait."""
        with self._lock:
            now = self._clock()
            left, at = self._left.get(client, (float(self._burst), now))
            left = min(self._burst, left + (now - at) * self._rate)
            if left < 1:
                self._left[client] = (left, now)
                return max(1, ceil((1 - left) / self._rate))
            if len(self._left) >= _MOST:
                full_since = now - self._burst / self._rate
                self._left = {name: seen for name, seen in self._left.items() if seen[1] > full_since}
            self._left[client] = (left - 1, now)
            return None
