"""The log against its seals: does every seal follow the one before, was it signed with a key that is trusted, and are
the records still those that it was made of? Needs the log and public keys, nothing else.

Walks each partition once, seals and records side by side, so that neither is held. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from processors.erasure_certificate import thumbprint
from processors.seals import NOTHING_BEFORE, RangeDigest, is_signed

# Offsets, keys, values.
Records = tuple[npt.NDArray[np.int64], list[bytes], list[bytes]]


class Seal(Protocol):
    """A seal as it was read from its topic, at `offset` there."""

    @property
    def offset(self) -> int: ...
    @property
    def partition(self) -> int: ...
    @property
    def number(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def records(self) -> int: ...
    @property
    def digest(self) -> bytes: ...
    @property
    def previous(self) -> bytes: ...
    @property
    def signed_by(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    @property
    def hash(self) -> bytes: ...


class SealedLog(Protocol):
    """The log up to its `ends`, and its seals. What is no seal comes as the error."""

    ends: dict[int, int]

    def seals(self, partition: int) -> Iterable[Seal | Exception]: ...
    def records(self, partition: int) -> Iterable[Records]: ...
    def completed(self, keys: Sequence[bytes], values: Sequence[bytes]) -> Sequence[tuple[bytes, UUID]]: ...


class Head(NamedTuple):
    """Where a chain ends: the last seal's number and hash, and the offset behind what it sealed."""

    number: int
    end: int
    hash: str


class LogDifference(NamedTuple):
    """`reason`: records, signature, key, chain, unreadable or head (docs/verify.md). `seal`: its number, else its
    offset is in the text. Offsets `start` to `end` (not included) of the log are what it is about."""

    partition: int
    start: int
    end: int
    seal: int | None
    reason: str
    text: str


@dataclass
class LogCheck:
    """`records`: of the log, `sealed` of them under a seal that holds. `markers`: subject → requests, of completed
    erasures that stand in the log, but not where it was changed."""

    records: int = 0
    sealed: int = 0
    seals: int = 0
    heads: dict[int, Head] = field(default_factory=dict)
    differences: list[LogDifference] = field(default_factory=list)
    markers: dict[bytes, set[UUID]] = field(default_factory=dict)

    @property
    def sealed_to(self) -> dict[int, int]:
        """Partition → the offset up to which it is sealed."""
        return {partition: head.end for partition, head in self.heads.items()}


def check_log(
    log: SealedLog,
    trusted: Sequence[Ed25519PublicKey],
    earlier: Mapping[int, Head] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> LogCheck:
    """Every seal and every record of the log. `earlier`: heads that were written down some time ago; the chains of
    today must hold them. `progress` is told how many records have been read."""
    found = LogCheck()
    keys = {thumbprint(key): key for key in trusted}
    for partition in sorted({*log.ends, *(earlier or {})}):
        records = _Cursor(log.records(partition) if partition in log.ends else ())
        for seal in _chain(log.seals(partition) if partition in log.ends else (), partition, keys, earlier, found):
            _take(records.upto(seal.start), log, found, progress)
            _compare(seal, records, log, found, progress)
        _take(records.upto(None), log, found, progress)
    return found


def check_chains(
    log: SealedLog, trusted: Sequence[Ed25519PublicKey], earlier: Mapping[int, Head] | None = None
) -> LogCheck:
    """The seals alone: signatures, links, earlier heads."""
    found = LogCheck()
    keys = {thumbprint(key): key for key in trusted}
    for partition in sorted({*log.ends, *(earlier or {})}):
        for seal in _chain(log.seals(partition) if partition in log.ends else (), partition, keys, earlier, found):
            found.sealed += seal.records
    return found


def _chain(
    seals: Iterable[Seal | Exception],
    partition: int,
    keys: Mapping[str, Ed25519PublicKey],
    earlier: Mapping[int, Head] | None,
    found: LogCheck,
) -> Iterator[Seal]:
    """The seals that hold by themselves, in order. What does not is named, and what follows is measured by it all the
    same: one seal that is wrong is one difference, or two."""
    head = Head(-1, 0, NOTHING_BEFORE.hex())
    wanted = (earlier or {}).get(partition)
    held = wanted is None
    for seal in seals:
        if isinstance(seal, Exception):
            found.differences.append(LogDifference(partition, head.end, head.end, None, "unreadable", str(seal)))
            continue
        found.seals += 1
        here = LogDifference(partition, seal.start, seal.end, seal.number, "", f"at offset {seal.offset} of its topic")
        key = keys.get(seal.signed_by)
        if key is None:
            found.differences.append(
                here._replace(reason="key", text=f"signed with {seal.signed_by}, not trusted here")
            )
            continue
        if not is_signed(seal.body, key):
            found.differences.append(here._replace(reason="signature", text="the signature does not fit"))
            continue
        follows = (seal.partition, seal.number, seal.previous.hex()) == (partition, head.number + 1, head.hash)
        if not follows or (seal.number > 0 and seal.start != head.end) or not seal.start < seal.end:
            text = f"does not follow seal {head.number}, which ends at {head.end}"
            found.differences.append(here._replace(reason="chain", text=text))
            if seal.partition != partition or seal.start < head.end:
                # An old one told again, or one of elsewhere: the chain goes on without it.
                continue
        head = found.heads[partition] = Head(seal.number, seal.end, seal.hash.hex())
        held = held or head == wanted
        yield seal
    if not held and wanted is not None:
        text = f"seal {wanted.number} that was written down earlier is not in the chain: it was cut off or rewritten"
        found.differences.append(LogDifference(partition, 0, wanted.end, wanted.number, "head", text))


def _compare(seal: Seal, records: _Cursor, log: SealedLog, found: LogCheck, progress: Callable[[int], None]) -> None:
    digest, markers = RangeDigest(), list[tuple[bytes, UUID]]()
    for offsets, keys, values in records.upto(seal.end):
        digest.add(offsets, keys, values)
        markers += log.completed(keys, values)
        found.records += len(offsets)
        progress(found.records)
    if digest.digest() == seal.digest and digest.records == seal.records:
        found.sealed += digest.records
        _remember(markers, found)
        return
    text = f"{digest.records} records are not the {seal.records} that were sealed"
    found.differences.append(LogDifference(seal.partition, seal.start, seal.end, seal.number, "records", text))


def _take(records: Iterable[Records], log: SealedLog, found: LogCheck, progress: Callable[[int], None]) -> None:
    """Records that no seal stands for."""
    for offsets, keys, values in records:
        _remember(log.completed(keys, values), found)
        found.records += len(offsets)
        progress(found.records)


def _remember(markers: Iterable[tuple[bytes, UUID]], found: LogCheck) -> None:
    for subject, request in markers:
        found.markers.setdefault(subject, set()).add(request)


class _Cursor:
    """Records of a partition, cut where it is asked for."""

    def __init__(self, batches: Iterable[Records]) -> None:
        self._batches = iter(batches)
        self._rest: Records | None = None

    def upto(self, end: int | None) -> Iterator[Records]:
        """What is left in front of the offset `end`; None: all."""
        while True:
            batch = self._rest or next(self._batches, None)
            self._rest = None
            if batch is None:
                return
            offsets, keys, values = batch
            cut = len(offsets) if end is None else int(np.searchsorted(offsets, end))
            if cut:
                yield offsets[:cut], keys[:cut], values[:cut]
            if cut < len(offsets):
                self._rest = offsets[cut:], keys[cut:], values[cut:]
                return
