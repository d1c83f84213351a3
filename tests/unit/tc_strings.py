"""Writes TC strings for tests, from the field table of the specification: what the decoder is tested against."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def base64url(bits: str) -> str:
    """Bits as base64url, filled with zeros to whole bytes."""
    bits += "0" * (-len(bits) % 8)
    bits += "0" * (-len(bits) % 6)
    return "".join(_ALPHABET[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6))


def number(value: int, count: int) -> str:
    return format(value, f"0{count}b")


def field(ids: Iterable[int], count: int) -> str:
    ids = set(ids)
    return "".join("1" if each in ids else "0" for each in range(1, count + 1))


def letters(text: str) -> str:
    return "".join(number(ord(letter) - 65, 6) for letter in text)


def ranges(listed: Sequence[tuple[int, int]]) -> str:
    parts = [
        "0" + number(first, 16) if first == last else "1" + number(first, 16) + number(last, 16)
        for first, last in listed
    ]
    return number(len(listed), 12) + "".join(parts)


def vendors(ids: Iterable[int], as_ranges: bool = False, highest: int | None = None) -> str:
    ids = sorted(set(ids))
    top = highest if highest is not None else max(ids, default=0)
    if as_ranges:
        return number(top, 16) + "1" + ranges([(each, each) for each in ids])
    return number(top, 16) + "0" + field(ids, top)


def segment(kind: int, ids: Iterable[int]) -> str:
    return base64url(number(kind, 3) + vendors(ids))


def publisher_segment(purposes: Iterable[int], interest: Iterable[int], custom: Sequence[int] = ()) -> str:
    count = max(custom, default=0)
    bits = number(3, 3) + field(purposes, 24) + field(interest, 24) + number(count, 6)
    return base64url(bits + field(custom, count) + field((), count))


def core(**given: Any) -> str:
    """The core segment. Keys are those of `TcString`; `restrictions`: (purpose, kind, ranges); `updated`: a day."""
    moment = datetime.fromisoformat(given.get("updated", "2025-06-01")).replace(tzinfo=UTC)
    tenths = int(moment.timestamp() * 10)
    restrictions = given.get("restrictions", ())
    as_ranges = given.get("as_ranges", False)
    return base64url(
        number(given.get("version", 2), 6)
        + number(tenths, 36) * 2
        + number(given.get("cmp", 300), 12)
        + number(given.get("cmp_version", 2), 12)
        + number(given.get("screen", 1), 6)
        + letters(given.get("language", "EN"))
        + number(given.get("vendor_list", 100), 12)
        + number(given.get("policy_version", 4), 6)
        + ("1" if given.get("service_specific", True) else "0")
        + "0"
        + field(given.get("special_features", ()), 12)
        + field(given.get("purposes", ()), 24)
        + field(given.get("purposes_interest", ()), 24)
        + ("1" if given.get("purpose_one_treatment", False) else "0")
        + letters(given.get("publisher_country", "DE"))
        + vendors(given.get("vendors", ()), as_ranges)
        + vendors(given.get("vendors_interest", ()), as_ranges)
        + number(len(restrictions), 12)
        + "".join(number(purpose, 6) + number(kind, 2) + ranges(listed) for purpose, kind, listed in restrictions)
    )


def fibonacci(value: int) -> str:
    weights = [1, 2]
    while weights[-1] <= value:
        weights.append(weights[-1] + weights[-2])
    bits = ""
    for weight in reversed(weights):
        if weight <= value:
            value -= weight
            bits = "1" + bits
        elif bits:
            bits = "0" + bits
    return bits + "1"


def gpp(sections: dict[int, str]) -> str:
    """A GPP string: each section by itself in the header."""
    bits = number(3, 6) + number(1, 6) + number(len(sections), 12)
    last = 0
    for section in sorted(sections):
        bits += "0" + fibonacci(section - last)
        last = section
    return "~".join([base64url(bits), *(sections[section] for section in sorted(sections))])
