"""What this process has accepted lately: the answer to who asks before the projection has it.

A bounded memory, never a source of truth: after a restart, or in another process, the projection answers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from uuid import UUID

_TURNS = 64


@dataclass(frozen=True)
class Accepted:
    """A request that Kafka has. Times in ms. `digest`: of what was asked, see `Order`."""

    requester: str
    alias: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    received_at: int
    verified: bool
    cancelled_at: int | None = None


class AcceptedRequests:
    """The last `capacity` requests. Thread-safe."""

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._known: OrderedDict[UUID, Accepted] = OrderedDict()
        self._lock = Lock()
        self._turns = [Lock() for _ in range(_TURNS)]

    @contextmanager
    def turn(self, request_id: UUID) -> Iterator[None]:
        """One at a time for a request: two posts of it at once must not both be the first."""
        with self._turns[request_id.int % _TURNS]:
            yield

    def get(self, request_id: UUID) -> Accepted | None:
        with self._lock:
            return self._known.get(request_id)

    def put(self, request_id: UUID, accepted: Accepted) -> None:
        with self._lock:
            self._known[request_id] = accepted
            self._known.move_to_end(request_id)
            if len(self._known) > self._capacity:
                self._known.popitem(last=False)
