"""What a policy or a registry of recipients may say but hardly means: contradictions, and what can never be reached.

Pure: documents in, notes with the path of the key out; whoever read the document knows the line. Nothing here keeps a
document from being published: what is plainly wrong (a key that does not exist, a category that the policy does not
name) is refused when it is read (`streams/policies.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from processors.knowledge import covers

Record = Mapping[str, Any]
KeyPath = tuple[str | int, ...]

_GIVES = ("affiliate", "partner")


class Note(NamedTuple):
    """`path`: of the key that it is about, in its document."""

    path: KeyPath
    message: str


def review_policy(policy: Record) -> list[Note]:
    """What a policy hardly means. policy: a document, or a `PolicyPublished` record."""
    return [
        *_events(policy),
        *_fields(policy),
        *_categories(policy),
        *_purposes(policy),
        *_limits(policy),
        *_erasure(policy),
    ]


def review_recipients(entries: Sequence[Record], policy: Record | None = None) -> list[Note]:
    """What a registry hardly means, paths below `recipients`; with a policy, purposes that it does not have, too.

    entries: `RecipientRegistered` records (times in ms) in the order of their document.
    """
    return [note for index in range(len(entries)) for note in _entry(entries, index, policy)]


def review_together(policy: Record, entries: Sequence[Record]) -> tuple[list[Note], list[Note]]:
    """What policy and registry hardly mean together: notes on the policy, notes on the registry."""
    return list(_unreachable(policy, entries)), [
        Note(("recipients", index, *note.path), note.message)
        for index, entry in enumerate(entries)
        for note in _under(policy, entry)
    ]


# The policy by itself


def _events(policy: Record) -> Iterator[Note]:
    events = policy.get("events", {})
    for event_type, purpose in events.items():
        if purpose not in policy["purposes"]:
            yield Note(
                ("events", event_type),
                f"the purpose `{purpose}` is not in this policy, so these events are lawful only for people who "
                f"granted it{_hint(purpose, policy['purposes'])}",
            )
    yield from _told_apart_by_case("events", events)


def _fields(policy: Record) -> Iterator[Note]:
    fields = policy.get("fields", {})
    needs = _needs(policy)
    for name, category in fields.items():
        if not covers(needs, category):
            yield Note(
                ("fields", name),
                f"`{category}` may be collected, though no purpose needs it: nobody may receive it without consent",
            )
    yield from _told_apart_by_case("fields", fields)


def _told_apart_by_case(key: str, values: Mapping[str, str]) -> Iterator[Note]:
    first: dict[str, str] = {}
    for name, value in values.items():
        other = first.setdefault(name.casefold(), name)
        if values[other] != value:
            yield Note((key, name), f"`{other}` differs by capital letters only, and means `{values[other]}`")


def _categories(policy: Record) -> Iterator[Note]:
    named = {*_needs(policy), *policy.get("fields", {}).values()}
    for index, category in enumerate(policy["categories"]):
        if not any(_touch(category, key) for key in named):
            yield Note(("categories", index), f"no purpose needs `{category}` and no field reveals it")


def _purposes(policy: Record) -> Iterator[Note]:
    for name, rule in policy["purposes"].items():
        if not rule["needs"]:
            yield Note(
                ("purposes", name, "needs"), "needs nothing: no affiliate or partner may receive any data for it"
            )
        if rule.get("retention_days") == 0:
            yield Note(
                ("purposes", name, "retention_days"), "0 days: data may be disclosed in the moment of collection only"
            )


def _limits(policy: Record) -> Iterator[Note]:
    retention = policy.get("retention", {})
    for category, days in retention.items():
        if not any(_touch(category, key) for key in policy["categories"]):
            yield Note(("retention", category), "the policy does not cover this category: the limit is never reached")
        above = [other for other in retention if other != category and covers([other], category)]
        shorter = min((other for other in above if retention[other] <= days), key=retention.__getitem__, default=None)
        if shorter is not None:
            yield Note(
                ("retention", category), f"never counts: `{shorter}` covers it with {retention[shorter]} days already"
            )
    for region, countries in policy.get("residency", {}).items():
        if not countries:
            yield Note(
                ("residency", region), f"no country is allowed: whatever is collected in {region} is a violation"
            )
        elif region not in countries:
            yield Note(("residency", region), f"{region} itself is not among the countries where its data may be")
    if policy.get("age_of_majority", 18) != 18:
        yield Note(("age_of_majority",), "age bands end at 18 (under_14, 14_17, adult): another age changes no verdict")


def _erasure(policy: Record) -> Iterator[Note]:
    causes = policy.get("erasure", {})
    limited = any(rule.get("retention_days") is not None for rule in policy["purposes"].values())
    if "retention" in causes and not limited and not policy.get("retention"):
        yield Note(("erasure", "retention"), "no purpose and no category has a limit in days: nobody is ever due")
    if causes.get("minor", {}).get("after_days"):
        days = causes["minor"]["after_days"]
        yield Note(
            ("erasure", "minor", "after_days"), f"data of minors without a guardian's consent is kept for {days} days"
        )


# The registry by itself


def _entry(entries: Sequence[Record], index: int, policy: Record | None) -> Iterator[Note]:
    entry = entries[index]
    path: KeyPath = ("recipients", index)
    kind = entry["kind"]
    ids = {other["id"] for other in entries}
    if kind == "partner" and entry["contract_from"] is None:
        yield Note(path, "a partner without `contract_from` has no contract: sharing with it is a violation")
    elif kind in _GIVES and not _contract_ever_holds(entries, entry):
        yield Note(path, "its contract is never in force while this entry counts: sharing with it is a violation")
    if kind in _GIVES and not (entry["purposes"] and entry["categories"]):
        missing = "categories" if entry["purposes"] else "purposes"
        yield Note(path, f"has no `{missing}`: it may receive nothing but by the person's consent")
    if entry["pledge"] and kind != "successor":
        yield Note((*path, "pledge"), "a pledge counts for a successor only")
    if entry["onward"] and kind not in _GIVES:
        yield Note((*path, "onward"), "only an affiliate or a partner may pass data on: this counts for nothing")
    for place, target in enumerate(entry["onward"]):
        if target == entry["id"]:
            yield Note((*path, "onward", place), "names itself")
        elif target.startswith("kind:"):
            if target != "kind:public" and all(other["kind"] != target[5:] for other in entries):
                yield Note((*path, "onward", place), f"no {target[5:]} is registered in this document")
        elif target not in ids:
            yield Note((*path, "onward", place), f"`{target}` is not registered in this document{_hint(target, ids)}")
    for place, purpose in enumerate(entry["purposes"]):
        if policy is not None and purpose not in policy["purposes"]:
            yield Note(
                (*path, "purposes", place),
                f"`{purpose}` is no purpose of policy {policy['version']}{_hint(purpose, policy['purposes'])}",
            )


def _contract_ever_holds(entries: Sequence[Record], entry: Record) -> bool:
    """Whether the contract and the time in which the entry counts have a moment in common."""
    begin = entry["effective_at"]
    later = [other["effective_at"] for other in entries if other["id"] == entry["id"]]
    end = min((time for time in later if time > begin), default=None)
    begin = max(begin, entry["contract_from"] or begin)
    ends = [time for time in (end, entry["contract_until"]) if time is not None]
    return not ends or begin < min(ends)


# Both together


def _unreachable(policy: Record, entries: Sequence[Record]) -> Iterator[Note]:
    used = {*policy.get("events", {}).values(), *(purpose for entry in entries for purpose in entry["purposes"])}
    for name in policy["purposes"]:
        if name not in used:
            yield Note(
                ("purposes", name),
                "no event type stands for it and no recipient has it: only events that state it themselves reach it",
            )
    countries = {entry["country"] for entry in entries}
    for region, allowed in policy.get("residency", {}).items():
        if allowed and entries and not countries & set(allowed):
            yield Note(("residency", region), f"no recipient is in {', '.join(allowed)}: nobody may receive its data")


def _under(policy: Record, entry: Record) -> Iterator[Note]:
    """What an entry hardly means under a policy."""
    clause = policy.get("rules", {}).get("region") or "4.1"
    for region, allowed in policy.get("residency", {}).items() if entry["kind"] != "public" else ():
        if entry["country"] is None:
            yield Note((), f"has no `country`: what is collected in {region} cannot be decided ({clause}, gap)")
        elif entry["country"] not in allowed:
            where = f"is in {entry['country']}"
            yield Note(("country",), f"{where}: disclosing to it what is collected in {region} breaks {clause}")
    rules = [policy["purposes"][name] for name in entry["purposes"] if name in policy["purposes"]]
    for place, category in enumerate(entry["categories"]):
        if category == "*":
            continue
        if not any(_touch(category, key) for key in policy["categories"]):
            yield Note(("categories", place), f"policy {policy['version']} does not cover `{category}`")
        elif (
            entry["kind"] in _GIVES and rules and not any(_touch(category, n) for rule in rules for n in rule["needs"])
        ):
            yield Note(("categories", place), f"none of its purposes needs `{category}`")
    for place, name in enumerate(entry["purposes"]):
        needs = policy["purposes"].get(name, {}).get("needs", ())
        if needs and entry["categories"] and not any(_touch(c, need) for c in entry["categories"] for need in needs):
            yield Note(("purposes", place), f"`{name}` needs none of its categories: it can receive nothing for it")


def _needs(policy: Record) -> set[str]:
    return {need for rule in policy["purposes"].values() for need in rule["needs"]}


def _touch(one: str, other: str) -> bool:
    """Whether one data category covers the other or lies below it."""
    return covers([one], other) or covers([other], one)


def _hint(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f": did you mean `{near[0]}`?" if near else ""
