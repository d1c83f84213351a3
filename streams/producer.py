"""The producer client: the edge where events become pseudonymous and enter Kafka.

It turns the user id into the alias (the Kafka key), seals the person's identifiers to the controller's key, and
encodes values that carry no identifier. It never sends a user id in the clear, and never counts as produced what
Kafka has not acknowledged.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from threading import RLock
from types import TracebackType
from typing import Any
from uuid import UUID, uuid4

from confluent_kafka import KafkaError, KafkaException, Producer

from processors.partitioning import partition_of
from processors.pseudonyms import alias, check_pepper, identities_key
from streams.documents import parse_instant
from streams.identities import (
    Identity,
    SeenIdentities,
    check_identity,
    key_id,
    load_public_key,
    plain_identities,
    seal,
)
from streams.serdes import Registry, Serializer
from streams.sources.encoding import Encoder
from streams.sources.events import EVENTS, Checker, Mapped, Refused, check_time, refuse_personal
from streams.topics import CONSENT, DEAD_LETTERS, IDENTITIES, PARTITIONER, SHARING, TELEMETRY

# The producer's own queue holds 100,000 messages; waiting for it at half keeps memory flat and the broker busy.
_IN_FLIGHT = 50_000
# Librdkafka's RD_KAFKA_PARTITION_UA: by the key.
PARTITION_UA = -1

Time = datetime | str | int


class DeliveryError(Exception):
    """Kafka did not take what was sent; the text says how much and why. What was not acknowledged must be sent again
    (same events, same ids)."""


class MissingTopicsError(Exception):
    """The input topics are not there. They are never created by accident: their partitions matter."""


class LineageProducer:
    """Sends collections, disclosures and consent changes of one service.

    >>> with LineageProducer("localhost:9092", pepper, controller_public_key, source="shop") as lineage:
    ...     lineage.collected("u-17", "app_open", ["ip", "model"], region="CN", storage_country="CN")
    ...     lineage.consent("u-17", "accept", version=1)
    ...     lineage.shared("u-17", "mapper-ltd", ["user.device"], purpose="service", region="CN")

    Thread-safe; sends in the background. `flush` (and leaving the `with` block) waits for Kafka's acknowledgement
    and raises `DeliveryError` when something was not taken.

    `controller_public_key`: PEM of an X25519 key. `config`: more librdkafka settings (security, TLS…). `clock`: ms
    since 1970 UTC. `remembered_people`, `remembered_seconds`: for how many people, and how long, it is remembered that
    their identities were sealed; afterwards they are sealed again, as an erasure may have taken them. Raises
    `ValueError` for a pepper or a key that cannot be used.
    """

    def __init__(
        self,
        bootstrap: str,
        pepper: bytes,
        controller_public_key: bytes,
        registry: Registry | None = None,
        *,
        source: str = "",
        config: Mapping[str, Any] | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        remembered_people: int = 200_000,
        remembered_seconds: float = 6 * 3600,
    ) -> None:
        self.bootstrap = bootstrap
        self.config = dict(config or {})
        self.pepper = check_pepper(pepper)
        self.registry = registry
        self.acknowledged: Counter[str] = Counter()
        self._public_key = load_public_key(controller_public_key)
        self._key_id = key_id(self._public_key)
        self._source = source
        self._clock = clock
        self._checkers = {topic: Checker(topic) for topic in EVENTS}
        self._encoder = Encoder(registry)
        self._sealed = Serializer("IdentitySealed", registry)
        self._dead = Serializer("DeadLetter", registry)
        self._seen = SeenIdentities(remembered_people, remembered_seconds)
        self._failed: Counter[str] = Counter()
        self._partitions = 0
        self._lock = RLock()
        self._producer = Producer(
            {
                "linger.ms": 20,
                "compression.type": "lz4",
                "delivery.timeout.ms": 120_000,
                **self.config,
                # Not to be configured away: no duplicates by retries, and a person stays on one partition.
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "partitioner": PARTITIONER,
            }
        )

    def collected(
        self,
        user_id: str,
        event_type: str,
        fields: Iterable[str] = (),
        *,
        purpose: str | None = None,
        categories: Iterable[str] = (),
        region: str | None = None,
        storage_country: str | None = None,
        occurred_at: Time | None = None,
        event_id: UUID | None = None,
        identities: Iterable[Identity] = (),
    ) -> UUID:
        """Data about a person was collected: `fields` are names, never contents. Returns the event's id.

        `occurred_at` is now if not given. Raises `ValueError` that says which argument is wrong.
        """
        values = {
            "event_type": event_type,
            "purpose": purpose,
            "categories": categories,
            "fields": fields,
            "region": region,
            "storage_country": storage_country,
        }
        return self._send(TELEMETRY, user_id, identities, event_id, occurred_at, None, values)

    def shared(
        self,
        user_id: str,
        recipient: str | None,
        categories: Iterable[str] = (),
        *,
        activity: str = "share",
        purpose: str | None = None,
        discloser: str = "self",
        region: str | None = None,
        collected_at: Time | None = None,
        order: str | None = None,
        occurred_at: Time | None = None,
        event_id: UUID | None = None,
        identities: Iterable[Identity] = (),
    ) -> UUID:
        """Data about a person was disclosed: `activity` is share, transfer or publish (recipient None).

        Returns the event's id. Raises `ValueError` that says which argument is wrong.
        """
        values = {
            "activity": activity,
            "discloser": discloser,
            "recipient": recipient,
            "purpose": purpose,
            "categories": categories,
            "region": region,
            "order": order,
        }
        return self._send(SHARING, user_id, identities, event_id, occurred_at, collected_at, values)

    def consent(
        self,
        user_id: str,
        action: str,
        *,
        version: int | None = None,
        band: str | None = None,
        granted: bool | None = None,
        activity: str | None = None,
        purpose: str | None = None,
        recipient: str | None = None,
        categories: Iterable[str] = (),
        occurred_at: Time | None = None,
        event_id: UUID | None = None,
        identities: Iterable[Identity] = (),
    ) -> UUID:
        """A person's consent changed: `action` is accept (`version`), leave, age (`band`), guardian (`granted`),
        grant or withdraw (`activity`, `purpose`, and for disclosures `recipient` and `categories`).

        Returns the event's id. Raises `ValueError` that says which argument is missing or wrong.
        """
        values = {
            "action": action,
            "version": version,
            "band": band,
            "granted": granted,
            "activity": activity,
            "purpose": purpose,
            "recipient": recipient,
            "categories": categories,
        }
        return self._send(CONSENT, user_id, identities, event_id, occurred_at, None, values)

    def _send(
        self,
        topic: str,
        user_id: str,
        identities: Iterable[Identity],
        event_id: UUID | None,
        occurred_at: Time | None,
        collected_at: Time | None,
        values: dict[str, Any],
    ) -> UUID:
        if not isinstance(user_id, str) or not user_id.strip():
            raise ValueError("`user_id` must be text that is not empty")
        new_id = event_id or uuid4()
        given = values | {"source": self._source}
        try:
            coerced = []
            for name, field in EVENTS[topic].fields.items():
                value = given[name]
                # Any iterable is welcome; a single text is one name, as everywhere.
                if field.default == () and not isinstance(value, str):
                    value = tuple(value)
                try:
                    coerced.append(field.coerce(value))
                except Refused as refused:
                    raise Refused(f"`{name}` {refused}") from None
            checked = self._checkers[topic].checked(tuple(coerced))
            known = tuple(check_identity(*identity) for identity in identities)
            refuse_personal(topic, checked, user_id, known)
            event = Mapped(
                topic,
                user_id,
                known,
                new_id.bytes,
                self._clock() if occurred_at is None else _ms(occurred_at, "occurred_at"),
                None if collected_at is None else _ms(collected_at, "collected_at"),
                checked,
            )
        except Refused as refused:
            raise ValueError(str(refused)) from None
        self.write([event])
        return new_id

    def write(self, events: Sequence[Mapped]) -> None:
        """Sends events that are checked already (by a mapping). Blocks while too much is under way.

        Raises `DeliveryError` as soon as Kafka is known to have refused something.
        """
        messages: dict[tuple[str, int], list[dict[str, Any]]] = {}
        now = self._clock()
        with self._lock:
            for event in events:
                key = alias(self.pepper, event.user_id)
                grown = self._seen.grown(key, event.user_id, event.identities, now)
                if grown is not None:
                    sealed = {
                        "sealed_at": now,
                        "key_id": self._key_id,
                        "sealed": seal(self._public_key, key, grown),
                    }
                    # Several records of one person lie together, where the person's events lie.
                    where = IDENTITIES, partition_of(key, self._identity_partitions())
                    record = {
                        "key": identities_key(self.pepper, key, plain_identities(grown)),
                        "value": self._sealed.encode(sealed),
                    }
                    messages.setdefault(where, []).append(record)
                messages.setdefault((event.topic, PARTITION_UA), []).append(
                    {"key": key, "value": self._encoder.encode(event)}
                )
            for (topic, partition), batch in messages.items():
                self._produce(topic, batch, partition)
            self._raise_failures()

    def _identity_partitions(self) -> int:
        if not self._partitions:
            metadata = self._producer.list_topics(IDENTITIES, timeout=30).topics[IDENTITIES]
            if metadata.error is not None:
                raise MissingTopicsError(f"Kafka at {self.bootstrap} has no {IDENTITIES}: run `lineage topics apply`")
            self._partitions = len(metadata.partitions)
        return self._partitions

    def dead_letter(self, record: Mapping[str, Any]) -> None:
        """Sends a DeadLetter. Without a key: that of a source's own message may be a user id."""
        with self._lock:
            self._produce(DEAD_LETTERS, [{"value": self._dead.encode(record)}])
            self._raise_failures()

    def _produce(self, topic: str, batch: list[dict[str, Any]], partition: int = PARTITION_UA) -> None:
        def delivered(error: KafkaError | None, _message: object) -> None:
            # Reports come in on whichever thread polls.
            with self._lock:
                if error is None:
                    self.acknowledged[topic] += 1
                else:
                    self._failed[error.str()] += 1

        while batch:
            while len(self._producer) > _IN_FLIGHT:
                self._producer.poll(0.05)
            try:
                self._producer.produce_batch(topic, batch, partition, on_delivery=delivered)
            except (KafkaException, BufferError) as error:
                raise DeliveryError(f"nothing more can be sent to {topic}: {error}") from error
            # What was not queued is marked in place: a full queue drains, anything else is a failure.
            left = []
            for message in batch:
                refusal = message.pop("_error", None)
                if refusal is None:
                    continue
                if refusal.code() == KafkaError._QUEUE_FULL:
                    left.append(message)
                else:
                    self._failed[refusal.str()] += 1
            self._producer.poll(0.05 if left else 0)
            self._raise_failures()
            batch = left

    def check_topics(self, timeout: float = 10.0) -> None:
        """Raises `MissingTopicsError` when a topic that this client writes is not there, `DeliveryError` when the
        broker does not answer within `timeout` seconds."""
        try:
            existing = self._producer.list_topics(timeout=timeout).topics
        except KafkaException as error:
            raise DeliveryError(f"no answer from Kafka at {self.bootstrap}: {error.args[0].str()}") from error
        missing = [topic for topic in (*EVENTS, IDENTITIES, DEAD_LETTERS) if topic not in existing]
        if missing:
            names = ", ".join(missing)
            raise MissingTopicsError(f"Kafka at {self.bootstrap} has no {names}: run `lineage topics apply`")

    def flush(self, timeout: float = 120.0) -> dict[str, int]:
        """Waits until Kafka has acknowledged all that was sent: topic → messages acknowledged since the start.

        Raises `DeliveryError` when something was refused, or is still under way after `timeout` seconds.
        """
        # Not under the lock: other threads go on sending while this one waits.
        left = self._producer.flush(timeout)
        with self._lock:
            self._raise_failures()
            if left:
                raise DeliveryError(f"{left} messages are still not acknowledged after {timeout:g} s")
            return dict(self.acknowledged)

    def _raise_failures(self) -> None:
        if self._failed:
            reasons = "; ".join(f"{count} times: {reason}" for reason, count in self._failed.most_common(3))
            self._failed.clear()
            raise DeliveryError(f"Kafka did not take messages: {reasons}")

    def __enter__(self) -> "LineageProducer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.flush()
        else:
            # The error that is on its way says more than one about its consequences.
            self._producer.flush(5.0)


def _ms(moment: Time, name: str) -> int:
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise Refused(f"`{name}` has no time zone")
        return check_time(round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000), name)
    if isinstance(moment, bool) or not isinstance(moment, int | str):
        raise Refused(f"`{name}` is not a datetime, ISO 8601 text or ms since 1970")
    return check_time(parse_instant(moment) if isinstance(moment, str) else moment, name)
