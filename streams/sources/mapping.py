"""Mapping documents: how the records of a source become input events. Compiled once, then a pure function of a row.

`load_mapping` reads and checks a document, `Mapping.compile` gives a `Mapper`, `Mapper.map_row` turns one row into
events or into a `Rejection`. It never raises for what a row holds, and a reason never quotes it. The guide for
people who write mappings is docs/mappings.md.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from processors.pseudonyms import check_pepper, derive_event_id
from schemas import schema_dir
from streams.documents import Document, DocumentError, load_document
from streams.identities import Identity
from streams.sources.events import EVENTS, Checker, Mapped, Refused, refuse_personal
from streams.sources.expressions import Expression, Row, first_of, path, split_path, user_id
from streams.sources.rules import Reading, compile_records, compile_time

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


# Keys of `input` that only one format has.
_INPUT_KEYS = {"rows": "json", "delimiter": "csv", "schemas": "avro-topic"}


class Position(NamedTuple):
    """Where a row stands in its source: line (from 1) of a file, element (from 1) of a JSON list, or offset and
    partition of a topic."""

    number: int
    partition: int = -1


class Rejection(NamedTuple):
    """Why a row gives no events. One of few texts, so that rows can be counted by it; quotes no content."""

    reason: str


@dataclass(frozen=True)
class Mapping:
    """A checked mapping document. `directory` is where relative file names in it start from."""

    document: Document
    directory: Path

    @property
    def name(self) -> str:
        return str(self.document["name"])

    @property
    def input(self) -> dict[str, Any]:
        return dict(self.document["input"])

    def compile(self, pepper: bytes) -> "Mapper":
        """Raises `DocumentError` for what a JSON Schema cannot see, `ValueError` for a pepper too short."""
        return Mapper(self, check_pepper(pepper))


def load_mapping(source: Path | str) -> Mapping:
    """Reads a mapping: a path, or the name of one that ships (`rudderstack`).

    Raises `DocumentError` with every problem as `file:line: key: message`, `FileNotFoundError` with the names there
    are.
    """
    found = Path(source)
    shipped = schema_dir() / "mappings" / f"{source}.yaml"
    if not found.is_file() and isinstance(source, str) and shipped.is_file():
        found = shipped
    if not found.is_file():
        names = ", ".join(sorted(file.stem for file in (schema_dir() / "mappings").glob("*.yaml")))
        raise FileNotFoundError(f"no mapping {source}: give a YAML file, or one that ships: {names}")
    return checked_mapping(load_document(found, _schema()), found.parent)


def read_mapping(text: str, name: str = "mapping") -> Mapping:
    """A mapping given as text. Raises `DocumentError`."""
    return checked_mapping(load_document(text, _schema(), name), Path())


def checked_mapping(document: Document, directory: Path) -> Mapping:
    """Compiles the document once, so that all its problems are told when it is read."""
    mapping = Mapping(document, directory)
    mapping.compile(bytes(32))
    return mapping


@cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((schema_dir() / "mappings" / "mapping.schema.json").read_text("utf-8"))
    return schema


class Mapper:
    """A compiled mapping. Keeps nothing of a row but what it remembers of checked values (names and keys)."""

    def __init__(self, mapping: Mapping, pepper: bytes) -> None:
        document = mapping.document
        self._name = mapping.name.encode()
        self._pepper = pepper
        reading = Reading(document)
        for key, form in _INPUT_KEYS.items():
            if key in document["input"] and document["input"]["format"] != form:
                reading.wrong(("input", key), f"belongs to the format {form}")
        self._root = path(document["input"]["root"]) if "root" in document["input"] else None
        self._user_id = user_id(document["user_id"])
        time = compile_time(document["time"], ("time",), "time", reading)
        self._records = compile_records(document["records"], time, mapping.name, reading)
        self._identities = [
            reading.identity(spec, ("identities", at)) for at, spec in enumerate(document.get("identities", ()))
        ]
        self._given_id, self._without, self._use_position = _event_id(document.get("event_id", {}))
        self._checkers = {topic: Checker(topic) for topic in EVENTS}
        if reading.problems:
            raise DocumentError(document.name, reading.problems)

    def map_row(self, row: Row, position: Position) -> list[Mapped] | Rejection:
        """The events of one row, or why it has none. Never raises for what the row holds."""
        try:
            return self._map(row, position)
        except Refused as refused:
            return Rejection(str(refused))
        except RecursionError:
            return Rejection("nested too deep")

    def _map(self, row: Row, position: Position) -> list[Mapped]:
        if self._root is not None:
            row = self._below_root(row)
        user = self._user_id(row)
        identities: tuple[Identity, ...] = ()
        if self._identities:
            identities = tuple(dict.fromkeys(found for each in self._identities for found in each(row)))
        events: list[Mapped] = []
        matched = False
        for rule_at, record in enumerate(self._records):
            if record.when is not None and not record.when(row):
                continue
            matched = True
            for item_at, (scope, given) in enumerate(record.found(row)):
                values = self._checkers[record.topic].checked(given)
                refuse_personal(record.topic, values, user, identities)
                occurred_at = record.time(scope, position.number)
                collected_at = record.collected_at(scope) if record.collected_at is not None else None
                place = (rule_at, item_at) if events else None
                event_id = self._event_id(row, position, user, identities, place)
                events.append(Mapped(record.topic, user, identities, event_id, occurred_at, collected_at, values))
        if not events:
            raise Refused("the matching rule finds nothing to record" if matched else "no rule matches")
        return events

    def _below_root(self, row: Row) -> Row:
        assert self._root is not None
        body = self._root(row)
        if type(body) is not dict:
            raise Refused("the record has no object at `root`")
        # The key of a Kafka message stays in reach.
        return {**body, "$key": row["$key"]} if "$key" in row else body

    def _event_id(
        self, row: Row, position: Position, user: str, identities: Sequence[Identity], place: tuple[int, int] | None
    ) -> bytes:
        """The row's own id for its first event, else one derived with the pepper.

        Further events of the row (`place`: their rule and item) get ids of their own. A given id that is the user
        id or another identifier of the person is never taken as it is.
        """
        given = self._given_id(row) if self._given_id is not None else None
        if given is not None and not isinstance(given, str | int):
            raise Refused("the event id is neither text nor a whole number")
        if type(given) is str and place is None and _UUID.fullmatch(given):
            told = given.casefold()
            if told != user.casefold() and all(told != identity.identity_value.casefold() for identity in identities):
                return bytes.fromhex(given.replace("-", ""))
        where = b"" if place is None else b"%d.%d" % place
        if given is not None:
            # Ids that count up for each user are common: the same id of another user is another event.
            content = b"id\0" + _utf8(user) + b"\0" + _utf8(str(given))
        else:
            at = b"%d/%d" % (position.partition, position.number) if self._use_position else b""
            content = b"row\0" + at + b"\0" + _canonical(_pruned(row, self._without))
        return derive_event_id(self._pepper, self._name + b"\0" + where + b"\0" + content)


def _event_id(spec: Any) -> tuple[Expression | None, list[list[str]], bool]:
    if isinstance(spec, str | list):
        return first_of(spec), [], True
    return None, [split_path(text) for text in spec.get("without", ())], spec.get("position", True)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Refused("the event id is not valid Unicode") from None


def _pruned(row: Row, without: list[list[str]]) -> Row:
    """The row without the values at some paths; what is shared with the row is not changed."""
    for keys in without:
        row = _without(row, keys)
    return row


def _without(value: Any, keys: list[str]) -> Any:
    if type(value) is not dict or keys[0] not in value:
        return value
    copy = dict(value)
    if len(keys) == 1:
        del copy[keys[0]]
    else:
        copy[keys[0]] = _without(copy[keys[0]], keys[1:])
    return copy


def _canonical(row: Row) -> bytes:
    try:
        return orjson.dumps(row, default=_plain, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # orjson goes 254 levels deep, and refuses lone surrogates and integers beyond 64 bits.
        try:
            return json.dumps(row, sort_keys=True, default=str).encode("ascii")
        except (TypeError, ValueError):
            raise Refused("the record cannot be read as data") from None


def _plain(value: Any) -> Any:
    """What Avro decodes to beyond JSON."""
    return value.hex() if isinstance(value, bytes) else str(value)
