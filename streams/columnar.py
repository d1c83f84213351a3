"""Decodes message values a batch at a time. The fast path of every job; knows Avro's bytes, never Kafka.

Our contracts put what differs from record to record first (the **head**: ids and times) and what repeats after it
(the **tail**: type, purpose, recipient, fields, tags …). Avro encodes a record as the concatenation of its fields, so
head and tail are neighbouring slices. The head of a whole batch is read with a few numpy expressions; equal tails are
recognised by their bytes and decoded once, whatever the number of records that carry them. A tail must use each of its
bytes, so a truncated or padded payload is caught where it stands and cannot shift its neighbours.

Many new tails at once go through one in-memory container (`streams/containers.py`), few of them one by one.
Reasons and figures: docs/adr/0001-dictionary-decoding.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from streams.containers import frame_schema, read_container
from streams.contracts import Contract, contract
from streams.serdes import (
    CONFLUENT_HEADER,
    CONFLUENT_MARKER,
    SINGLE_OBJECT_HEADER,
    DecodeError,
    SchemaBook,
    Writer,
    decode_body,
    encode_body,
)

Ints = npt.NDArray[np.int64]

MISSING = -(2**63)
# Times outside are a broken clock or a wrong unit, never a fact (1970-01-01 to 2100-01-01, ms).
EARLIEST, LATEST = 0, 4_102_444_800_000
# Above so many new tails one container beats single records (measured: docs/adr/0001).
CONTAINER_FROM = 64
# Distinct tails remembered before the memory is emptied, between batches.
REMEMBERED_TAILS = 200_000


@dataclass
class Batch:
    """A decoded batch of one record type.

    Per-record arrays hold the records that are right, in order: `index` (position in the given values), the head's
    columns (`event_id` uint8[n, 16]; `occurred_at`, and `collected_at` where the type has it: int64 ms, `MISSING`
    where null) and `tail` (int32 code into `decoder.tails`).
    `refused`: position → the error, for the records that are wrong.
    """

    name: str
    index: Ints
    columns: dict[str, npt.NDArray[Any]]
    tail: npt.NDArray[np.int32]
    refused: dict[int, DecodeError]
    _values: Sequence[bytes]
    _head_ends: list[int]
    _start: int

    def __len__(self) -> int:
        return len(self.index)

    def take(self, which: npt.NDArray[np.bool_]) -> Batch:
        """The records that a mask picks."""
        kept = np.flatnonzero(which).tolist()
        return Batch(
            self.name,
            self.index[which],
            {name: column[which] for name, column in self.columns.items()},
            self.tail[which],
            self.refused,
            [self._values[i] for i in kept],
            [self._head_ends[i] for i in kept],
            self._start,
        )

    def heads(self) -> list[bytes]:
        """Each record's head as it was encoded."""
        return _slices(self._values, self._start, self._head_ends)


class TailDecoder:
    """Head and tails of one record type under one writer schema; remembers every tail that it has seen."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.name = writer.contract.name
        self._head = head_fields(writer.contract)
        if self._head != head_fields(contract(self.name)):
            raise DecodeError(f"{self.name}: the head of the writer schema is not that of the contract")
        self._tail_contract = _tail_of(writer.contract)
        self.forget()

    def forget(self) -> None:
        """Empties the memory of tails. Codes given before are void."""
        self._codes: dict[bytes, int] = {}
        self._refused: dict[bytes, DecodeError] = {}
        self.tails = pl.DataFrame(schema=frame_schema(_tail_of(contract(self.name)).schema))
        # The tail's bytes under the current contract, by code: what a job writes on.
        self.encoded: list[bytes] = []

    @property
    def is_full(self) -> bool:
        return len(self.encoded) + len(self._refused) > REMEMBERED_TAILS

    def decode(self, values: Sequence[bytes], index: Ints) -> Batch:
        """Decodes values that all carry this writer's header. `index`: their positions, for `Batch.index`."""
        start = len(self.writer.header)
        columns, ends, wrong = _read_heads(values, start, self._head)
        offsets = ends.tolist()
        tails = _slices(values, offsets, None)
        codes = self._code(tails)
        occurred_at = columns["occurred_at"]
        wrong |= (occurred_at < EARLIEST) | (occurred_at >= LATEST)
        good = ~wrong & (codes >= 0)
        refused: dict[int, DecodeError] = {}
        if not good.all():
            for i in np.flatnonzero(~good).tolist():
                refused[int(index[i])] = (
                    DecodeError(f"not a {self.name}: its head is cut off, or a time is out of range")
                    if wrong[i]
                    else self._refused[tails[i]]
                )
        batch = Batch(self.name, index, columns, codes, refused, values, offsets, start)
        return batch.take(good) if refused else batch

    def _code(self, tails: list[bytes]) -> npt.NDArray[np.int32]:
        codes = list(map(self._codes.get, tails))
        if None in codes:
            self._learn([tail for tail in dict.fromkeys(tails) if tail not in self._codes])
            codes = list(map(self._codes.get, tails))
        return np.array(codes, dtype=np.int32)

    def _learn(self, tails: list[bytes]) -> None:
        frame, good, refused = decode_bodies(self._tail_contract, tails)
        current = _tail_of(contract(self.name))
        encoded = (
            good if self.writer.is_current else [encode_body(current.parsed, r) for r in frame.iter_rows(named=True)]
        )
        for code, tail in enumerate(good, start=len(self.encoded)):
            self._codes[tail] = code
        self._codes.update(dict.fromkeys(refused, -1))
        self._refused |= refused
        self.encoded += encoded
        self.tails = pl.concat([self.tails, frame], rechunk=len(self.tails) < 8 * len(frame))


