"""The rules of a mapping document, compiled: which rows they take, and the values that they give to an event.

What is wrong in a document is collected as problems with their lines, all at once; nothing here reads rows' sources.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from streams.documents import Document, KeyPath, Problem, parse_instant
from streams.identities import Identity, check_identity
from streams.sources import expressions
from streams.sources.consent_signals import Signal, compile_signal
from streams.sources.events import EVENTS, Field, Refused, check_time
from streams.sources.expressions import Condition, Expression, Row
from streams.sources.fields import field_names
from streams.topics import CONSENT

Time = Callable[[Row, int], int]

_STEP_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_RULE_KEYS = ("to", "when", "each", "time", "collected_at")
_SIGNAL_KEYS = ("to", "when", "each", "time", "signal", "source")


@dataclass(frozen=True)
class Record:
    """One rule: the rows it takes (`when`), the scopes it makes of one (`each`), and the event's values: constants,
    and columns that are read from the row (place, name, expression, coercion). A `signal` gives several events for one
    scope, all their values but the last, `source`."""

    topic: str
    when: Condition | None
    each: Expression | None
    time: Time
    collected_at: Callable[[Row], int | None] | None
    constants: tuple[Any, ...]
    columns: tuple[tuple[int, str, Expression, Callable[[Any], Any]], ...]
    signal: Signal | None = None

    def found(self, row: Row) -> Iterator[tuple[Row, tuple[Any, ...]]]:
        """Each event of a row: its scope, and the contract's fields behind the head. Raises `Refused`."""
        for scope in self.scopes(row):
            values = self.values(scope)
            if self.signal is None:
                yield scope, values
            else:
                for fact in self.signal(scope):
                    yield scope, (*fact, values[-1])

    def scopes(self, row: Row) -> Iterable[Row]:
        """The row itself, or one scope for each item of a list, which paths reach as `$`."""
        if self.each is None:
            return (row,)
        items = self.each(row)
        if items is None:
            return ()
        return ({**row, "$": item} for item in (items if isinstance(items, list) else [items]))

    def values(self, row: Row) -> tuple[Any, ...]:
        """The contract's fields behind the head, brought to their types. Raises `Refused`."""
        values = list(self.constants)
        for at, name, expression, coerce in self.columns:
            try:
                values[at] = coerce(expression(row))
            except Refused as refused:
                reason = str(refused)
                # A coercion says what is wrong with a value, not which field it was for.
                raise Refused(reason if reason.startswith("`") else f"`{name}` {reason}") from None
        return tuple(values)


class Reading:
    """A document while it is compiled: finds its problems."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def wrong(self, at: KeyPath, message: str) -> None:
        self.problems.append(self.document.problem(at, message))

    def condition(self, spec: Mapping[str, Any] | None, at: KeyPath) -> Condition | None:
        if spec is None:
            return None
        return expressions.condition(spec, self.document, at, self.problems)

    def identity(self, spec: Mapping[str, Any], at: KeyPath) -> Callable[[Row], Iterable[Identity]]:
        """One entry of `identities`: `{type, path}`, or `{list}` of OpenDSR objects in the row."""
        if ("list" in spec) == ("path" in spec) or ("path" in spec) != ("type" in spec):
            self.wrong(at, "give `type` and `path`, or `list` alone")
            return lambda _row: ()
        when = self.condition(spec.get("when"), (*at, "when"))
        listed = _listed(expressions.path(spec["list"])) if "list" in spec else _single(spec)
        if when is None:
            return listed
        return lambda row: listed(row) if when(row) else ()


def _single(spec: Mapping[str, Any]) -> Callable[[Row], Iterable[Identity]]:
    kind, form = spec["type"], spec.get("format", "raw")
    value_of = expressions.identity_value(spec["path"])

    def single(row: Row) -> Iterable[Identity]:
        value = value_of(row)
        return () if value is None else (Identity(kind, form, value),)

    return single


def _listed(value_of: Expression) -> Callable[[Row], Iterable[Identity]]:
    def listed(row: Row) -> Iterable[Identity]:
        given = value_of(row)
        if given is None:
            return ()
        try:
            found = [
                check_identity(item["identity_type"], item.get("identity_format", "raw"), item["identity_value"])
                for item in given
            ]
            for identity in found:
                identity.identity_value.encode()
        except (ValueError, TypeError, KeyError, AttributeError):
            raise Refused(
                "an identity is not one of OpenDSR (identity_type, identity_format, identity_value)"
            ) from None
        return found

    return listed


def compile_time(spec: Mapping[str, Any], at: KeyPath, name: str, reading: Reading) -> Time:
    """Where an event's time comes from. Its functions raise `Refused` for a row without a readable one."""
    if ("path" in spec) == ("synthesise" in spec):
        reading.wrong(at, "give `path` (and `format`), or `synthesise`")
        return lambda _row, _number: 0
    if "synthesise" in spec:
        start = parse_instant(spec["synthesise"]["start"])
        step = spec["synthesise"]["step"]
        unit = step.lstrip("0123456789")
        step_ms = int(step.removesuffix(unit)) * _STEP_MS[unit]
        return lambda _row, number: check_time(start + number * step_ms, name)
    read = _reader(spec, at, name, reading)
    value_of = expressions.first_of(spec["path"])
    missing = f"`{name}` is missing ({expressions.words(spec['path'])})"

    def time(row: Row, _number: int) -> int:
        value = value_of(row)
        if value is None:
            raise Refused(missing)
        return read(value)

    return time


