"""Decodes IAB GPP strings: the header, the European TC string in section 2, and the opt-outs of the US sections.

A pure function of text; raises nothing but `SignalError`. Source of the header: IAB Tech Lab, "Global Privacy
Platform String", 1.0; of each US section: its technical specification there. Sections that are not listed here are
named in the answer and left alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from streams.sources.tcf import MAX_CHARACTERS, Bits, SignalError, TcString, decode_tcf

_HEADER_TYPE, _HEADER_VERSION = 3, 1
_MAX_SECTIONS = 64
TCF_EU = 2
_USP = 6

SALE, SHARING, TARGETED = "sale", "sharing", "targeted_advertising"

# The fields of two bits behind a US section's version, up to the last opt-out. What follows is about sensitive data,
# children and contracts of the sector, and differs from version to version.
_NATIONAL = ("", "", "", "", "", "", SALE, SHARING, TARGETED)
_CALIFORNIA = ("", "", "", SALE, SHARING)
_THREE_NOTICES = ("", "", "", SALE, TARGETED)
_UTAH = ("", "", "", "", SALE, TARGETED)
_US_SECTIONS: Mapping[int, tuple[str, ...]] = {
    7: _NATIONAL,
    8: _CALIFORNIA,
    9: _THREE_NOTICES,  # Virginia
    10: _THREE_NOTICES,  # Colorado
    11: _UTAH,
    12: _THREE_NOTICES,  # Connecticut
}
_GPC_TYPE = 1


class OptOut(IntEnum):
    """What a US section says of an opt-out."""

    NOT_APPLICABLE = 0
    OPTED_OUT = 1
    NOT_OPTED_OUT = 2


@dataclass(frozen=True)
class GppString:
    """What a GPP string holds.

    `sections`: ids of all its sections. `opt_outs`: of `sale`, `sharing` and `targeted_advertising`, those that its
    US sections speak of; where sections differ, the opt-out counts.
    """

    sections: tuple[int, ...]
    tcf: TcString | None
    opt_outs: Mapping[str, OptOut]


def decode_gpp(text: str) -> GppString:
    """Reads a GPP string. Raises `SignalError`, also for a section that is listed here and cannot be read."""
    if len(text) > MAX_CHARACTERS:
        raise SignalError(f"longer than {MAX_CHARACTERS} characters")
    header, *bodies = text.split("~")
    sections = _sections(header)
    if len(sections) != len(bodies):
        raise SignalError("does not have as many sections as its header lists")
    tcf = None
    opt_outs: dict[str, OptOut] = {}
    for section, body in zip(sections, bodies, strict=True):
        if section == TCF_EU:
            tcf = decode_tcf(body)
        elif section == _USP:
            _join(opt_outs, _us_privacy(body))
        elif section in _US_SECTIONS:
            _join(opt_outs, _us_section(body, _US_SECTIONS[section]))
    return GppString(sections, tcf, opt_outs)


def _sections(header: str) -> tuple[int, ...]:
    """The ids of the sections: single ones and ranges, each as the distance from the one before, Fibonacci coded."""
    bits = Bits(header)
    if bits.number(6) != _HEADER_TYPE:
        raise SignalError("no GPP string: its header is of another type")
    if bits.number(6) != _HEADER_VERSION:
        raise SignalError("of a version of GPP that is not known")
    found: list[int] = []
    last = 0
    for _ in range(bits.number(12)):
        several = bits.flag()
        first = last + _fibonacci(bits)
        last = first + _fibonacci(bits) if several else first
        if last - first + len(found) >= _MAX_SECTIONS:
            raise SignalError("lists more sections than GPP has")
        found.extend(range(first, last + 1))
    bits.end()
    return tuple(found)


def _fibonacci(bits: Bits) -> int:
    """A number from 1 on as a sum of Fibonacci numbers, smallest first; two ones in a row end it."""
    value, weight, following, before = 0, 1, 2, False
    while True:
        bit = bits.flag()
        if bit and before:
            return value
        if bit:
            value += weight
        weight, following, before = following, weight + following, bit


def _us_privacy(text: str) -> dict[str, OptOut]:
    """The older US Privacy string: version, notice, opt-out of sale, and a contract of the sector, as letters."""
    if len(text) != 4 or text[0] != "1" or any(letter not in "YNyn-" for letter in text[1:]):
        raise SignalError("has a US Privacy section that is none")
    return {SALE: {"Y": OptOut.OPTED_OUT, "N": OptOut.NOT_OPTED_OUT}.get(text[2].upper(), OptOut.NOT_APPLICABLE)}


def _us_section(text: str, names: tuple[str, ...]) -> dict[str, OptOut]:
    core, *others = text.split(".")
    bits = Bits(core)
    if bits.number(6) not in (1, 2):
        raise SignalError("has a US section of a version that is not known")
    found: dict[str, OptOut] = {}
    for name in names:
        value = bits.number(2)
        if not name:
            continue
        if value > OptOut.NOT_OPTED_OUT:
            raise SignalError("has an opt-out that is neither given nor refused")
        found[name] = OptOut(value)
    for other in others:
        segment = Bits(other)
        if segment.number(2) == _GPC_TYPE and segment.flag():
            # The browser's Global Privacy Control asks to be out of all that the section lets one opt out of.
            found = dict.fromkeys(found, OptOut.OPTED_OUT)
    return found


def _join(known: dict[str, OptOut], more: Mapping[str, OptOut]) -> None:
    for name, value in more.items():
        before = known.get(name, OptOut.NOT_APPLICABLE)
        stated = [each for each in (before, value) if each is not OptOut.NOT_APPLICABLE]
        known[name] = min(stated, default=OptOut.NOT_APPLICABLE)
