"""The own stores' part of an erasure: people whose link is dropped leave ClickHouse, in batches, one at a time.

Runs beside the controller's turns, on a connection of its own. A purge that fails or times out raises: the worker ends,
and the next one purges again. Nothing is reported that was not counted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from clickhouse_driver import Client

from processors.erasure import Request
from sinks.clickhouse.erasable import PLACES
from sinks.clickhouse.purge import purge, rows_of_subjects
from streams.kafka import Kafka
from streams.sealed_identities import find_sealed
from streams.serdes import Registry
from streams.workflows.erasing import Purged

log = logging.getLogger(__name__)

MOST_AT_ONCE = 10_000


class Purging:
    """Requests wait here until the purge before theirs is done: so many become one batch of mutations."""

    def __init__(self, kafka: Kafka, client: Client, registry: Registry | None = None) -> None:
        self._kafka = kafka
        self._client = client
        self._registry = registry
        self._waiting: dict[object, Request] = {}

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
        subjects = [request.subject for request in batch if request.subject is not None]
        rows = rows_of_subjects(self._client, subjects)
        done = purge(self._client, subjects)
        # After the purge: what an edge has sealed meanwhile goes as well.
        sealed = find_sealed(self._kafka, [r.alias for r in batch if r.alias is not None], self._registry)
        log.info("%d people purged: %s", len(batch), done)
        return [
            Purged(
                request.request_id,
                {place: rows.get(place, {}).get(request.subject, 0) for place in PLACES},  # type: ignore[arg-type]
                sealed.get(request.alias or b"", []),
            )
            for request in batch
        ]
