"""Who has got a person's data: found behind the fence, and again whenever more has been loaded.

The fence is a marker in the log, behind all that the tagger judged before: once the loader has passed it, the table has
every disclosure up to then. What comes later is found by its Kafka offsets. Every method blocks; nothing here commits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from clickhouse_driver import Client

from processors.erasure import PUBLIC, SECOND, Disclosure, Request, Terms
from processors.erasure_targets import enumerate_targets, is_purging
from processors.hops import disclosure_hop, recipient_hops
from sinks.clickhouse.erasures import Disclosed, markers, new_disclosures, subjects_of_aliases
from streams.erasure_routes import Routes
from streams.erasure_store import ErasureStore
from streams.kafka import Kafka
from streams.lag import committed_offsets
from streams.topics import LINEAGE

log = logging.getLogger(__name__)

SCAN_SECONDS = 0.5
LONGEST_LOOK = 30 * SECOND


class Enumeration:
    """`stores`: the own stores, as targets of everybody."""

    def __init__(
        self, kafka: Kafka, client: Client, store: ErasureStore, routes: Routes, stores: Sequence[str]
    ) -> None:
        self._admin = kafka.admin()
        self._client = client
        self._store = store
        self._routes = routes
        self._stores = stores
        # Of each partition of `lineage`, up to where it has been looked through for later disclosures.
        self._scanned: dict[int, int] = {}
        self._scan_at = 0.0

    def start(self) -> None:
        """Goes on where the open requests say that it was looked last."""
        for request in self._store.open_requests():
            if request.fence_offset is not None and request.fence_partition is not None:
                partition = request.fence_partition
                self._scanned[partition] = min(self._scanned.get(partition, request.fence_offset), request.fence_offset)

    @property
    def is_due(self) -> bool:
        """Whether it is time to look again."""
        return time.monotonic() >= self._scan_at

    def locate(self, requests: Sequence[Request], now: int, terms: Terms) -> None:
        """Enumerates whoever's marker the loader has passed; looks again later for the others."""
        if not requests:
            return
        loaded = self._loaded()
        by_alias = {request.alias: request for request in requests if request.alias is not None}
        subjects = subjects_of_aliases(self._client, list(by_alias))
        wanted = {by_alias[alias].request_id: subject for alias, subject in subjects.items()}
        found = markers(self._client, wanted, "requested") if wanted else {}
        located = {id_: m for id_, m in found.items() if loaded.get(m.partition, 0) > m.offset}
        seen = self._disclosed(dict.fromkeys(loaded, 0), loaded, [wanted[id_] for id_ in located])
        for request in requests:
            marker = located.get(request.request_id)
            if marker is None:
                self.look_later(request, now, terms)
                continue
            subject, partition = wanted[request.request_id], marker.partition
            self._scanned[partition] = min(self._scanned.get(partition, loaded[partition]), loaded[partition])
            fenced = replace(request, subject=subject, fence_partition=partition, fence_offset=loaded[partition])
            rows = seen.get(subject, [])
            hops = recipient_hops((row.discloser, row.recipient) for row in rows)
            self._store.put(self._enumerated(fenced, rows, hops, now, terms))

    def look_later(self, request: Request, now: int, terms: Terms) -> None:
        """Nothing to be done yet: again after a while that grows with the waiting."""
        waited = now - (request.erased_at or request.verified_at or now)
        self._store.defer(request, now + min(max(terms.look, waited // 10), LONGEST_LOOK))

    def scan(self, now: int, terms: Terms) -> None:
        """Looks through what has been loaded since the last time for more disclosures of the people concerned."""
        began = time.monotonic()
        try:
            self._look_through(now, terms)
        finally:
            # Of many open requests no more than a tenth of the time goes into looking.
            self._scan_at = time.monotonic() + max(SCAN_SECONDS, 9 * (time.monotonic() - began))

    def _look_through(self, now: int, terms: Terms) -> None:
        people = {
            request.subject: request
            for request in self._store.open_requests()
            if request.subject is not None and request.fence_offset is not None
        }
        if not people:
            self._scanned.clear()
            return
        loaded = self._loaded()
        partitions = {request.fence_partition for request in people.values()}
        since = {p: offset for p, offset in self._scanned.items() if p in partitions}
        if any(offset < loaded.get(p, 0) for p, offset in since.items()):
            for subject, rows in self._disclosed(since, loaded, list(people)).items():
                request = people[subject]
                # What came between the enumeration and this look was not enumerated; what came before it was.
                new = [row for row in rows if row.last_offset >= (request.fence_offset or 0)]
                if new:
                    hops = {target.id: target.hop for target in request.recipients if target.hop is not None}
                    behind = replace(request, fence_offset=loaded[new[0].kafka_partition])
                    self._store.put(self._enumerated(behind, new, hops, now, terms))
        self._scanned = {p: max(offset, loaded.get(p, 0)) for p, offset in since.items()}

    def purgeable(self, requests: Sequence[Request]) -> list[Request]:
        """Those whose link the tagger has dropped, with everything judged before that loaded and looked through."""
        begun = [r for r in requests if is_purging(r)]
        # Of those whose purge has begun the marker may be gone with everything else.
        wanted = {r.request_id: r.subject for r in requests if r.subject is not None and not is_purging(r)}
        found = markers(self._client, wanted, "completed") if wanted else {}
        passed = {id_ for id_, m in found.items() if self._scanned.get(m.partition, 0) > m.offset}
        return [*begun, *(r for r in requests if r.request_id in passed)]

    def _disclosed(
        self, since: Mapping[int, int], until: Mapping[int, int], subjects: Collection[UUID]
    ) -> dict[UUID, list[Disclosed]]:
        found: dict[UUID, list[Disclosed]] = {}
        if subjects:
            for row in new_disclosures(self._client, since, until, subjects):
                found.setdefault(row.subject, []).append(row)
        return found

    def _enumerated(
        self, request: Request, rows: Iterable[Disclosed], hops: Mapping[str, int], now: int, terms: Terms
    ) -> Request:
        newest: dict[str, Disclosure] = {}
        for row in rows:
            recipient = row.recipient or PUBLIC
            hop = disclosure_hop(row.discloser, hops)
            known = newest.get(recipient)
            if known is not None:
                hop = min((h for h in (known.hop, hop) if h is not None), default=None)
            last = row.last_at if known is None else max(known.last_at, row.last_at)
            newest[recipient] = Disclosure(recipient, hop, last)
        changed = enumerate_targets(request, newest.values(), self._routes.route, self._stores, now, terms)
        for alarm in changed.alarms[len(request.alarms) :]:
            log.warning("request %s: alarm: %s", request.request_id, alarm)
        return changed

    def _loaded(self) -> dict[int, int]:
        """Of each partition of `lineage` the offset below which everything is in the table."""
        committed = committed_offsets(self._admin, "loader")
        return {partition: offset for (topic, partition), offset in committed.items() if topic == LINEAGE}
