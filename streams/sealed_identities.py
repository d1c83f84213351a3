"""What is known of people by the real identifiers, sealed as it lies in the topic `identities`.

Reads all of the topic for a batch of people; whoever asks keeps what was found no longer than the request is open.
Opening takes the controller's private key, and happens for one dispatch at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from processors.erasure_commands import Identity
from streams.identities import open_sealed
from streams.kafka import Kafka
from streams.scan import scan
from streams.serdes import Deserializer, Registry
from streams.subjects import ALIAS_SIZE
from streams.topics import IDENTITIES


class Sealed(NamedTuple):
    """One record of `identities`: its place and key, for its tombstone, and the sealed bytes."""

    partition: int
    key: bytes
    sealed: bytes


def find_sealed(
    kafka: Kafka, aliases: Collection[bytes], registry: Registry | None = None
) -> dict[bytes, list[Sealed]]:
    """Every record of each alias, as it stands now. Raises `MissingTopicError`, `TimeoutError`, `KafkaException`,
    `DecodeError`."""
    found: dict[bytes, dict[bytes, Sealed]] = {alias: {} for alias in aliases}
    deserializer = Deserializer(registry)
    for batch in scan(kafka, IDENTITIES):
        for message in batch:
            key = message.key() or b""
            of_person = found.get(key[:ALIAS_SIZE])
            if of_person is None:
                continue
            if message.value() is None:
                of_person.pop(key, None)
                continue
            _, record = deserializer.decode(message.value())
            of_person[key] = Sealed(message.partition(), key, record["sealed"])
    return {alias: list(records.values()) for alias, records in found.items()}


def open_identities(private_key: X25519PrivateKey, alias: bytes, records: Sequence[Sealed]) -> tuple[Identity, ...]:
    """The distinct identifiers of a person. Raises `SealError`."""
    opened = [identity for record in records for identity in open_sealed(private_key, alias, record.sealed)]
    distinct = {tuple(sorted(identity.items())): identity for identity in opened}
    return tuple(distinct.values())
