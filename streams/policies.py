"""Policies and recipients as people write them (YAML, `schemas/policies`), and as records of their topics.

A document is checked here (beyond its schema: does each clause, purpose and category that it names exist?), and
turned into the record form of `PolicyPublished` and `RecipientRegistered`, where times are milliseconds since
1970 UTC, and back. Nothing is judged here, and nothing is published.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from processors.knowledge import ERASURE_CAUSES, STANDARD_RULES
from processors.policy_review import Note, review_policy, review_recipients, review_together
from schemas import schema_dir
from streams.documents import (
    Document,
    DocumentError,
    KeyPath,
    Problem,
    format_instant,
    load_document,
    nearest,
    parse_instant,
)

_POLICY_DEFAULTS: Mapping[str, Any] = {
    "name": "",
    "events": {},
    "fields": {},
    "residency": {},
    "retention": {},
    "clauses": {},
    "age_of_majority": 18,
    "response_days": 30,
}
_RECIPIENT_DEFAULTS: Mapping[str, Any] = {
    "name": "",
    "contact": None,
    "country": None,
    "purposes": [],
    "categories": [],
    "contract_from": None,
    "contract_until": None,
    "pledge": False,
    "onward": [],
}
_RECIPIENT_TIMES = ("effective_at", "contract_from", "contract_until")


def load_policy(source: Path | str, name: str | None = None) -> Document:
    """Read a policy document from a file, or from text. Raises `DocumentError` with every problem and its line."""
    return _checked(load_document(source, _schema("policy.schema.json"), name), _policy_problems)


def load_recipients(source: Path | str, name: str | None = None) -> Document:
    """Read a recipients document from a file, or from text. Raises `DocumentError` with every problem."""
    return _checked(load_document(source, _schema("recipients.schema.json"), name), _recipient_problems)


def policy_record(document: Mapping[str, Any]) -> dict[str, Any]:
    """The `PolicyPublished` form of a policy document: all keys present, `effective_at` in ms, all rules named, and
    the clause of each cause of an erasure.

    Also takes the policies of a history (`lineage judge`), which are documents without the optional keys.
    """
    purposes = {
        purpose: {"retention_days": None, "data_use": None, "dpv": None, **rule}
        for purpose, rule in document["purposes"].items()
    }
    known = {key: value for key, value in document.items() if key != "extensions"}
    rules = {**STANDARD_RULES, **document.get("rules", {})}
    return {
        **_POLICY_DEFAULTS,
        **known,
        "effective_at": parse_instant(document["effective_at"]),
        "purposes": purposes,
        "rules": rules,
        "erasure": {
            cause: {"clause": rules[ERASURE_CAUSES[cause]], **terms}
            for cause, terms in document.get("erasure", {}).items()
        },
    }


def policy_document(record: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a `PolicyPublished` record, as `load_policy` takes it; the inverse of `policy_record`.

    The meaning of data categories of its own is not in a record: it comes back empty.
    """
    document = {
        **record,
        "effective_at": format_instant(record["effective_at"]),
        "purposes": {
            purpose: {key: value for key, value in rule.items() if value is not None}
            for purpose, rule in record["purposes"].items()
        },
    }
    own = {key for _, key in _category_paths(document)} - _vocabulary("data_categories") - {"*"}
    return document | ({"extensions": dict.fromkeys(sorted(own), "")} if own else {})


