"""The own stores' part of an erasure: people whose link is dropped leave ClickHouse, in batches, one at a time.

Runs beside the controller's turns, on a connection of its own. A purge that fails or times out raises: the worker ends,
and the next one purges again. Nothing is reported that was not counted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import UUID

from clickhouse_driver import Client

from processors.erasure import Request
from sinks.clickhouse.purge import purge, rows_of_people
from streams.kafka import Kafka
from streams.sealed_identities import find_sealed
from streams.serdes import Registry
from streams.workflows.erasure_turns import Purged

log = logging.getLogger(__name__)

MOST_AT_ONCE = 10_000


class Purging:
    """Requests wait here until the purge before theirs is done: so many become one batch of mutations."""

    def __init__(self, kafka: Kafka, client: Client, registry: Registry | None = None) -> None:
        self._kafka = kafka
        self._client = client
        self._registry = registry
        self._waiting: dict[UUID, Request] = {}

    def add(self, requests: Sequence[Request]) -> None:
        """People to purge; those that wait already are not doubled."""
        self._waiting |= {request.request_id: request for request in requests}

    @property
    def is_due(self) -> bool:
        return bool(self._waiting)

    def purge(self) -> list[Purged]:
        """Purges those that wait. Blocks. Raises `ClickHouseError`, `PurgeError`, `KafkaException`, `TimeoutError`."""
        batch = list(self._waiting.values())[:MOST_AT_ONCE]
        for request in batch:
            del self._waiting[request.request_id]
        # Only what has been located is purged.
        subjects = [request.subject or UUID(int=0) for request in batch]
        rows = rows_of_people(self._client, subjects)
        done = purge(self._client, subjects)
        # After the purge: what an edge has sealed meanwhile goes as well.
        sealed = find_sealed(self._kafka, [r.alias for r in batch if r.alias is not None], self._registry)
        log.info("%d people purged in %.1f s: %s", len(batch), done.seconds, dict(done.rows))
        return [
            Purged(
                request.request_id,
                {place: of_people.get(subject, 0) for place, of_people in rows.items()},
                sealed.get(request.alias or b"", []),
            )
            for request, subject in zip(batch, subjects, strict=True)
        ]
