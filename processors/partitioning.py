"""Kafka's murmur2 partitioner, for a record that must lie where another key lies. Pure.

Source: org.apache.kafka.common.utils.Utils.murmur2 and BuiltInPartitioner; clients do the same with
`partitioner=murmur2`.
"""

from __future__ import annotations

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """The hash of a key, an unsigned 32-bit integer."""
    length = len(key)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(key[i : i + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if length & 3:
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that a keyed record goes to."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
