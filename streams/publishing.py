"""Publishing policies and recipients to their compacted topics, and reading back what is published.

What was published is never contradicted: a version (or an entry of a recipient with its `effective_at`) keeps the
content it had first, because events may have been judged by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, Message

from streams.documents import format_instant
from streams.kafka import Kafka
from streams.scan import scan
from streams.serdes import Deserializer, Registry, Serializer
from streams.topics import POLICIES, RECIPIENTS

Record = dict[str, Any]


class ContradictionError(Exception):
    """Something else is published under the same version, or the same recipient and time. Nothing was published."""


class PublishError(Exception):
    """Kafka did not take a record."""


@dataclass
class Published:
    """What a publication did, by key."""

    new: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)


def published_policies(kafka: Kafka, registry: Registry | None = None) -> list[Record]:
    """`PolicyPublished` records by version. Raises `MissingTopicError`, `TimeoutError`, `KafkaException`."""
    return sorted(_read(kafka, POLICIES, registry).values(), key=lambda record: record["version"])


def published_recipients(kafka: Kafka, registry: Registry | None = None) -> list[Record]:
    """`RecipientRegistered` records by id and time. Raises as `published_policies` does."""
    return sorted(
        _read(kafka, RECIPIENTS, registry).values(), key=lambda record: (record["id"], record["effective_at"])
    )


def publish_policies(kafka: Kafka, records: Iterable[Record], registry: Registry | None = None) -> Published:
    """Publishes `PolicyPublished` records (`streams.policies.policy_record`); returns when Kafka has them.

    Raises `ContradictionError` before anything is published, `PublishError`, and as `published_policies` does.
    """
    keyed = [(policy_key(record), record) for record in records]
    return _publish(kafka, POLICIES, "PolicyPublished", keyed, "policy version", registry)


def publish_recipients(kafka: Kafka, records: Iterable[Record], registry: Registry | None = None) -> Published:
    """Publishes `RecipientRegistered` records. Raises as `publish_policies` does."""
    keyed = [(recipient_key(record), record) for record in records]
    return _publish(kafka, RECIPIENTS, "RecipientRegistered", keyed, "recipient", registry)


def policy_key(record: Mapping[str, Any]) -> str:
    """The Kafka key of a policy: its version."""
    return str(record["version"])


def recipient_key(record: Mapping[str, Any]) -> str:
    """The Kafka key of an entry: several entries of one recipient must all survive compaction."""
    return f"{record['id']}@{format_instant(record['effective_at'])}"


def _publish(
    kafka: Kafka,
    topic: str,
    contract: str,
    keyed: list[tuple[str, Record]],
    what: str,
    registry: Registry | None,
) -> Published:
    serializer, deserializer = Serializer(contract, registry), Deserializer(registry)
    known = _read(kafka, topic, registry)
    told = Published()
    values: dict[str, bytes] = {}
    for key, record in keyed:
        value = serializer.encode(record)
        # As it comes back: defaults filled in, and nothing that a record cannot hold.
        _, comparable = deserializer.decode(value)
        if key not in known:
            known[key] = comparable
            values[key] = value
            told.new.append(key)
        elif known[key] == comparable:
            told.unchanged.append(key)
        else:
            differing = ", ".join(name for name in comparable if comparable[name] != known[key].get(name))
            raise ContradictionError(
                f"{what} {key} is published already with other content ({differing}): events may have been judged by "
                f"it. Give the change a new {'version' if topic == POLICIES else 'effective_at'}. Nothing was published"
            )
    _send(kafka, topic, values)
    return told


def _send(kafka: Kafka, topic: str, values: Mapping[str, bytes]) -> None:
    failed: list[str] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failed.append(error.str())

    # A repeated record is the same record, and a broker that has just started hands out no producer ids yet.
    producer = kafka.producer(**{"enable.idempotence": False})
    for key, value in values.items():
        producer.produce(topic, key=key.encode(), value=value, on_delivery=delivered)
    left = producer.flush(30)
    if failed or left:
        raise PublishError(
            f"Kafka did not take {len(failed) + left} records of {topic}: {(failed or ['no answer'])[0]}"
        )


def _read(kafka: Kafka, topic: str, registry: Registry | None) -> dict[str, Record]:
    """The first content of each key: it is the one that jobs go by."""
    deserializer = Deserializer(registry)
    found: dict[str, Record] = {}
    for batch in scan(kafka, topic):
        for message in batch:
            if message.key() is not None and message.value() is not None:
                found.setdefault(message.key().decode(), deserializer.decode(message.value())[1])
    return found
