"""Decodes IAB TC strings (TCF v2.0 to v2.3). A pure function of text; raises nothing but `SignalError`.

Field tables: IAB Tech Lab, "Transparency and Consent String with Global Vendor & CMP List Formats v2". Why this is
not a library: docs/adr/0006-tcf-decoding.md. Whom a string permits what is not said here but in `consent_signals.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

# The longest real strings, with restrictions for every vendor, have some 10,000 characters.
MAX_CHARACTERS = 32_768

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_BITS = {character: format(value, "06b") for value, character in enumerate(_ALPHABET)}
_DISCLOSED, _ALLOWED, _PUBLISHER = 1, 2, 3


class SignalError(ValueError):
    """A consent string that cannot be read. The text says why, is one of few, and quotes nothing of the string."""


class Bits:
    """Reads the bits of base64url text from left to right, six to a character. Raises `SignalError` at their end."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_CHARACTERS:
            raise SignalError(f"longer than {MAX_CHARACTERS} characters")
        try:
            # Older writers pad as base64 does.
            self._bits = "".join([_BITS[character] for character in text.rstrip("=")])
        except KeyError:
            raise SignalError("has a character that base64url does not have") from None
        self._at = 0

    def take(self, count: int) -> str:
        end = self._at + count
        if end > len(self._bits):
            raise SignalError("ends before its fields do: it is cut off")
        taken = self._bits[self._at : end]
        self._at = end
        return taken

    def number(self, count: int) -> int:
        return int(self.take(count), 2)

    def flag(self) -> bool:
        return self.take(1) == "1"

    def ids(self, count: int) -> "Ids":
        """A bit field: its first bit is for the id 1."""
        return Ids(int(self.take(count)[::-1] or "0", 2) << 1)

    def letters(self) -> str:
        """A code of two letters, A is 0."""
        first, second = self.number(6), self.number(6)
        if first > 25 or second > 25:
            raise SignalError("has a language or country that is no pair of letters")
        return chr(65 + first) + chr(65 + second)

    def time(self) -> int:
        """Tenths of a second since 1970 UTC, as ms."""
        return self.number(36) * 100

    def end(self) -> None:
        """What follows the fields may only be padding."""
        if "1" in self._bits[self._at :]:
            raise SignalError("goes on behind its last field")


@dataclass(frozen=True)
class Ids:
    """A set of ids from 1 on: bit i of `mask` is for the id i."""

    mask: int = 0

    def __contains__(self, item: object) -> bool:
        return isinstance(item, int) and item > 0 and bool(self.mask >> item & 1)

    def __iter__(self) -> Iterator[int]:
        return (at for at, bit in enumerate(reversed(format(self.mask, "b"))) if bit == "1")


class Restriction(IntEnum):
    """What a publisher sets for a purpose and vendors."""

    NOT_ALLOWED = 0
    CONSENT = 1
    LEGITIMATE_INTEREST = 2


@dataclass(frozen=True)
class Publisher:
    """The publisher's own purposes and bases (segment type 3); `custom` ones mean what the publisher says."""

    purposes: Ids
    purposes_interest: Ids
    custom: Ids
    custom_interest: Ids


@dataclass(frozen=True)
class TcString:
    """The fields of a TC string. Times in ms since 1970 UTC. `…_interest`: legitimate interest told, not objected to.

    `restrictions`: (purpose, kind, vendors). `disclosed`: vendors that the person was shown; nothing without the
    segment. `allowed`: vendors that a publisher lets use bases from outside of TCF.
    """

    created: int
    updated: int
    cmp: int
    cmp_version: int
    screen: int
    language: str
    vendor_list: int
    policy_version: int
    service_specific: bool
    non_standard_texts: bool
    special_features: Ids
    purposes: Ids
    purposes_interest: Ids
    purpose_one_treatment: bool
    publisher_country: str
    vendors: Ids
    vendors_interest: Ids
    restrictions: tuple[tuple[int, Restriction, Ids], ...]
    disclosed: Ids | None = None
    allowed: Ids | None = None
    publisher: Publisher | None = None


def decode_tcf(text: str) -> TcString:
    """The fields of a TC string: its core segment, and the others in any order, joined by dots.

    Raises `SignalError`.
    """
    if len(text) > MAX_CHARACTERS:
        raise SignalError(f"longer than {MAX_CHARACTERS} characters")
    core, *others = text.split(".")
    segments: dict[int, Ids | Publisher] = {}
    fields = _core(core)
    for other in others:
        bits = Bits(other)
        kind = bits.number(3)
        if kind in segments:
            raise SignalError("has two segments of one type")
        if kind in (_DISCLOSED, _ALLOWED):
            segments[kind] = _vendors(bits)
        elif kind == _PUBLISHER:
            segments[kind] = _publisher(bits)
        else:
            raise SignalError("has a segment of a type that TCF v2 does not have")
        bits.end()
    disclosed, allowed, publisher = (segments.get(kind) for kind in (_DISCLOSED, _ALLOWED, _PUBLISHER))
    assert not isinstance(disclosed, Publisher)
    assert not isinstance(allowed, Publisher)
    assert not isinstance(publisher, Ids)
    return TcString(*fields, disclosed, allowed, publisher)


def _core(text: str) -> tuple[
    int, int, int, int, int, str, int, int, bool, bool, Ids, Ids, Ids, bool, str, Ids, Ids,
    tuple[tuple[int, Restriction, Ids], ...],
]:  # fmt: skip
    bits = Bits(text)
    version = bits.number(6)
    if version == 1:
        raise SignalError("version 1, which TCF ended in 2020")
    if version != 2:
        raise SignalError("not of version 2: no TC string")
    # The order of these is the string's.
    fields = (
        bits.time(),
        bits.time(),
        bits.number(12),
        bits.number(12),
        bits.number(6),
        bits.letters(),
        bits.number(12),
        bits.number(6),
        bits.flag(),
        bits.flag(),
        bits.ids(12),
        bits.ids(24),
        bits.ids(24),
        bits.flag(),
        bits.letters(),
        _vendors(bits),
        _vendors(bits),
        _restrictions(bits),
    )
    bits.end()
    return fields


def _vendors(bits: Bits) -> Ids:
    """The highest id, then either one bit for each id up to it, or ranges."""
    highest = bits.number(16)
    if not bits.flag():
        return bits.ids(highest)
    found = _ranges(bits)
    if found.mask.bit_length() > highest + 1:
        raise SignalError("has a vendor beyond the highest that it declares")
    return found


def _ranges(bits: Bits) -> Ids:
    mask = 0
    for _ in range(bits.number(12)):
        several = bits.flag()
        first = bits.number(16)
        last = bits.number(16) if several else first
        if not 0 < first <= last:
            raise SignalError("has a range of vendors that is none")
        mask |= (1 << last + 1) - (1 << first)
    return Ids(mask)


def _restrictions(bits: Bits) -> tuple[tuple[int, Restriction, Ids], ...]:
    found = []
    for _ in range(bits.number(12)):
        purpose, kind = bits.number(6), bits.number(2)
        if not purpose or kind > Restriction.LEGITIMATE_INTEREST:
            raise SignalError("has a publisher restriction of a kind that TCF v2 does not have")
        found.append((purpose, Restriction(kind), _ranges(bits)))
    return tuple(found)


def _publisher(bits: Bits) -> Publisher:
    purposes, interest = bits.ids(24), bits.ids(24)
    count = bits.number(6)
    return Publisher(purposes, interest, bits.ids(count), bits.ids(count))
