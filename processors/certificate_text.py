"""A certificate as people read it. Pure; says what the claims say and nothing more."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_WIDTH = 100
_STATES = {
    "completed": "completed: everyone who had the data has erased it, by the evidence below",
    "partially_completed": "partially completed: erased in the own stores, not by everyone who had the data",
}
_ORIGINS = {
    "person": "the person",
    "opendsr": "the person, through an OpenDSR controller",
    "minor": "the rule for minors",
    "retention": "the end of retention",
    "withdrawal": "a withdrawal of consent",
    "leave": "the person's leaving",
    "shutdown": "the end of the service",
    "merger": "a merger without the successor's pledge",
}


def certificate_lines(claims: Mapping[str, Any]) -> Iterable[str]:
    """Lines of text, at most 100 characters wide where words allow. `claims`: those of `certificate`."""
    yield f"Certificate of erasure {claims['request_id']}"
    yield ""
    yield from _facts(claims)
    yield ""
    yield from _recipients(claims["recipients"])
    yield ""
    yield from _stores(claims["own_stores"])
    yield ""
    yield from _remains(claims["remains"])
    if claims["alarms"]:
        yield ""
        yield "Contradictions"
        for alarm in claims["alarms"]:
            yield from _wrapped("  ", alarm)


def _facts(claims: Mapping[str, Any]) -> Iterable[str]:
    in_time = "" if claims["due_at"] is None else ", in time" if claims["in_time"] else ", too late"
    facts = [
        ("state", _STATES[claims["state"]]),
        ("asked by", _ORIGINS.get(claims["origin"], claims["origin"])),
        ("identity", f"verified by {claims['identity_verified_by'] or 'a person or system that is not named'}"),
        ("received", _time(claims["received_at"])),
        ("verified", _time(claims["verified_at"])),
        ("due", _time(claims["due_at"])),
        ("link dropped", _time(claims["erased_at"])),
        ("ended", _time(claims["completed_at"]) + in_time),
        ("issued", f"{_time(claims['issued_at'])} by {claims['issuer']}"),
        ("law", claims["regulation"].upper()),
        ("policy", claims["policy"]),
    ]
    for name, value in facts:
        if value:
            yield from _wrapped(f"  {name:<14}", value)
    for cited in claims["clauses"]:
        yield from _wrapped(f"  {'clause':<14}", f"{cited['clause']}: {cited['says']}")


def _recipients(recipients: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    if not recipients:
        yield "No recipient was ever given this person's data."
        return
    yield f"Recipients ({len(recipients)})"
    rows = [
        (
            one["recipient"],
            "?" if one["hop"] is None else str(one["hop"]),
            one["state"],
            one["evidence"],
            _time(one["ended_at"]),
        )
        for one in recipients
    ]
    heading = ("recipient", "hop", "state", "evidence", "since (UTC)")
    widths = [max(len(row[at]) for row in (heading, *rows)) for at in range(len(heading))]
    for row, one in zip((heading, *rows), (None, *recipients), strict=True):
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        if one is not None:
            if one["ground"]:
                yield from _wrapped("      ", f"ground: {one['ground']}")
            for digest in one["answers_sha256"]:
                yield f"      answer: SHA-256 {digest}"


def _stores(stores: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    yield "Own stores"
    for store in stores:
        rows = "" if store["rows_removed"] is None else f"{store['rows_removed']:,} rows erased, "
        at = f", {_time(store['ended_at'])}" if store["ended_at"] else ""
        gone = f"; bytes gone from disk by {_time(store['until'])}" if store["until"] else ""
        yield f"  {store['store']}: {rows}{store['survivors']} left{at}{gone}"


def _remains(remains: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    yield "What remains, and why it names no one"
    for why in dict.fromkeys(one["why_no_one"] for one in remains):
        for one in remains:
            if one["why_no_one"] == why:
                until = f"until {_time(one['until'])[:16]} at the latest" if one["until"] else "without limit"
                yield from _wrapped("  ", f"{', '.join(one['topics'])}: {one['what']}; {until}")
        yield from _wrapped("      ", why)


def _wrapped(first: str, text: str) -> Iterable[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first), break_long_words=False
    ) or [first.rstrip()]


def _time(instant: str | None) -> str:
    return "" if instant is None else f"{instant[:10]} {instant[11:19]}"
