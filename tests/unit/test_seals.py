"""Seals: what a digest depends on, and everything that can be done to a log or its seals is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from audit.seal_check import Head, LogCheck, Records, check_chains, check_log
from processors.seals import NOTHING_BEFORE, RangeDigest, load_trusted_keys
from streams.contracts import contract
from streams.seals import Seal, SealEncoder
from streams.serdes import decode_body

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
Record = tuple[int, bytes, bytes]
SUBJECT, REQUEST = bytes([7] * 16), UUID(int=7)

records = st.lists(st.tuples(st.binary(max_size=4), st.binary(max_size=4)), max_size=8).map(
    lambda pairs: [(offset, key, value) for offset, (key, value) in enumerate(pairs)]
)


def batch(those: Sequence[Record]) -> Records:
    return np.array([r[0] for r in those], np.int64), [r[1] for r in those], [r[2] for r in those]


def digest(those: Sequence[Record], cuts: Sequence[int] = ()) -> bytes:
    made, places = RangeDigest(), [0, *sorted(cuts), len(those)]
    for start, stop in pairwise(places):
        made.add(*batch(those[start:stop]))
    return made.digest()


@given(records, st.data())
def test_a_digest_does_not_depend_on_how_records_come(those: list[Record], data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(those)), max_size=4))
    assert digest(those, cuts) == digest(those)


@given(records, records)
def test_equal_digests_are_of_equal_records(one: list[Record], other: list[Record]) -> None:
    assert (digest(one) == digest(other)) == (one == other)


def test_no_byte_can_move_between_key_value_and_neighbour() -> None:
    ways = [
        [(0, b"ab", b"cd"), (1, b"ef", b"gh")],
        [(0, b"a", b"bcd"), (1, b"ef", b"gh")],
        [(0, b"ab", b"cde"), (1, b"f", b"gh")],
        [(0, b"ab", b"cd"), (2, b"ef", b"gh")],
        [(0, b"abef", b"cdgh")],
        [(0, b"ab", b"cd")],
        [],
    ]
    assert len({digest(way) for way in ways}) == len(ways)


class World:
    """A log of one partition and its seals, three records each, and what may be done to them. Offset 5 is a marker."""

    def __init__(self, key: Ed25519PrivateKey = KEY) -> None:
        self.log: list[Record] = [
            (offset, bytes([offset]) * 16, b"value %d" % offset) for offset in range(12) if offset != 5
        ]
        self.chain: list[Seal | Exception] = []
        self.sealed(key, ((0, 3), (3, 7), (7, 10)))

    ends = property(lambda _self: {0: 12})

    def sealed(self, key: Ed25519PrivateKey, ranges: Sequence[tuple[int, int]]) -> None:
        self.chain, previous = [], NOTHING_BEFORE
        for number, (start, end) in enumerate(ranges):
            seal = self.seal(key, number, start, end, previous)
            self.chain.append(seal)
            previous = seal.hash

    def seal(self, key: Ed25519PrivateKey, number: int, start: int, end: int, previous: bytes) -> Seal:
        those = [record for record in self.log if start <= record[0] < end]
        fields = {"partition": 0, "number": number, "start": start, "end": end, "records": len(those)}
        fields |= {"digest": digest(those), "previous": previous, "sealed_at": 1_772_323_200_000}
        return self.read(SealEncoder(key).encode(fields)[0][10:], 2 * number)

    @staticmethod
    def read(body: bytes, offset: int) -> Seal:
        fields = decode_body(contract("BatchSealed"), body)
        del fields["signature"]
        return Seal(offset=offset, body=body, **fields)

    def seals(self, partition: int) -> Iterator[Any]:
        return iter(self.chain)

    def records(self, partition: int) -> Iterator[Records]:
        for start in range(0, len(self.log), 4):
            yield batch(self.log[start : start + 4])

    def completed(self, keys: Sequence[bytes], values: Sequence[bytes]) -> list[tuple[bytes, UUID]]:
        return [(key, REQUEST) for key, value in zip(keys, values, strict=True) if value == b"erased"]

    def check(self, earlier: dict[int, Head] | None = None, key: Ed25519PrivateKey = KEY) -> LogCheck:
        return check_log(self, [key.public_key()], earlier)


def told(found: LogCheck) -> list[tuple[str, int, int]]:
    return [(one.reason, one.start, one.end) for one in found.differences]


def test_a_log_as_it_was_sealed_has_no_differences() -> None:
    found = World().check()
    assert (told(found), found.records, found.sealed, found.seals) == ([], 11, 9, 3)
    assert found.sealed_to == {0: 10}
    assert check_chains(World(), [KEY.public_key()]).heads == found.heads


def changed(world: World) -> None:
    offset, key, value = world.log[4]
    world.log[4] = (offset, key, bytes([value[0] ^ 1]) + value[1:])


def another_key(world: World) -> None:
    offset, _, value = world.log[4]
    world.log[4] = (offset, SUBJECT, value)


def removed(world: World) -> None:
    del world.log[4]


def added(world: World) -> None:
    world.log.insert(5, (5, SUBJECT, b"never said"))


def cut_off(world: World) -> None:
    del world.log[:4]


@pytest.mark.parametrize("tamper", [changed, another_key, removed, added])
def test_a_log_that_was_changed_is_named_by_its_offsets(tamper: Callable[[World], None]) -> None:
    world = World()
    tamper(world)
    assert told(world.check()) == [("records", 3, 7)]


def test_a_log_whose_beginning_was_deleted_is_named() -> None:
    world = World()
    cut_off(world)
    assert told(world.check()) == [("records", 0, 3), ("records", 3, 7)]


def test_what_is_not_sealed_yet_is_counted() -> None:
    world = World()
    world.log.append((12, SUBJECT, b"new"))
    found = world.check()
    assert (told(found), found.records - found.sealed) == ([], 3)


def test_a_seal_that_was_taken_out_is_named() -> None:
    world = World()
    del world.chain[1]
    found = world.check()
    assert told(found) == [("chain", 7, 10)]
    assert found.sealed == 6


def test_a_chain_without_its_first_seal_is_named() -> None:
    world = World()
    del world.chain[0]
    assert told(world.check()) == [("chain", 3, 7)]


def test_a_seal_that_is_told_again_is_named_and_breaks_nothing() -> None:
    world = World()
    world.chain.append(world.chain[0])
    found = world.check()
    assert told(found) == [("chain", 0, 3)]
    assert found.sealed == 9


def test_seals_in_another_order_are_named() -> None:
    world = World()
    world.chain[1:] = world.chain[:0:-1]
    assert {reason for reason, *_ in told(world.check())} == {"chain"}


def test_a_seal_with_another_key_is_named() -> None:
    world = World()
    first, second, _ = world.chain
    assert isinstance(first, Seal)
    assert isinstance(second, Seal)
    world.chain[2] = world.seal(OTHER, 2, 7, 10, second.hash)
    assert told(world.check()) == [("key", 7, 10)]


def test_a_seal_whose_fields_were_changed_is_named() -> None:
    world = World()
    for offset in (0, 20, 60, len(world.chain[1].body) - 1):  # type: ignore[union-attr]
        tampered = World()
        seal = tampered.chain[1]
        assert isinstance(seal, Seal)
        body = bytearray(seal.body)
        body[offset] ^= 2
        tampered.chain[1] = replace(seal, body=bytes(body))
        assert "signature" in {reason for reason, *_ in told(tampered.check())}


def test_what_is_no_seal_is_named() -> None:
    world = World()
    world.chain.insert(1, ValueError("not a seal"))
    assert told(world.check()) == [("unreadable", 3, 3)]


def heads(world: World) -> dict[int, Head]:
    return world.check().heads


def test_a_chain_that_goes_on_holds_its_earlier_head() -> None:
    world = World()
    earlier = heads(world)
    last = world.chain[-1]
    assert isinstance(last, Seal)
    world.chain.append(world.seal(KEY, 3, 10, 12, last.hash))
    assert told(world.check(earlier)) == []


def test_a_log_rewritten_and_sealed_anew_with_the_same_key_is_found_by_a_head() -> None:
    world = World()
    earlier = heads(world)
    changed(world)
    world.sealed(KEY, ((0, 3), (3, 7), (7, 10)))
    assert told(world.check()) == []
    assert told(world.check(earlier)) == [("head", 0, 10)]


def test_a_chain_whose_tail_was_cut_off_is_found_by_a_head() -> None:
    world = World()
    earlier = heads(world)
    del world.chain[-1]
    assert told(world.check()) == []
    assert told(world.check(earlier)) == [("head", 0, 10)]
    assert told(check_chains(world, [KEY.public_key()], earlier)) == [("head", 0, 10)]


def test_a_partition_that_is_gone_is_found_by_a_head() -> None:
    earlier = heads(World())
    assert told(World().check(earlier | {3: earlier[0]})) == [("head", 0, 10)]


def test_erasures_count_where_the_log_is_what_it_was() -> None:
    world = World()
    world.log[1] = (1, SUBJECT, b"erased")
    assert world.check().markers == {}
    world.sealed(KEY, ((0, 3), (3, 7), (7, 10)))
    assert world.check().markers == {SUBJECT: {REQUEST}}
    world.log[-1] = (11, bytes(16), b"erased")
    assert world.check().markers == {SUBJECT: {REQUEST}, bytes(16): {REQUEST}}


def test_keys_may_follow_one_another() -> None:
    pems = [
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        for key in (KEY, OTHER)
    ]
    found = load_trusted_keys(b"".join(pems))
    assert [key.public_bytes_raw() for key in found] == [key.public_key().public_bytes_raw() for key in (KEY, OTHER)]
    with pytest.raises(ValueError, match="no public key"):
        load_trusted_keys(b"")