class BatchDecoder:
    """Decodes a topic's values: groups them by writer schema, one `TailDecoder` each."""

    def __init__(self, book: SchemaBook) -> None:
        self._book = book
        self._decoders: dict[bytes, TailDecoder] = {}

    def decode(
        self, values: Sequence[bytes | None], only: frozenset[str]
    ) -> tuple[list[tuple[TailDecoder, Batch]], dict[int, DecodeError]]:
        """Batches by writer schema, and the refused records by position. `only`: record types the caller takes."""
        batches: list[tuple[TailDecoder, Batch]] = []
        refused: dict[int, DecodeError] = {}
        for decoder, group, index in self._group(values, refused):
            if decoder.name not in only:
                error = DecodeError(f"a {decoder.name} does not belong on this topic")
                refused |= dict.fromkeys(index.tolist(), error)
                continue
            batch = decoder.decode(group, index)
            refused |= batch.refused
            batches.append((decoder, batch))
        return batches, refused

    def trim(self) -> bool:
        """Empties memories grown too large; true if any was. Call between batches: codes given before are void."""
        full = [decoder for decoder in self._decoders.values() if decoder.is_full]
        for decoder in full:
            decoder.forget()
        return bool(full)

    def forget(self) -> None:
        """Empties the memory of all tails: for a caller whose tails hardly come again."""
        for decoder in self._decoders.values():
            decoder.forget()

    def _group(
        self, values: Sequence[bytes | None], refused: dict[int, DecodeError]
    ) -> list[tuple[TailDecoder, Sequence[bytes], Ints]]:
        """The values of each writer schema, with their positions."""
        headers = headers_of(values)
        if len(set(headers)) == 1 and headers[0] in self._decoders:
            return [(self._decoders[headers[0]], values, np.arange(len(values)))]  # type: ignore[list-item]
        numbers = {header: number for number, header in enumerate(dict.fromkeys(headers))}
        which = np.array(list(map(numbers.__getitem__, headers)), np.int32)
        order = np.argsort(which, kind="stable")
        ends = np.cumsum(np.bincount(which, minlength=len(numbers)))
        groups: list[tuple[TailDecoder, Sequence[bytes], Ints]] = []
        for header, index in zip(numbers, np.split(order, ends[:-1]), strict=True):
            try:
                decoder = self._decoder(header)
            except DecodeError as error:
                refused |= dict.fromkeys(index.tolist(), error)
                continue
            mine = values if len(index) == len(values) else [values[i] for i in index.tolist()]
            groups.append((decoder, mine, index))  # type: ignore[arg-type]
        return groups

    def _decoder(self, header: bytes) -> TailDecoder:
        decoder = self._decoders.get(header)
        if decoder is None:
            if not header:
                raise DecodeError("no value")
            decoder = self._decoders[header] = TailDecoder(self._book.writer(header))
        return decoder


def _slices(values: Sequence[bytes], start: int | list[int], end: list[int] | None) -> list[bytes]:
    """Each value from `start` to `end`. Times of one era take as many bytes, so heads are often of one length: then
    slicing needs no loop."""
    starts = {start} if isinstance(start, int) else set(start)
    ends = {None} if end is None else set(end)
    if len(starts) == len(ends) == 1:
        return list(map(itemgetter(slice(starts.pop(), ends.pop())), values))
    if isinstance(start, list):
        return [value[at:] for value, at in zip(values, start, strict=True)]
    return [value[start:at] for value, at in zip(values, end or [], strict=True)]


def headers_of(values: Sequence[bytes | None]) -> list[bytes]:
    """What each value starts with, as long as its wire format's header is; empty where there is no value."""
    given = [value or b"" for value in values] if None in values else values
    headers = list(map(_SINGLE_OBJECT, given))  # type: ignore[arg-type]
    if any(header[:1] == CONFLUENT_MARKER for header in set(headers)):
        return [header[:CONFLUENT_HEADER] if header[:1] == CONFLUENT_MARKER else header for header in headers]
    return headers