def _reader(spec: Mapping[str, Any], at: KeyPath, name: str, reading: Reading) -> Callable[[Any], int]:
    place: tzinfo | None = None
    if "zone" in spec:
        try:
            place = expressions.zone(spec["zone"])
        except ValueError as error:
            reading.wrong((*at, "zone"), str(error))
    return expressions.time_reader(spec.get("format", "iso8601"), place, name)


def compile_records(specs: Sequence[Mapping[str, Any]], time: Time, source: str, reading: Reading) -> list[Record]:
    """The rules in their order. `source` is the contract's `source` where a rule gives none."""
    return [_record(spec, ("records", at), time, source, reading) for at, spec in enumerate(specs)]


def _record(spec: Mapping[str, Any], at: KeyPath, time: Time, source: str, reading: Reading) -> Record:
    topic = spec["to"]
    event = EVENTS[topic]
    signal = None
    if "signal" in spec:
        if topic != CONSENT:
            reading.wrong((*at, "signal"), f"belongs to {CONSENT}: {topic} has no such key")
        for key in set(spec) - {*_SIGNAL_KEYS}:
            reading.wrong((*at, key), "the signal gives it: leave it out")
        signal = compile_signal(spec["signal"], (*at, "signal"), reading.wrong)
    for key in set(spec) - {"signal"}:
        known = key in event.fields or key in _RULE_KEYS
        if not known or (key == "collected_at" and not event.has_collected_at):
            reading.wrong((*at, key), f"{topic} has no such field: it has {', '.join(event.fields)}")
    constants: list[Any] = []
    columns = []
    for name, field in event.fields.items():
        given = spec.get(name, {"const": source if name == "source" else None})
        if field.required and name not in spec and signal is None:
            reading.wrong(at, f"the key `{name}` is missing: every {topic} event needs it")
        expression = _expression(given, field, name, (*at, name), reading)
        constants.append(None)
        if not isinstance(given, dict) or "const" not in given:
            columns.append((len(constants) - 1, name, expression, field.coerce))
        elif not reading.problems:
            constants[-1] = field.coerce(expression({}))
    if "time" in spec:
        time = compile_time(spec["time"], (*at, "time"), "time", reading)
    return Record(
        topic,
        reading.condition(spec.get("when"), (*at, "when")),
        expressions.path(spec["each"]) if "each" in spec else None,
        time,
        _collected_at(spec["collected_at"], (*at, "collected_at"), reading) if "collected_at" in spec else None,
        tuple(constants),
        tuple(columns),
        signal,
    )


def _collected_at(spec: Mapping[str, Any], at: KeyPath, reading: Reading) -> Callable[[Row], int | None]:
    if "path" not in spec:
        reading.wrong(at, "give `path`: when data was collected is never made up")
        return lambda _row: None
    read = _reader(spec, at, "collected_at", reading)
    value_of = expressions.first_of(spec["path"])

    def collected_at(row: Row) -> int | None:
        value = value_of(row)
        return None if value is None else read(value)

    return collected_at


def _expression(spec: Any, field: Field, name: str, at: KeyPath, reading: Reading) -> Expression:
    if not isinstance(spec, dict):
        return expressions.expression(spec)
    kinds = [kind for kind in ("const", "path", "known") if kind in spec]
    belongs = {
        "const": {"const"},
        "path": {"path", "map", "default", "others", "ignore_case"},
        "known": {"known", "within", "ignore", "unlisted"},
    }
    if len(kinds) != 1 or set(spec) - belongs[kinds[0]]:
        reading.wrong(at, "give a path, `const`, `path` with `map` and `default`, or `known` with `within`")
    elif kinds == ["known"]:
        if name != "fields":
            reading.wrong(at, "`known` names fields: it belongs under `fields`")
        return field_names(spec, expressions.split_path)
    else:
        _check_constants(spec, field, at, reading)
        return expressions.expression(spec)
    return lambda _row: None


def _check_constants(spec: Mapping[str, Any], field: Field, at: KeyPath, reading: Reading) -> None:
    """What the document itself says must be a value that the field takes."""
    table = spec.get("map", {})
    pairs = list(table.items()) if isinstance(table, dict) else [(at_word, word) for at_word, word in enumerate(table)]
    written = [((*at, "map", key), value) for key, value in pairs]
    written += [((*at, key), spec[key]) for key in ("const", "default") if key in spec]
    for place, value in written:
        try:
            field.check(field.coerce(value))
        except Refused as refused:
            reading.wrong(place, str(refused))
