"""The topic `lineage-seals`: seals encoded, decoded and read back. What they mean: processors/seals.py.

A seal of partition n stands in partition n of its topic. Trusts nothing that it reads: whoever needs it checks it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import IsolationLevel
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from processors.erasure_certificate import thumbprint
from processors.seals import SIGNATURE_SIZE, is_signed, seal_hash, sign
from streams.contracts import contract
from streams.kafka import Kafka
from streams.lag import end_offsets
from streams.log_ranges import read_range
from streams.scan import MissingTopicError
from streams.serdes import DecodeError, Registry, SchemaBook, decode_body, encode_body
from streams.topics import LINEAGE_SEALS

# Seals looked at from the end of a partition in search of the last one, at first; aborted ones may lie in between.
_LOOK_BACK = 16


@dataclass(frozen=True)
class Seal:
    """A seal as it was read, at an offset of its topic. `body`: its bytes without the header, signature last."""

    offset: int
    partition: int
    number: int
    start: int
    end: int
    records: int
    digest: bytes
    previous: bytes
    sealed_at: int
    signed_by: str
    body: bytes

    @property
    def hash(self) -> bytes:
        """What the next one has as `previous`."""
        return seal_hash(self.body)


class SealEncoder:
    """Signs and encodes seals."""

    def __init__(self, key: Ed25519PrivateKey, registry: Registry | None = None) -> None:
        self._key = key
        self._signed_by = thumbprint(key.public_key())
        self._header = SchemaBook(registry).header("BatchSealed")
        self._parsed = contract("BatchSealed").parsed

    def encode(self, fields: dict[str, Any]) -> tuple[bytes, bytes]:
        """The message value of a seal, and the seal's hash. `fields`: all but signature and who signed."""
        body = encode_body(self._parsed, fields | {"signed_by": self._signed_by, "signature": bytes(SIGNATURE_SIZE)})
        body = body[:-SIGNATURE_SIZE] + sign(body[:-SIGNATURE_SIZE], self._key)
        return self._header + body, seal_hash(body)


class SealReader:
    """Seals of each partition in their order. Every method raises `MissingTopicError`, `KafkaException`,
    `TimeoutError`."""

    def __init__(self, kafka: Kafka, registry: Registry | None = None) -> None:
        self._kafka = kafka
        self._book = SchemaBook(registry)
        self._admin = kafka.admin()

    def all(self, partition: int) -> Iterator[Seal | DecodeError]:
        """Every seal; for what is none, the error."""
        yield from self._read(partition, 0, self._end(partition))

    def last(self, partition: int, key: Ed25519PublicKey) -> Seal | None:
        """Where the chain of a partition ends: the last seal signed with `key`; where the key is new and has signed
        none, the last of any key; None: there is none yet. What others put between is for verification to name."""
        end = self._end(partition)
        back = _LOOK_BACK
        while end:
            found = [one for one in self._read(partition, max(0, end - back), end) if isinstance(one, Seal)]
            # By number: an old one may have been told again.
            own = [seal for seal in found if is_signed(seal.body, key)]
            if own or (found and back >= end):
                return max(own or found, key=lambda seal: seal.number)
            if back >= end:
                break
            back *= 8
        return None

    def _end(self, partition: int) -> int:
        # What is just being committed is waited for: it may be what counts.
        ends = end_offsets(self._admin, [LINEAGE_SEALS], isolation=IsolationLevel.READ_UNCOMMITTED)
        try:
            return ends[LINEAGE_SEALS, partition]
        except KeyError:
            raise MissingTopicError(
                f"Kafka at {self._kafka.bootstrap} has no partition {partition} of {LINEAGE_SEALS}: "
                "run `lineage topics apply`"
            ) from None

    def _read(self, partition: int, start: int, end: int) -> Iterator[Seal | DecodeError]:
        for batch in read_range(self._kafka, LINEAGE_SEALS, partition, start, end):
            for message in batch:
                try:
                    yield self._decoded(message.offset(), message.value() or b"")
                except DecodeError as error:
                    yield DecodeError(f"{LINEAGE_SEALS}/{partition}/{message.offset()} is no seal: {error}")

    def _decoded(self, offset: int, value: bytes) -> Seal:
        writer = self._book.writer(value)
        if writer.contract.name != "BatchSealed":
            raise DecodeError(f"a {writer.contract.name}")
        body = value[len(writer.header) :]
        fields = decode_body(writer.contract, body)
        del fields["signature"]
        return Seal(offset=offset, body=body, **fields)