_Slice = Callable[[bytes], bytes]
_SINGLE_OBJECT: _Slice = itemgetter(slice(0, SINGLE_OBJECT_HEADER))


def tail_rows(decoder: TailDecoder, start: int) -> list[dict[str, Any]]:
    """The tails from code `start` on, as dicts by field name."""
    return decoder.tails.slice(start).rows(named=True)


def decode_bodies(written: Contract, bodies: list[bytes]) -> tuple[pl.DataFrame, list[bytes], dict[bytes, DecodeError]]:
    """Decodes bodies of one schema: a frame of the right ones as their current contract has them, these, and the
    wrong ones with their errors."""
    current = _current_of(written)
    schema = frame_schema(current.schema)
    if len(bodies) >= CONTAINER_FROM and written.fingerprint == current.fingerprint:
        frame = read_container(written.schema, bodies)
        if frame is not None:
            return frame, bodies, {}
    records, good, refused = [], [], {}
    for body in bodies:
        try:
            records.append(decode_body(written, body, current))
            good.append(body)
        except DecodeError as error:
            refused[body] = error
    return pl.DataFrame(records, schema=schema, orient="row"), good, refused


def head_fields(written: Contract) -> list[tuple[str, str]]:
    """The leading fields that differ from record to record, each with how it is encoded: `uuid`, `time` or
    `optional time`."""
    head: list[tuple[str, str]] = []
    for f in written.schema["fields"]:
        kind = _head_kind(f["type"])
        if kind is None:
            break
        head.append((f["name"], kind))
    return head


def _head_kind(node: Any) -> str | None:
    if isinstance(node, dict) and node.get("type") == "fixed" and node.get("size") == 16:
        return "uuid"
    if isinstance(node, dict) and node.get("logicalType") == "timestamp-millis":
        return "time"
    if isinstance(node, list) and node[0] == "null" and len(node) == 2 and _head_kind(node[1]) == "time":
        return "optional time"
    return None


_tails: dict[bytes, Contract] = {}


def _tail_of(written: Contract) -> Contract:
    """The record type that is left when the head is taken off."""
    if written.fingerprint not in _tails:
        head = {name for name, _ in head_fields(written)}
        fields = [f for f in written.schema["fields"] if f["name"] not in head]
        _tails[written.fingerprint] = Contract(
            written.name, {**written.schema, "fields": fields}, b"tail" + written.fingerprint
        )
    return _tails[written.fingerprint]


def _current_of(written: Contract) -> Contract:
    current = contract(written.name)
    return _tail_of(current) if written.fingerprint.startswith(b"tail") else current


def _read_heads(
    values: Sequence[bytes], start: int, head: list[tuple[str, str]]
) -> tuple[dict[str, npt.NDArray[Any]], Ints, npt.NDArray[np.bool_]]:
    """The head's columns, where in each value it ends, and which values are too short for it."""
    n = len(values)
    lengths = np.fromiter(map(len, values), np.int64, n)
    buffer = np.frombuffer(b"".join(values) + bytes(64), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(buffer, 16)
    stops = np.cumsum(lengths)
    starts = stops - lengths
    at = starts + start
    wrong = at > stops
    at[wrong] = 0
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, kind in head:
        if kind == "uuid":
            columns[name] = windows[at]
            at = at + 16
        else:
            present = None
            if kind == "optional time":
                branch = buffer[at]
                wrong |= branch > 2
                present = branch == 2
                at = at + 1
            times, sizes = read_varints(windows, at)
            wrong |= sizes > 10
            if present is not None:
                times = np.where(present, times, MISSING)
                sizes = np.where(present, sizes, 0)
            columns[name] = times
            at = at + sizes
        past = at > stops
        if past.any():
            wrong |= past
            at = np.where(past, starts, at)
    return columns, at - starts, wrong


def read_varints(windows: npt.NDArray[np.uint8], at: Ints) -> tuple[Ints, Ints]:
    """Avro longs (zigzag varints) at byte positions `at`: values and sizes in bytes (11: not a long).

    `windows`: a sliding window of at least 10 bytes over the buffer, one row a position.
    """
    rows = windows[at, :10]
    ends = rows < 128
    sizes = ends.argmax(axis=1) + 1
    widest = int(sizes.max(initial=1))
    zigzag = np.zeros(len(at), np.uint64)
    for i in range(widest):
        byte = (rows[:, i] & np.uint8(127)).astype(np.uint64) << np.uint64(7 * i)
        zigzag |= byte if i == 0 else np.where(sizes > i, byte, np.uint64(0))
    values = (zigzag >> np.uint64(1)).astype(np.int64) ^ -(zigzag & np.uint64(1)).astype(np.int64)
    return values, np.where(ends.any(axis=1), sizes, 11)
