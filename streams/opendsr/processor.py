"""The OpenDSR processor: takes requests in, tells how they stand, cancels them. Knows no HTTP.

What is answered with success is in Kafka. How a request stands is read from the projection; what was accepted a
moment ago and is not there yet is remembered (read your writes). Nobody learns of another client's requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from processors.api_clients import ApiClient
from processors.erasure import ENDED, Request, Terms, from_record, opendsr_status
from processors.pseudonyms import alias
from sinks.clickhouse.erasure_overview import alias_of_open_request
from sinks.clickhouse.erasures import erasure_request
from sinks.clickhouse.pool import ClickHousePool
from streams.erasure_intake import ErasureIntake
from streams.identities import user_identity
from streams.opendsr import answers
from streams.opendsr.accepted import Accepted, AcceptedRequests
from streams.opendsr.answers import Told
from streams.opendsr.requests import BadRequest, Order, Problem, read_request, request_id_of

ORIGIN = "opendsr"
CANCELLED = "cancelled by the OpenDSR client"


class UnknownRequest(Exception):
    """There is no such request, or it is another client's."""


@dataclass(frozen=True)
class ProcessorSettings:
    """`domain`: ours, that the certificate is issued for. `controller_public_key`: PEM, what identities are sealed to.
    `regulation_default`, `allow_private`: see `read_request`."""

    domain: str
    pepper: bytes = field(repr=False)
    controller_public_key: bytes = field(repr=False)
    regulation_default: str = ""
    allow_private: bool = False
    terms: Terms = field(default_factory=Terms)


