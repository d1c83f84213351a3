"""What another version of a policy, or of the registry, changes for people and for recipients, in words. Pure.

Compares records, not texts: two documents that mean the same have no changes. A change says what is so from the day on
which the newer one takes effect; it never says whether an event would be judged otherwise (that is `lineage judge`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from processors.knowledge import covers
from processors.sentences import day, listed

Record = Mapping[str, Any]

SUBJECTS, RECIPIENTS = "subjects", "recipients"


class Change(NamedTuple):
    """`affects`: subjects or recipients; `key`: dotted, of the document; `before`, `after`: None for what is not."""

    affects: str
    key: str
    text: str
    before: Any = None
    after: Any = None


def diff_policies(old: Record, new: Record) -> list[Change]:
    """The changes between two `PolicyPublished` records (times in ms)."""
    changes: list[Change] = []
    if (old["version"], old["effective_at"]) != (new["version"], new["effective_at"]):
        at, clause = day(new["effective_at"]), new["rules"].get("not_accepted", "")
        text = f"version {new['version']} is in force from {at} on: until you accept it, none of your data may be "
        text += f"collected, used or shared (clause {clause})"
        changes.append(Change(SUBJECTS, "version", text, old["version"], new["version"]))
    changes += _purposes(old, new)
    changes += _categories(old["categories"], new["categories"])
    changes += _fields(old, new)
    changes += _events(old, new)
    changes += _residency(old, new)
    changes += _retention(old, new)
    changes += _the_rest(old, new)
    return changes


def diff_recipients(old: Sequence[Record], new: Sequence[Record]) -> list[Change]:
    """The changes between two registries, given as `RecipientRegistered` records: of each id the latest entry."""
    before, after = _latest(old), _latest(new)
    changes: list[Change] = []
    for name in sorted({*before, *after}):
        one, other = before.get(name), after.get(name)
        if other is None:
            changes.append(Change(RECIPIENTS, name, f"{name} is not in the newer registry", one and dict(one)))
        elif one is None:
            changes.append(Change(RECIPIENTS, name, _newcomer(other), None, dict(other)))
        else:
            changes += _entry(one, other)
    return changes


# Policies


def _purposes(old: Record, new: Record) -> Iterator[Change]:
    before, after = old["purposes"], new["purposes"]
    start = f"from {day(new['effective_at'])} your data"
    for name, rule in after.items():
        key = f"purposes.{name}"
        if name not in before:
            text = f"{start} may also be used for `{name}` ({rule['clause']}): {named(rule['needs'])}; "
            yield Change(SUBJECTS, key, text + _ALLOWED[rule["basis"]], None, dict(rule))
        else:
            yield from _purpose(name, before[name], rule)
    for name, rule in before.items():
        if name not in after:
            text = f"{start} may no longer be used for `{name}`, unless you consent to that very purpose"
            yield Change(SUBJECTS, f"purposes.{name}", text, dict(rule), None)
            text = f"nobody may receive data for `{name}` any more, but by the person's consent"
            yield Change(RECIPIENTS, f"purposes.{name}", text, dict(rule), None)


_ALLOWED = {
    "policy_acceptance": "allowed once you accept the policy",
    "opt_out": "allowed once you accept the policy, until you withdraw",
    "explicit_consent": "allowed only with your explicit consent",
}
_NOW = {
    "policy_acceptance": "is allowed by your acceptance of the policy alone: you can no longer withdraw from it",
    "opt_out": "is allowed by your acceptance of the policy, until you withdraw from it",
    "explicit_consent": "needs your explicit consent",
}


def _purpose(name: str, old: Record, new: Record) -> Iterator[Change]:
    key = f"purposes.{name}"
    if old["basis"] != new["basis"]:
        yield Change(SUBJECTS, f"{key}.basis", f"`{name}` now {_NOW[new['basis']]}", old["basis"], new["basis"])
    gained, lost = beyond(old["needs"], new["needs"]), beyond(new["needs"], old["needs"])
    if gained:
        text = f"`{name}` may also use your {named(gained)}"
        yield Change(SUBJECTS, f"{key}.needs", text, list(old["needs"]), list(new["needs"]))
        text = f"affiliates and partners may also receive {listed(gained)} for `{name}`, where registered for it"
        yield Change(RECIPIENTS, f"{key}.needs", text, list(old["needs"]), list(new["needs"]))
    if lost:
        text = f"`{name}` no longer needs your {named(lost)}"
        yield Change(SUBJECTS, f"{key}.needs", text, list(old["needs"]), list(new["needs"]))
        text = f"affiliates and partners may no longer receive {listed(lost)} for `{name}`"
        yield Change(RECIPIENTS, f"{key}.needs", text, list(old["needs"]), list(new["needs"]))
    if old["retention_days"] != new["retention_days"]:
        text = f"data for `{name}` is kept {_days(old['retention_days'], new['retention_days'])}"
        yield Change(SUBJECTS, f"{key}.retention_days", text, old["retention_days"], new["retention_days"])
    if old["clause"] != new["clause"]:
        text = f"`{name}` stands in clause {new['clause']} instead of {old['clause']}"
        yield Change(SUBJECTS, f"{key}.clause", text, old["clause"], new["clause"])


def _categories(old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    gained, lost = beyond(old, new), beyond(new, old)
    if gained:
        yield Change(SUBJECTS, "categories", f"your {named(gained)} may also be collected", list(old), list(new))
    if lost:
        yield Change(SUBJECTS, "categories", f"your {named(lost)} may no longer be collected", list(old), list(new))


def _fields(old: Record, new: Record) -> Iterator[Change]:
    for name, one, other in _entries(old["fields"], new["fields"]):
        if one is None:
            text = f"`{name}` may also be collected: it tells your {named([other])}"
        elif other is None:
            text = f"`{name}` may no longer be collected"
        else:
            text = f"`{name}` now counts as your {named([other])}, not as {named([one])}"
        yield Change(SUBJECTS, f"fields.{name}", text, one, other)


def _events(old: Record, new: Record) -> Iterator[Change]:
    for name, one, other in _entries(old["events"], new["events"]):
        if one is None:
            text = f"what is recorded at `{name}` serves `{other}`"
        elif other is None:
            text = (
                f"what is recorded at `{name}` serves no purpose any more: it must not be recorded unless it names one"
            )
        else:
            text = f"what is recorded at `{name}` now serves `{other}` instead of `{one}`"
        yield Change(SUBJECTS, f"events.{name}", text, one, other)


def _residency(old: Record, new: Record) -> Iterator[Change]:
    for region, one, other in _entries(old["residency"], new["residency"]):
        start = f"what is collected in {region}"
        if other is None:
            text = f"{start} may be kept in any country"
        elif one is None:
            text = f"{start} may be kept in {listed(other)} only"
        else:
            gained, lost = [c for c in other if c not in one], [c for c in one if c not in other]
            parts = [f"may also be kept in {listed(gained)}"] if gained else []
            parts += [f"may no longer be kept in {listed(lost)}"] if lost else []
            if not parts:
                continue
            text = f"{start} {' and '.join(parts)}"
        yield Change(SUBJECTS, f"residency.{region}", text, one, other)
        yield Change(RECIPIENTS, f"residency.{region}", text.replace("be kept in", "be received in"), one, other)


def _retention(old: Record, new: Record) -> Iterator[Change]:
    for category, one, other in _entries(old["retention"], new["retention"]):
        text = f"your {named([category])} is kept {_days(one, other)}"
        yield Change(SUBJECTS, f"retention.{category}", text, one, other)


def _the_rest(old: Record, new: Record) -> Iterator[Change]:
    if old["age_of_majority"] != new["age_of_majority"]:
        text = f"a guardian must consent for whoever is under {new['age_of_majority']}, not {old['age_of_majority']}"
        yield Change(SUBJECTS, "age_of_majority", text, old["age_of_majority"], new["age_of_majority"])
    if old["response_days"] != new["response_days"]:
        text = f"your requests are answered within {new['response_days']} days instead of {old['response_days']}"
        yield Change(SUBJECTS, "response_days", text, old["response_days"], new["response_days"])
    yield from _erasure(old, new)
    for rule, one, other in _entries(old["rules"], new["rules"]):
        text = f"the rule `{rule}` cites clause {other} instead of {one}"
        yield Change(SUBJECTS, f"rules.{rule}", text, one, other)
    for clause, one, other in _entries(old["clauses"], new["clauses"]):
        what = "is gone" if other is None else f"is new: {other}" if one is None else f"is now called: {other}"
        yield Change(SUBJECTS, f"clauses.{clause}", f"clause {clause} {what}", one, other)


_CAUSES = {
    "minor": "you are under age and no guardian has consented",
    "merger": "your data went to a successor that has not pledged to stay bound by the policy",
    "leave": "you have ended your use",
    "withdrawal": "you have withdrawn the use of your data for all purposes",
    "retention": "all that is kept of you is past its retention",
}


def _erasure(old: Record, new: Record) -> Iterator[Change]:
    # Records of before 0.2 have no such key.
    for cause, one, other in _entries(old.get("erasure") or {}, new.get("erasure") or {}):
        if other is None:
            text = f"your data is no longer erased unasked when {_CAUSES[cause]}"
        else:
            days = other["after_days"]
            when = "at once" if days == 0 else f"after {days} days"
            text = f"your data is erased unasked, {when}, when {_CAUSES[cause]} (clause {other['clause']})"
        yield Change(SUBJECTS, f"erasure.{cause}", text, one, other)


# Recipients


def _entry(old: Record, new: Record) -> Iterator[Change]:
    name = new["id"]
    changed = [key for key in new if key != "effective_at" and new[key] != old.get(key)]
    start = f"from {day(new['effective_at'])} {name}"
    for key in changed:
        one, other = old.get(key), new[key]
        for text in _entry_texts(key, one, other):
            yield Change(RECIPIENTS, f"{name}.{key}", f"{start} {text}", one, other)
    if changed and old["effective_at"] == new["effective_at"]:
        text = f"{name}: both entries have one effective_at, so the newer is refused once the older is published"
        yield Change(RECIPIENTS, f"{name}.effective_at", text, old["effective_at"], new["effective_at"])


def _entry_texts(key: str, one: Any, other: Any) -> Iterator[str]:
    match key:
        case "purposes" | "categories" | "onward":
            added = beyond(one, other) if key == "categories" else [value for value in other if value not in one]
            removed = beyond(other, one) if key == "categories" else [value for value in one if value not in other]
            may = {"purposes": "receive data for", "categories": "receive", "onward": "pass data on to"}[key]
            if added:
                yield f"may also {may} {listed(added)}"
            if removed:
                yield f"may no longer {may} {listed(removed)}"
        case "country":
            yield f"is in {other or 'a country not on record'}, before in {one or 'a country not on record'}"
        case "kind":
            yield f"counts as {other}, before as {one}"
        case "pledge":
            yield "has pledged to stay bound by the policy" if other else "is without its pledge"
        case "contract_from":
            yield f"has a contract that begins {_on(other)}, before {_on(one)}"
        case "contract_until":
            yield f"has a contract that ends {_on(other)}, before {_on(one)}"
        case _:
            yield f"has another {key}: {other}, before {one}"


def _newcomer(entry: Record) -> str:
    text = f"{entry['id']} is registered as {entry['kind']} from {day(entry['effective_at'])}"
    if entry["kind"] in ("affiliate", "partner"):
        text += f": it may receive {listed(entry['categories'])} for {listed(entry['purposes'])}"
    return text + (f", in {entry['country']}" if entry["country"] else "")


def _latest(entries: Iterable[Record]) -> dict[str, Record]:
    return {entry["id"]: entry for entry in sorted(entries, key=lambda entry: entry["effective_at"])}


# Words


def beyond(listed_keys: Sequence[str], others: Sequence[str]) -> list[str]:
    """The data categories of `others` that the listed ones do not cover."""
    return [category for category in others if not covers(listed_keys, category)]


def named(categories: Iterable[str]) -> str:
    """`location: precise (user.location.precise)` for each; `*` is any data."""
    return ", ".join(
        "data of any kind" if key == "*" else f"{': '.join(key.split('.')[1:] or [key]).replace('_', ' ')} ({key})"
        for key in categories
    )


def _days(before: int | None, after: int | None) -> str:
    if after is None:
        return f"without a limit in days, before for {before} days"
    return f"for {after} days instead of " + ("without a limit" if before is None else f"{before}")


def _on(ms: int | None) -> str:
    return "at no time on record" if ms is None else f"on {day(ms)}"


def _entries(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(key, before, after) of what differs; None for what is not there."""
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)