def recipient_records(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The `RecipientRegistered` forms of a recipients document's entries, in its order, times in ms."""
    return [recipient_record(entry) for entry in document["recipients"]]


def recipient_record(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The `RecipientRegistered` form of one entry: all keys present, times in ms."""
    times = {key: parse_instant(entry[key]) for key in _RECIPIENT_TIMES if entry.get(key) is not None}
    return {**_RECIPIENT_DEFAULTS, **entry, **times}


def recipients_document(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The document of `RecipientRegistered` records, as `load_recipients` takes it."""
    entries = []
    for record in records:
        times = {key: format_instant(record[key]) for key in _RECIPIENT_TIMES if record[key] is not None}
        entries.append({**record, **times})
    return {"recipients": entries}


def lint_policy(document: Document) -> list[Problem]:
    """What a policy may say but hardly means, by line. None of it keeps the policy from being published."""
    return _noted(document, review_policy(document))


def lint_recipients(document: Document, policy: Mapping[str, Any] | None = None) -> list[Problem]:
    """What a registry may say but hardly means, by line; with the policy, purposes that it does not have, too."""
    return _noted(document, review_recipients(recipient_records(document), policy))


def lint_together(policy: Document, recipients: Document) -> tuple[list[Problem], list[Problem]]:
    """What both may say but hardly mean together: by line of the policy, and by line of the registry."""
    of_policy, of_recipients = review_together(policy, recipient_records(recipients))
    return _noted(policy, of_policy), _noted(recipients, of_recipients)


def _noted(document: Document, notes: Iterable[Note]) -> list[Problem]:
    return sorted({document.problem(note.path, note.message) for note in notes})


def covers(listed: Iterable[str], categories: Iterable[str]) -> bool:
    """Whether every category is listed, or lies below a listed one; `*` lists all."""
    listed = tuple(listed)
    return "*" in listed or all(
        any(category == key or category.startswith(key + ".") for key in listed) for category in categories
    )


def _policy_problems(document: Document) -> Iterator[Problem]:
    yield from _category_problems(document, _category_paths(document))
    clauses = document.get("clauses", {})
    for purpose, rule in document["purposes"].items():
        path = ("purposes", purpose)
        if clauses and rule["clause"] not in clauses:
            message = f"the clause {rule['clause']} is not listed under `clauses`: add it there, or correct it"
            yield document.problem((*path, "clause"), message)
        use = rule.get("data_use")
        uses = _vocabulary("data_uses")
        if use is not None and use not in uses:
            yield document.problem((*path, "data_use"), f"`{use}` is no fideslang data use{nearest(use, uses)}")
        for index, need in enumerate(rule["needs"]):
            if need != "*" and not covers(document["categories"], [need]):
                yield document.problem((*path, "needs", index), _not_named(need))
    for field, category in document.get("fields", {}).items():
        if not covers(document["categories"], [category]):
            yield document.problem(("fields", field), _not_named(category))
    for name, clause in {**STANDARD_RULES, **document.get("rules", {})}.items():
        if clauses and clause not in clauses:
            given = name in document.get("rules", {})
            message = f"the rule `{name}` cites clause {clause}, which is not listed under `clauses`: "
            message += "add it there, or correct it" if given else "add it there, or name its clause here"
            yield document.problem(("rules", name) if given else ("rules",), message)
    for cause, terms in document.get("erasure", {}).items():
        if clauses and "clause" in terms and terms["clause"] not in clauses:
            message = f"the clause {terms['clause']} is not listed under `clauses`: add it there, or correct it"
            yield document.problem(("erasure", cause, "clause"), message)


def _recipient_problems(document: Document) -> Iterator[Problem]:
    first: dict[tuple[str, int], int] = {}
    paths = []
    for index, entry in enumerate(document["recipients"]):
        path: KeyPath = ("recipients", index)
        paths += [
            ((*path, "categories", place), category) for place, category in enumerate(entry.get("categories", ()))
        ]
        record = recipient_record(entry)
        start, end = record["contract_from"], record["contract_until"]
        if start is not None and end is not None and end <= start:
            message = "the contract ends before it begins: must be later than `contract_from`"
            yield document.problem((*path, "contract_until"), message)
        key = (record["id"], record["effective_at"])
        if key in first:
            message = f"`{entry['id']}` has an entry of this time already, on line {first[key]}: keep one"
            yield document.problem((*path, "effective_at"), message)
        else:
            first[key] = document.lines[path]
    yield from _category_problems(document, paths)


def _category_problems(document: Document, paths: Iterable[tuple[KeyPath, str]]) -> Iterator[Problem]:
    own = document.get("extensions", {})
    vocabulary = _vocabulary("data_categories")
    for key in own:
        if key in vocabulary:
            message = "is a fideslang category already: remove it, or choose another key"
            yield document.problem(("extensions", key), message)
    known = vocabulary | own.keys() | {"*"}
    for path, category in paths:
        if category not in known:
            hint = nearest(category, known) or ": declare a category of your own under `extensions`"
            yield document.problem(path, f"`{category}` is no fideslang data category{hint}")


def _category_paths(document: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Each place of a policy that names a data category, and that category."""
    for index, category in enumerate(document["categories"]):
        yield ("categories", index), category
    for purpose, rule in document["purposes"].items():
        for index, category in enumerate(rule["needs"]):
            yield ("purposes", purpose, "needs", index), category
    for field, category in document.get("fields", {}).items():
        yield ("fields", field), category
    for category in document.get("retention", {}):
        yield ("retention", category), category


def _not_named(category: str) -> str:
    return f"`{category}` is not covered by the policy's `categories`: add it there, or remove it here"


def _checked(document: Document, check: Callable[[Document], Iterator[Problem]]) -> Document:
    problems = list(check(document))
    if problems:
        raise DocumentError(document.name, problems)
    return document


@cache
def _schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((schema_dir() / "policies" / name).read_text(encoding="utf-8"))
    return loaded


@cache
def _vocabulary(kind: str) -> frozenset[str]:
    text = (schema_dir() / "vocabulary" / "fideslang.json").read_text(encoding="utf-8")
    return frozenset(json.loads(text)[kind])
