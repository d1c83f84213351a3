"""Batch decoding: every record as `fastavro` reads it alone, whatever stands beside it."""

import os
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.columnar import CONTAINER_FROM, MISSING, BatchDecoder, read_varints
from streams.containers import read_container
from streams.contracts import contract
from streams.serdes import DecodeError, Deserializer, SchemaBook, Serializer

SHARED = Serializer("DataShared")
COLLECTED = Serializer("TelemetryCollected")
TAKES = frozenset({"DataShared", "TelemetryCollected"})

words = st.text("abcdefghij._*é", min_size=0, max_size=12)
times = st.integers(0, 4_102_444_799_999)
disclosures = st.fixed_dictionaries(
    {
        "event_id": st.binary(min_size=16, max_size=16),
        "occurred_at": times,
        "collected_at": st.none() | times,
        "activity": st.sampled_from(["share", "transfer", "publish"]),
        "discloser": words,
        "recipient": st.none() | words,
        "purpose": st.none() | words,
        "categories": st.lists(words, max_size=4),
        "region": st.none() | words,
        "order": st.none() | words,
        "source": words,
    }
)


def read_back(values: list[bytes | None]) -> tuple[dict[int, dict[str, Any]], dict[int, DecodeError]]:
    """Each position's record, put together from the columns, and the refused."""
    batches, refused = BatchDecoder(SchemaBook()).decode(values, TAKES)
    records: dict[int, dict[str, Any]] = {}
    for decoder, batch in batches:
        for i, position in enumerate(batch.index.tolist()):
            record = decoder.tails.row(int(batch.tail[i]), named=True)
            for name, column in batch.columns.items():
                cell = column[i]
                record[name] = bytes(cell) if column.ndim == 2 else None if cell == MISSING else int(cell)
            records[position] = record
            value = values[position]
            assert value is not None
            assert value == decoder.writer.header + batch.heads()[i] + decoder.encoded[int(batch.tail[i])]
    return records, refused


@given(st.lists(disclosures, min_size=1, max_size=200))
@settings(max_examples=60, deadline=None)
def test_a_batch_is_read_as_its_records_are(events: list[dict[str, Any]]) -> None:
    values = [SHARED.encode(event) for event in events]
    records, refused = read_back(list(values))
    assert not refused
    one_by_one = Deserializer()
    assert records == {i: one_by_one.decode(value)[1] for i, value in enumerate(values)}


def damage(value: bytes, how: int, rng: random.Random) -> bytes | None:
    match how:
        case 0:
            return value[: rng.randrange(len(value))]
        case 1:
            return value + rng.randbytes(rng.randrange(1, 20))
        case 2:
            return rng.randbytes(rng.randrange(60))
        case 3:
            return None
        case _:
            at = rng.randrange(len(value))
            return value[:at] + bytes([value[at] ^ (1 << rng.randrange(8))]) + value[at + 1 :]


@given(st.integers(0, 2**32), st.integers(1, 400))
@settings(max_examples=80, deadline=None)
def test_damage_is_caught_where_it_stands(seed: int, n: int) -> None:
    """A record reads in a batch exactly as it reads alone: refused if it is refused there, else the same."""
    rng = random.Random(seed)
    values: list[bytes | None] = []
    for i in range(n):
        event = {"event_id": rng.randbytes(16), "occurred_at": rng.randrange(4 * 10**12), "event_type": f"e{i % 90}"}
        value: bytes | None = COLLECTED.encode({**event, "fields": [f"f{rng.randrange(50)}"], "categories": []})
        if rng.random() < 0.1 and value is not None:
            value = damage(value, rng.randrange(5), rng)
        values.append(value)
    records, refused = read_back(values)
    assert sorted([*records, *refused]) == list(range(n))
    one_by_one = Deserializer()
    for i, value in enumerate(values):
        try:
            assert value is not None
            _, alone = one_by_one.decode(value)
        except (DecodeError, AssertionError):
            assert i in refused
        else:
            if i in refused:
                assert not 0 <= alone["occurred_at"] < 4_102_444_800_000
            else:
                assert records[i] == alone


def test_a_container_refuses_what_fits_only_by_its_neighbours() -> None:
    """Two bodies that swap bytes at their border make the same block; only the nonces tell."""
    schema = contract("DataShared").schema
    body = SHARED.encode({"event_id": bytes(16), "occurred_at": 1, "activity": "share"})[10:]
    bodies = [body] * CONTAINER_FROM
    assert read_container(schema, bodies) is not None
    for broken in (
        [*bodies[:5], body[:-1], *bodies[6:]],
        [*bodies[:5], body + b"\x00", *bodies[6:]],
        [*bodies[:-1], body + b"\x00"],
        [*bodies[:-1], body[:-1]],
        [*bodies[:5], body[:-3], body[-3:] + body, *bodies[7:]],
        [*bodies[:5], os.urandom(40), *bodies[6:]],
    ):
        assert read_container(schema, broken) is None


def test_a_foreign_record_type_is_refused_with_its_name() -> None:
    batches, refused = BatchDecoder(SchemaBook()).decode(
        [COLLECTED.encode({"event_id": bytes(16), "occurred_at": 1, "event_type": "x"})], frozenset({"DataShared"})
    )
    assert not batches
    assert "TelemetryCollected" in str(refused[0])


@pytest.mark.parametrize("value", [0, 1, -1, 63, 64, -64, -65, 2**31, -(2**31), 2**63 - 1, -(2**63), 1_772_323_200_123])
def test_varints(value: int) -> None:
    zigzag = (value << 1) ^ (value >> 63)
    encoded = bytearray()
    zigzag &= 2**64 - 1
    while zigzag > 127:
        encoded.append(zigzag & 127 | 128)
        zigzag >>= 7
    encoded.append(zigzag)
    buffer = np.frombuffer(bytes(encoded) + bytes(16), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(buffer, 16)
    values, sizes = read_varints(windows, np.zeros(1, np.int64))
    assert (int(values[0]), int(sizes[0])) == (value, len(encoded))