class OpenDsrProcessor:
    """One for a process; its methods are called from many threads.

    `clock`: seconds since 1970 UTC. Every method raises `IntakeError` and `ClickHouseError` when Kafka or ClickHouse
    is away: nothing was done then that doing it again would not mend.
    """

    def __init__(
        self,
        settings: ProcessorSettings,
        intake: ErasureIntake,
        clickhouse: ClickHousePool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._clickhouse = clickhouse
        self._clock = clock
        self._accepted = AcceptedRequests()

    def create(self, client: ApiClient, body: bytes) -> Told:
        """Takes a request in, once: the same again gets the same answer. Raises `BadRequest`."""
        settings = self._settings
        order = read_request(
            body,
            domain=settings.domain,
            regulation_default=settings.regulation_default,
            allow_private=settings.allow_private,
        )
        person = alias(settings.pepper, order.user_id)
        with self._accepted.turn(order.request_id):
            known = self._accepted.get(order.request_id) or self._projected(client, order, person)
            if known is None:
                known = self._take_in(client, order, person)
            elif (known.requester, known.digest) != (client.id, order.digest):
                raise _conflict()
            if client.verifies_identity and not known.verified:
                self._verify(client, order, person)
                known = replace(known, verified=True)
            self._accepted.put(order.request_id, known)
        expected_at = known.received_at + settings.terms.response
        return answers.created(order.request_id, client.id, known.received_at, expected_at, body)

    def status(self, client: ApiClient, request_id: str) -> Told:
        """How a request stands. Raises `UnknownRequest`."""
        asked = self._find(client, request_id)
        if isinstance(asked, Accepted):
            expected_at = asked.received_at + self._settings.terms.response
            return answers.status(UUID(request_id), client.id, expected_at, "pending", self._extension("received"))
        told = self._answering(asked)
        return answers.status(
            asked.request_id,
            client.id,
            told.due_at or asked.received_at + self._settings.terms.response,
            opendsr_status(told.state),
            {self._settings.domain: answers.detail(told)},
        )

    def cancel(self, client: ApiClient, request_id: str) -> Told:
        """Asks for a request to be cancelled, which it may be while it is pending (section 9).

        Raises `UnknownRequest`, `BadRequest`.
        """
        asked = self._find(client, request_id)
        found = UUID(request_id)
        with self._accepted.turn(found):
            accepted = self._accepted.get(found)
            if isinstance(asked, Request):
                if asked.state == "joined":
                    raise BadRequest(
                        Problem("conflict", "it was joined with an open request of the same person: cancel that one")
                    )
                if opendsr_status(asked.state) != "pending":
                    raise BadRequest(Problem("conflict", "a request can be cancelled only while it is pending"))
            if accepted is not None and accepted.cancelled_at is not None:
                return answers.cancelled(found, client.id, accepted.cancelled_at)
            person = accepted.alias if accepted else self._alias_of(found)
            if person is None:
                raise BadRequest(Problem("conflict", "a request can be cancelled only while it is pending"))
            now = self._now()
            self._intake.step(
                person,
                found,
                "cancelled",
                origin=ORIGIN,
                ground=CANCELLED,
                requester=client.id,
                occurred_at=now,
            )
            if accepted is not None:
                self._accepted.put(found, replace(accepted, cancelled_at=now))
        return answers.cancelled(found, client.id, now)

    def _take_in(self, client: ApiClient, order: Order, person: bytes) -> Accepted:
        settings, now = self._settings, self._now()
        # First what the recipients will be asked with: nothing looks for it before the request is there.
        identities = (user_identity(order.user_id), *order.identities)
        if order.identities:
            self._intake.add_identities(settings.controller_public_key, person, identities, pepper=settings.pepper)
        self._intake.step(
            person,
            order.request_id,
            "received",
            origin=ORIGIN,
            regulation=order.regulation,
            requester=client.id,
            callback_urls=order.callback_urls,
            occurred_at=now,
        )
        return Accepted(client.id, person, order.digest, now, verified=False)

    def _verify(self, client: ApiClient, order: Order, person: bytes) -> None:
        self._intake.step(
            person,
            order.request_id,
            "verified",
            origin=ORIGIN,
            regulation=order.regulation,
            verified_by=f"OpenDSR client {client.id}",
            requester=client.id,
            callback_urls=order.callback_urls,
        )

    def _projected(self, client: ApiClient, order: Order, person: bytes) -> Accepted | None:
        """What the projection knows of a request that was posted before this process began, or to another one.

        The projection keeps no identifiers: the same person, client, regulation and callbacks are the same request.
        Raises `BadRequest` when it is another one.
        """
        with self._clickhouse.client() as connection:
            request = _request(erasure_request(connection, order.request_id))
            if request is None:
                return None
            whose = alias_of_open_request(connection, order.request_id)
        urls = {each.url for each in request.callbacks if each.request_id in (None, order.request_id)}
        same = (
            (request.requester, request.regulation) == (client.id, order.regulation)
            and whose in (None, person)
            # One that joined another has handed its callbacks over.
            and (request.state == "joined" or urls == set(order.callback_urls))
        )
        if not same:
            raise _conflict()
        # What joined another may be what verifies it.
        verified = request.verified_at is not None or request.state in ENDED - {"joined"}
        return Accepted(client.id, person, order.digest, request.received_at, verified)

    def _find(self, client: ApiClient, request_id: str) -> Request | Accepted:
        found = request_id_of(request_id)
        if found is None:
            raise UnknownRequest
        with self._clickhouse.client() as connection:
            request = _request(erasure_request(connection, found))
        asked: Request | Accepted | None = request or self._accepted.get(found)
        if asked is None or asked.requester != client.id:
            raise UnknownRequest
        return asked

    def _answering(self, request: Request) -> Request:
        """The request that answers this one: itself, or the one of the same person that it joined."""
        if request.state != "joined" or request.joined is None:
            return request
        with self._clickhouse.client() as connection:
            return _request(erasure_request(connection, request.joined)) or request

    def _alias_of(self, request_id: UUID) -> bytes | None:
        with self._clickhouse.client() as connection:
            return alias_of_open_request(connection, request_id)

    def _extension(self, state: str) -> dict[str, Any]:
        return {self._settings.domain: {"state": state}}

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _request(document: dict[str, Any] | None) -> Request | None:
    """A document of the projection as a request; it has no alias and no subject."""
    if document is None:
        return None
    ids = {name: _id_bytes(document.get(name)) for name in ("request_id", "joined")}
    callbacks = [{**each, "request_id": _id_bytes(each["request_id"])} for each in document["callbacks"]]
    return from_record({**document, **ids, "alias": None, "subject": None, "callbacks": callbacks})


def _id_bytes(text: str | None) -> bytes | None:
    return None if text is None else UUID(text).bytes


def _conflict() -> BadRequest:
    return BadRequest(Problem("conflict", "subject_request_id is taken by a request with other content"))
