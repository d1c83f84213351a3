"""Seals: what of the log a loader has loaded, hashed, chained and signed, so that nobody can change it unnoticed.

A seal stands for a range of offsets of one partition. It holds the SHA-256 of the records there and that of the seal
before it, and is signed with Ed25519. The chain of a partition has no gap: each range begins where the last one ended.
Pure: no Avro, no Kafka, no clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from processors.erasure_certificate import load_verifying_key

DIGEST_SIZE = 32
SIGNATURE_SIZE = 64
# What the first seal of a partition has for the seal before it.
NOTHING_BEFORE = bytes(DIGEST_SIZE)
# Nothing else that is signed with an Ed25519 key begins like this.
_DOMAIN = b"lineage-seal/1\0"
# Records whose joined bytes stay in the processor's cache: twice as fast as all at once.
_AT_ONCE = 2048
_PEM_END = b"-----END PUBLIC KEY-----"


class RangeDigest:
    """SHA-256 over the records of a range: offsets, keys and values, as they stand in the log.

    Fed in pieces of any size, in the order of offsets; how it was cut does not matter. Each column has a hash of its
    own, lengths among them, so that no byte can move from a key to a value or from a record to the next; the digest is
    the hash of these and of the number of records.
    """

    def __init__(self) -> None:
        self.records = 0
        self._columns = [hashlib.sha256() for _ in range(5)]

    def add(self, offsets: npt.NDArray[np.int64], keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Takes the next records."""
        for start in range(0, len(offsets), _AT_ONCE):
            piece = slice(start, start + _AT_ONCE)
            self._add(offsets[piece], keys[piece], values[piece])

    def _add(self, offsets: npt.NDArray[np.int64], keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        n = len(offsets)
        self.records += n
        columns: tuple[Any, ...] = (
            np.ascontiguousarray(offsets, "<i8"),
            np.fromiter(map(len, keys), "<i4", n),
            np.fromiter(map(len, values), "<i4", n),
            b"".join(keys),
            b"".join(values),
        )
        for column, piece in zip(self._columns, columns, strict=True):
            column.update(piece)

    def digest(self) -> bytes:
        """32 bytes."""
        whole = hashlib.sha256(self.records.to_bytes(8, "little"))
        for column in self._columns:
            whole.update(column.digest())
        return whole.digest()


def load_trusted_keys(pem: bytes) -> list[Ed25519PublicKey]:
    """Public keys, one PEM behind the other: after a key was changed, the old one and the new one. Raises
    `ValueError`."""
    pieces = [piece + _PEM_END for piece in pem.split(_PEM_END)[:-1]]
    if not pieces:
        raise ValueError("no public key in PEM is there")
    return [load_verifying_key(piece) for piece in pieces]


def sign(unsigned: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signature (64 bytes) of a seal. `unsigned`: the encoded seal without its last field, the signature."""
    return key.sign(_DOMAIN + unsigned)


def is_signed(body: bytes, key: Ed25519PublicKey) -> bool:
    """Whether an encoded seal, its signature last, was signed with this key. The bytes count as they are, so that a
    field that is added one day needs no other way of checking."""
    try:
        key.verify(body[-SIGNATURE_SIZE:], _DOMAIN + body[:-SIGNATURE_SIZE])
    except InvalidSignature:
        return False
    return True


def seal_hash(body: bytes) -> bytes:
    """What the next seal of the partition has for this one: 32 bytes, over all of it."""
    return hashlib.sha256(body).digest()
