"""The way in for erasures: steps of requests, receipts of recipients and identifiers given along.

Whoever may tell something (API, command line, callbacks) tells it through here. A call returns when Kafka has what
was told, or raises: nothing is reported as taken that is not. It never reads, and never writes an identifier in the
clear.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event, Lock
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from processors.erasure_commands import Grade
from processors.partitioning import partition_of
from processors.pseudonyms import identities_key
from streams.identities import Identity, key_id, load_public_key, plain_identities, seal
from streams.kafka import Kafka
from streams.serdes import Registry, Serializer
from streams.topics import ERASURE_RECEIPTS, ERASURE_REQUESTS, IDENTITIES

# Librdkafka's RD_KAFKA_PARTITION_UA: by the key.
_BY_KEY = -1
_DELIVERY_SECONDS = 30.0


class IntakeError(Exception):
    """Kafka did not take what was told: it must be told again."""


class ErasureIntake:
    """One producer for all that is told about erasures. Thread-safe; every call waits for Kafka's acknowledgement.

    `clock`: seconds since 1970 UTC, as `time.time`.
    """

    def __init__(self, kafka: Kafka, registry: Registry | None = None, clock: Callable[[], float] = time.time) -> None:
        self._kafka = kafka
        self._clock = clock
        self._steps = Serializer("ErasureRequested", registry)
        self._receipts = Serializer("ErasureReceipt", registry)
        self._sealed = Serializer("IdentitySealed", registry)
        self._identity_partitions = 0
        self._lock = Lock()
        self._made: Producer | None = None

    def step(
        self,
        alias: bytes,
        request_id: UUID,
        step: str,
        *,
        origin: str = "person",
        regulation: str = "pipl",
        verified_by: str = "",
        ground: str = "",
        requester: str = "",
        callback_urls: Sequence[str] = (),
        occurred_at: int | None = None,
    ) -> None:
        """Tells one step of a request, by the words of the contract ErasureRequested.

        `occurred_at`: ms since 1970 UTC, now if not given. Raises `IntakeError`, and `ValueError` for a step that
        the contract does not know.
        """
        record = {
            "request_id": request_id.bytes,
            "occurred_at": self._now() if occurred_at is None else occurred_at,
            "step": step,
            "origin": origin,
            "regulation": regulation,
            "verified_by": verified_by,
            "ground": ground,
            "requester": requester,
            "callback_urls": list(callback_urls),
        }
        self._send(ERASURE_REQUESTS, alias, self._steps.encode(record))

    def receipt(
        self,
        request_id: UUID,
        target: str,
        answer: str,
        *,
        grade: Grade,
        detail: str = "",
        ground: str = "",
        evidence: str = "",
        source: str = "",
        idempotency_key: UUID | None = None,
    ) -> None:
        """Tells what became of an erasure at one target, by the words of the contract ErasureReceipt.

        Raises as `step` does.
        """
        record = {
            "request_id": request_id.bytes,
            "target": target,
            "occurred_at": self._now(),
            "idempotency_key": None if idempotency_key is None else idempotency_key.bytes,
            "answer": answer,
            "grade": grade.name,
            "detail": detail,
            "ground": ground,
            "evidence": evidence,
            "source": source,
        }
        self._send(ERASURE_RECEIPTS, request_id.bytes, self._receipts.encode(record))

    def add_identities(self, public_key: bytes, alias: bytes, identities: Sequence[Identity], *, pepper: bytes) -> None:
        """Seals what a requester knows of a person to the controller's public key (PEM), beside what services know.

        `pepper` keys the digest that tells this record apart, as at the edge: the same identities are one record.
        Raises `IntakeError`, and `ValueError` for a key that cannot be used.
        """
        if not identities:
            return
        key = load_public_key(public_key)
        distinct = tuple(dict.fromkeys(identities))
        record = {"sealed_at": self._now(), "key_id": key_id(key), "sealed": seal(key, alias, distinct)}
        # All records of a person lie together, where the person's events lie.
        self._send(
            IDENTITIES,
            identities_key(pepper, alias, plain_identities(distinct)),
            self._sealed.encode(record),
            partition_of(alias, self._partitions_of_identities()),
        )

    def check(self, timeout: float = 5.0) -> None:
        """Raises `IntakeError` when Kafka does not answer within `timeout` seconds, or lacks a topic."""
        try:
            existing = self._producer().list_topics(timeout=timeout).topics
        except KafkaException as error:
            raise IntakeError(f"no answer from Kafka at {self._kafka.bootstrap}: {error.args[0].str()}") from error
        missing = [topic for topic in (ERASURE_REQUESTS, ERASURE_RECEIPTS, IDENTITIES) if topic not in existing]
        if missing:
            names = ", ".join(missing)
            raise IntakeError(f"Kafka at {self._kafka.bootstrap} has no {names}: run `lineage topics apply`")

    def close(self) -> None:
        """Waits for what other threads still have under way."""
        if self._made is not None:
            self._made.flush(_DELIVERY_SECONDS)

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _producer(self) -> Producer:
        # Made when it is needed: a process that only reads opens no connection.
        with self._lock:
            if self._made is None:
                self._made = self._kafka.producer(
                    **{"linger.ms": 5, "delivery.timeout.ms": int(_DELIVERY_SECONDS * 1000)}
                )
            return self._made

    def _partitions_of_identities(self) -> int:
        if not self._identity_partitions:
            try:
                metadata = self._producer().list_topics(IDENTITIES, timeout=_DELIVERY_SECONDS).topics[IDENTITIES]
            except KafkaException as error:
                raise IntakeError(f"no answer from Kafka at {self._kafka.bootstrap}: {error.args[0].str()}") from error
            if metadata.error is not None:
                raise IntakeError(f"Kafka at {self._kafka.bootstrap} has no {IDENTITIES}: run `lineage topics apply`")
            self._identity_partitions = len(metadata.partitions)
        return self._identity_partitions

    def _send(self, topic: str, key: bytes, value: bytes, partition: int = _BY_KEY) -> None:
        told = Event()
        failed: list[str] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failed.append(error.str())
            told.set()

        producer = self._producer()
        try:
            producer.produce(topic, value, key, partition, on_delivery=delivered)
        except (KafkaException, BufferError) as error:
            raise IntakeError(f"nothing can be sent to {topic} now: {error}") from error
        # Librdkafka reports every message in the end, if only as timed out. The report may come in on another thread.
        while not told.is_set():
            producer.poll(0.05)
        if failed:
            raise IntakeError(f"Kafka did not take a record of {topic}: {failed[0]}. Tell it again")
