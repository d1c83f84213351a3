"""One turn of the erasure controller: what came in and what is due → changes, one commit, and the calls to make.

Level-triggered: a turn looks at the state of each request that is due, never at what happened last. Knows Kafka, the
table and the connectors' routes; makes no calls to recipients itself, and decides nothing that processors/erasure*.py
could decide. Every method blocks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from clickhouse_driver import Client
from confluent_kafka import KafkaError, KafkaException, Message

from processors.erasure import SECOND, Request, Terms, due, due_next
from processors.erasure_commands import Answer, Command, Grade
from processors.erasure_steps import called_back, take_step
from processors.erasure_targets import (
    attempted,
    begin_purge,
    end,
    give_up,
    is_purging,
    leased,
    order_retry,
    purged,
    take_answer,
)
from streams.erasure_routes import Routes
from streams.erasure_store import ErasureStore, Record
from streams.identities import SealError
from streams.kafka import Kafka
from streams.opendsr.callbacks import callback_url
from streams.sealed_identities import Sealed, find_sealed, open_identities
from streams.serdes import Registry, Serializer
from streams.topics import ERASED_SUBJECTS, ERASURE_REQUESTS, IDENTITIES
from streams.workflows.enumerating import Enumeration
from streams.workflows.erasure_turns import Call, Came, Purged, Wanted

log = logging.getLogger(__name__)

GROUP = "erasures"
# Requests looked at in one turn.
MOST_AT_ONCE = 5_000
TELL_SECONDS = 30.0


# The request as it was while open, as it is ended, and place → rows removed → the signed certificate.
Certify = Callable[[Request, Request, Mapping[str, int]], str]


class Erasing:
    """The controller's work but for the calls. `stores`: the own stores, as targets; `public_url`: where recipients
    reach our API; None: they are asked instead."""

    def __init__(
        self,
        kafka: Kafka,
        client: Client,
        routes: Routes,
        private_key: Any,
        stores: Sequence[str],
        terms: Callable[[], Terms],
        certify: Certify,
        public_url: Callable[[], str | None] = lambda: None,
        registry: Registry | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kafka = kafka
        self._routes = routes
        self._private_key = private_key
        self._terms_now = terms
        self._terms = terms()
        self._certify = certify
        self._public_url = public_url
        self._registry = registry
        self._clock = clock
        self.store = ErasureStore(kafka, GROUP, registry)
        self._steps = Serializer("ErasureRequested", registry)
        self._ledger = Serializer("SubjectErased", registry)
        self._enumeration = Enumeration(kafka, client, self.store, routes, stores)
        self._sealed: dict[bytes, list[Sealed]] = {}
        self._records: list[Record] = []
        self._untold: list[tuple[bytes, bytes]] = []
        self._producer = kafka.producer(**{"linger.ms": 5})

    def start(self) -> None:
        """Takes over from whoever did this before."""
        count = self.store.start()
        self._enumeration.start()
        for request in self.store.open_requests():
            if request.erased_at is not None:
                # Whether the predecessor came to tell it is not known; told twice it is told once.
                self._tell_erased(request, request.erased_at)
            if is_purging(request):
                # Whether it was done is not known; done twice it is done once.
                self.store.defer(request, self.now())
        self._tell()
        log.info("%d erasure requests restored, %d of them open", count, len(self.store.open_requests()))

    def now(self) -> int:
        return int(self._clock() * 1000)

    def turn(self, came: Came) -> Wanted:
        """Takes what came, does what is due, commits; gives what is to be called. What came may be acknowledged then.

        Raises `KafkaException`, `ClickHouseError`, `TimeoutError`: the process must end.
        """
        now = self.now()
        self._terms = self._terms_now()
        self._take(came, now)
        requests = self.store.due(now, MOST_AT_ONCE)
        pending = {request.request_id: due(request, now, self._terms) for request in requests}
        self._enumeration.locate([r for r in requests if pending[r.request_id].locate], now, self._terms)
        if any(d.purge for d in pending.values()) or self._enumeration.is_due:
            self._enumeration.scan(now, self._terms)
        waiting = [self.store.get(r.request_id) for r in requests if pending[r.request_id].purge]
        # As they are after the look: who got more data meanwhile is not purged yet.
        still = [r for r in waiting if r is not None and due(r, now, self._terms).purge]
        wanted = Wanted(purge=self._enumeration.purgeable(still))
        for request in requests:
            self._do(request.request_id, now, wanted)
        self._find_identities(wanted)
        calls = [self._with_identities(call, now) for call in wanted.calls]
        wanted.calls = [call for call in calls if call is not None]
        self._commit()
        return wanted

    def _commit(self) -> None:
        self.store.commit(self._records)
        self._records.clear()
        self._tell()

    def _tell(self) -> None:
        """Tells the tagger whose link to drop: after it is fixed when, and again by whoever takes over from here."""
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failed.append(error)

        # Not in a transaction: its marker at the end of the log would look like something left to read.
        for alias, value in self._untold:
            self._producer.produce(ERASURE_REQUESTS, value, alias, on_delivery=delivered)
            self._producer.poll(0)
        if self._untold and (self._producer.flush(TELL_SECONDS) or failed):
            raise KafkaException(failed[0] if failed else KafkaError(KafkaError._TIMED_OUT))
        self._untold.clear()

    # What came

    def _take(self, came: Came, now: int) -> None:
        store = self.store
        for step in came.steps:
            for changed in take_step(store.get(step.request_id), store.open_of(step.alias), step, self._terms):
                store.put(changed)
        for receipt in came.receipts:
            request = store.get(receipt.request_id)
            if request is None:
                log.warning("a receipt for a request that is not known here is passed over")
            elif receipt.answer == "retry":
                # What it could not be asked with may have come in since.
                self._sealed.pop(request.alias or b"", None)
                store.put(order_retry(request, receipt.target, now, self._terms, receipt.detail))
            else:
                answer = Answer(
                    receipt.answer,  # type: ignore[arg-type]
                    Grade[receipt.grade],
                    detail=receipt.detail,
                    ground=receipt.ground,
                    evidence=receipt.evidence,
                )
                store.put(take_answer(request, receipt.target, answer, now, self._terms, receipt.key, unasked=True))
        for told in came.told:
            if (request := store.get(told.request_id)) is not None:
                store.put(take_answer(request, told.target, told.answer, now, self._terms, told.key))
        for back in came.called_back:
            if (request := store.get(back.request_id)) is not None:
                store.put(called_back(request, back.callback, back.status, back.taken, now, self._terms))

        for one in came.purged:
            self._end(one, now)

    def _end(self, one: Purged, now: int) -> None:
        """The last of a request: its identifiers go and its certificate is made, in one transaction."""
        request = self.store.get(one.request_id)
        if request is None or request.is_ended:
            return
        if request.alias is not None:
            self._sealed.pop(request.alias, None)
        self._records += [Record(IDENTITIES, sealed.key, None, sealed.partition) for sealed in one.sealed]
        assert request.subject is not None
        # From now on a row of this subject is a survivor, and a rebuild of the table leaves out its marker too.
        gone = self._ledger.encode({"erased_at": request.erased_at, "purged_at": now})
        self._records.append(Record(ERASED_SUBJECTS, request.subject.bytes, gone))
        rows = {**one.rows, "identities": len(one.sealed)}
        ended = end(purged(request, rows, now, self._terms), now)
        self.store.put(replace(ended, certificate=self._certify(request, ended, rows)))

    # What is due

    def _do(self, request_id: UUID, now: int, wanted: Wanted) -> None:
        request = self.store.get(request_id)
        assert request is not None
        todo = due(request, now, self._terms)
        for callback in todo.callbacks:
            # Put off, so that it is not sent twice at once.
            held = tuple(replace(c, next_at=now + self._terms.lease) if c is callback else c for c in request.callbacks)
            wanted.callbacks.append((request, callback))
            request = replace(request, callbacks=held)
        if todo.give_up:
            request = give_up(request, now, self._terms)
        if todo.tell_erased:
            request = self._tell_erased(request, now)
        for target_id in todo.dispatch:
            request = self._dispatch(request, target_id, now, wanted)
        for target_id in todo.check:
            request = self._check(request, target_id, now, wanted)
        if todo.purge and all(r.request_id != request_id for r in wanted.purge):
            self._enumeration.look_later(request, now, self._terms)
        elif todo.purge:
            self.store.put(replace(begin_purge(request, now), next_at=now + self._terms.lease))
        elif request is not self.store.get(request_id):
            self.store.put(due_next(request, now, self._terms) if not request.is_ended else _ended_next(request))
        elif request.next_at is not None and request.next_at <= now:
            self._enumeration.look_later(request, now, self._terms)

    def _tell_erased(self, request: Request, now: int) -> Request:
        """Fixes the time of the Erased fact; the tagger is told once that is written."""
        fixed = replace(request, erased_at=request.erased_at or now)
        assert request.alias is not None
        record = {"request_id": request.request_id.bytes, "occurred_at": fixed.erased_at, "step": "erased"}
        rest = {"origin": request.origin, "regulation": request.regulation, "verified_by": "", "ground": ""}
        value = self._steps.encode({**record, **rest, "requester": "", "callback_urls": []})
        self._untold.append((request.alias, value))
        return fixed

    def _dispatch(self, request: Request, target_id: str, now: int, wanted: Wanted) -> Request:
        request = attempted(request, target_id, now, self._terms.lease)
        target = request.target(target_id)
        assert target is not None
        answer = self._routes.dispatch_here(request, target, now)
        if answer is not None:
            return take_answer(request, target_id, answer, now, self._terms)
        wanted.calls.append(Call(self._command(request, target_id), target.protocol, None))
        return request

    def _check(self, request: Request, target_id: str, now: int, wanted: Wanted) -> Request:
        target = request.target(target_id)
        assert target is not None
        answer = self._routes.check_here(request, target, now)
        if answer is not None:
            return take_answer(request, target_id, answer, now, self._terms)
        wanted.calls.append(Call(self._command(request, target_id), target.protocol, target.reference))
        return leased(request, target_id, now, self._terms.lease)

    def _command(self, request: Request, target_id: str) -> Command:
        target = request.target(target_id)
        assert target is not None
        assert request.verified_at is not None
        assert request.due_at is not None
        url = self._public_url()
        return Command(
            request_id=request.request_id,
            target=target_id,
            idempotency_key=request.key(target),
            attempt=target.attempts,
            submitted_at=request.verified_at,
            due_at=request.due_at,
            regulation=request.regulation,
            callback_url=None if url is None else callback_url(url, request.request_id, target_id),
        )

    # Identifiers

    def _find_identities(self, wanted: Wanted) -> None:
        missing: set[bytes] = set()
        for call in wanted.calls:
            request = self.store.get(call.command.request_id)
            assert request is not None
            assert request.alias is not None
            # With more data of a person there may be more that a recipient knows them by.
            is_first = call.reference is None and call.command.attempt == 1
            if is_first or request.alias not in self._sealed:
                missing.add(request.alias)
        if missing:
            self._sealed |= find_sealed(self._kafka, missing, self._registry)

    def _with_identities(self, call: Call, now: int) -> Call | None:
        """The call with what the recipient may know the person by: opened for this one dispatch."""
        request = self.store.get(call.command.request_id)
        assert request is not None
        assert request.alias is not None
        try:
            opened = open_identities(self._private_key, request.alias, self._sealed[request.alias])
        except SealError:
            answer = Answer("retry", detail="the person's identifiers are sealed to another key than the controller's")
            self.store.put(take_answer(request, call.command.target, answer, now, self._terms))
            return None
        command = replace(call.command, identities=opened)
        records = self._routes.command_records(command, now)
        if records is None:
            return call._replace(command=command)
        # It takes its commands from Kafka: sent with this turn's commit, and again when no answer came, ever seldomer.
        self._records += records
        target = request.target(call.command.target)
        assert target is not None
        waited = now - (target.dispatched_at or now)
        again = max(waited, self._terms.lease) / SECOND
        answer = Answer("dispatched", Grade.dispatched, detail="command written to Kafka", check_after=again)
        self.store.put(take_answer(request, call.command.target, answer, now, self._terms))
        return None


def _ended_next(request: Request) -> Request:
    times = [c.next_at for c in request.callbacks if c.next_at is not None]
    return replace(request, next_at=min(times, default=None))
