"""Expressions of a mapping document, compiled to functions of a row. Pure; a value they refuse is never quoted.

A row is what a source gave for one record: keys with values, nested as they come. Nothing means null, an absent key
or an empty text alike, because sources mix them.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from streams.documents import Document, KeyPath, Problem
from streams.identities import names_nobody
from streams.sources.events import Refused, as_text, check_time

Row = dict[str, Any]
Expression = Callable[[Row], Any]
Condition = Callable[[Row], bool]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STEP = re.compile(r"(?<!\\)\.")


def split_path(text: str) -> list[str]:
    """The keys of a path."""
    return [key.replace("\\.", ".") for key in _STEP.split(text)]


def path(text: str) -> Expression:
    """The value at a path: keys joined by dots, `\\.` for a dot inside a key, numbers for places in a list."""
    keys = split_path(text)
    if len(keys) == 1:
        only = keys[0]

        def top(row: Row) -> Any:
            value = row.get(only)
            return None if value == "" else value

        return top

    def nested(row: Row) -> Any:
        value: Any = row
        for key in keys:
            if type(value) is dict:
                value = value.get(key)
            elif type(value) is list and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            else:
                return None
        return None if value == "" else value

    return nested


def first_of(paths: str | list[str]) -> Expression:
    """The value at the first path that has one."""
    if isinstance(paths, str):
        return path(paths)
    if len(paths) == 1:
        return path(paths[0])
    choices = [path(text) for text in paths]

    def first(row: Row) -> Any:
        for choice in choices:
            value = choice(row)
            if value is not None:
                return value
        return None

    return first


def words(paths: str | list[str]) -> str:
    """Paths as a reason names them."""
    return paths if isinstance(paths, str) else ", ".join(paths)


def expression(spec: Any) -> Expression:
    """A path, a list of paths, `{const}`, or `{path, map, default, others, ignore_case}`."""
    if isinstance(spec, str | list):
        return first_of(spec)
    if "const" in spec:
        constant = _frozen(spec["const"])
        return lambda _row: constant
    value_of = first_of(spec["path"])
    default = _frozen(spec.get("default"))
    if "map" not in spec:
        if default is None:
            return value_of

        def or_default(row: Row) -> Any:
            value = value_of(row)
            return default if value is None else value

        return or_default
    return _looked_up(spec, value_of, default)


def _looked_up(spec: Mapping[str, Any], value_of: Expression, default: Any) -> Expression:
    fold = str.casefold if spec.get("ignore_case") else str
    given = spec["map"]
    pairs = given.items() if isinstance(given, dict) else ((word, word) for word in given)
    table = {fold(word): _frozen(value) for word, value in pairs}
    keep = spec.get("others") == "keep"
    reason = f"`{words(spec['path'])}` has a value that the map does not list"

    def one(value: Any) -> Any:
        word = _word(value)
        found = table.get(fold(word), table)
        if found is not table:
            return found
        if keep:
            return word
        if default is None:
            raise Refused(reason)
        return default

    def look_up(row: Row) -> Any:
        value = value_of(row)
        if value is None:
            return default
        if not isinstance(value, list | tuple):
            return one(value)
        # A list is looked up item by item; an item may stand for several.
        found: list[Any] = []
        for item in value:
            mapped = one(item)
            found.extend(mapped if isinstance(mapped, tuple) else (mapped,))
        return tuple(found)

    return look_up


def _word(value: Any) -> str:
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    text = as_text(value)
    return "" if text is None else text


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def condition(spec: Mapping[str, Any], document: Document, at: KeyPath, problems: list[Problem]) -> Condition:
    """All of `path: test` hold. A test is a value to equal, or `{in, not_in, present, matches}`."""
    tests: list[Condition] = []
    for where, test in spec.items():
        value_of = path(where)
        if not isinstance(test, dict):
            tests.append(_among(value_of, [test], True))
            continue
        if "present" in test:
            tests.append(_presence(value_of, test["present"]))
        if "in" in test:
            tests.append(_among(value_of, test["in"], True))
        if "not_in" in test:
            tests.append(_among(value_of, test["not_in"], False))
        if "matches" in test:
            try:
                tests.append(_matching(value_of, re.compile(test["matches"])))
            except re.error as error:
                problems.append(document.problem((*at, where, "matches"), f"not a regular expression: {error}"))
    if len(tests) == 1:
        return tests[0]
    return lambda row: all(test(row) for test in tests)


def _presence(value_of: Expression, wanted: bool) -> Condition:
    return lambda row: (value_of(row) is not None) == wanted


def _among(value_of: Expression, choices: list[Any], wanted: bool) -> Condition:
    # True equals 1 in Python, and in no document.
    typed = {(type(choice), choice) for choice in choices}

    def among(row: Row) -> bool:
        value = value_of(row)
        hashable = value is None or isinstance(value, str | int | float)
        return (hashable and (type(value), value) in typed) == wanted

    return among


def _matching(value_of: Expression, pattern: re.Pattern[str]) -> Condition:
    def matches(row: Row) -> bool:
        value = value_of(row)
        return type(value) is str and pattern.search(value) is not None

    return matches


def user_id(spec: str | list[str]) -> Callable[[Row], str]:
    """The user id as text. Refuses a row without one: nobody could be told what became of their data."""
    value_of = first_of(spec)
    missing = f"the user id is missing ({words(spec)})"

    def user(row: Row) -> str:
        value = value_of(row)
        if type(value) is not str:
            if value is None:
                raise Refused(missing)
            if type(value) is not int:
                raise Refused("the user id is neither text nor a whole number")
            return str(value)
        if not value.strip():
            raise Refused(missing)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Refused("the user id is not valid Unicode") from None
        return value

    return user


def identity_value(spec: str | list[str]) -> Callable[[Row], str | None]:
    """An identifier's value, or nothing when it is absent, all zeros, or no text."""
    value_of = first_of(spec)

    def identity(row: Row) -> str | None:
        value = value_of(row)
        if type(value) is int:
            value = str(value)
        if type(value) is not str or names_nobody(value):
            return None
        try:
            value.encode()
        except UnicodeEncodeError:
            return None
        return value

    return identity


def zone(name: str) -> tzinfo:
    """A time zone by its IANA name. Raises `ValueError`."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone is called {name}: use UTC or an IANA name such as Asia/Shanghai") from None


def time_reader(form: str, place: tzinfo | None, name: str) -> Callable[[Any], int]:
    """From a source's time to ms since 1970 UTC; finer digits are cut. `form`: iso8601, epoch_ms, epoch_s or a
    strptime pattern. `place` is where times without a zone are from; without it they are refused."""
    wrong = f"`{name}` cannot be read as {form}"

    def moment(value: datetime) -> int:
        if value.tzinfo is None:
            if place is None:
                raise Refused(f"`{name}` has no time zone: name it in the mapping (`zone`)")
            value = value.replace(tzinfo=place)
        since = value - _EPOCH
        return check_time((since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000, name)

    def number(value: Any) -> float:
        if type(value) is str:
            return float(value) if "." in value or "e" in value.lower() else int(value)
        if type(value) is bool:
            raise ValueError
        return value  # type: ignore[no-any-return]

    def read(value: Any) -> int:
        try:
            if isinstance(value, datetime):
                return moment(value)
            if form == "iso8601":
                return moment(datetime.fromisoformat(value))
            if form == "epoch_ms":
                return check_time(int(number(value)), name)
            if form == "epoch_s":
                return check_time(int(number(value) * 1_000), name)
            return moment(datetime.strptime(value, form))
        except (ValueError, TypeError, OverflowError):
            raise Refused(wrong) from None

    return read
