"""Documents that people write (policies, recipients, mappings): strict YAML, every problem with its line.

A document is checked against a JSON Schema and problems are told as `file:line: key.path: message`, all of
them at once. This module knows no kind of document, and never guesses: what is ambiguous is a problem.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import yaml

KeyPath = tuple[str | int, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EXAMPLE = "2026-03-01T08:00:00Z"

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_YAML = "tag:yaml.org,2002:"
_SCALARS = {_YAML + kind for kind in ("str", "int", "float", "bool", "null", "timestamp", "value")}
_TYPES = {
    "object": "keys with values",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing (null)",
}


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong in a document: its line (from 1), the path of the key, and what to do about it."""

    line: int
    path: str
    message: str


class DocumentError(ValueError):
    """A document cannot be taken. Its text has one line `file:line: key.path: message` for each problem."""

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = sorted(set(problems))
        super().__init__("\n".join(describe_problem(name, problem) for problem in self.problems))


class Document(dict[str, Any]):
    """A loaded document: its plain values, and beside them its name and the line of every key and item."""

    name: str
    lines: dict[KeyPath, int]

    def __init__(self, values: Mapping[str, Any], name: str, lines: dict[KeyPath, int]) -> None:
        super().__init__(values)
        self.name = name
        self.lines = lines

    def problem(self, path: KeyPath, message: str) -> Problem:
        """The problem at `path`, on the line of the nearest key that the text has."""
        return _problem(self.lines, path, message)


def describe_problem(name: str, problem: Problem) -> str:
    """`file:line: key.path: message`; a problem of the whole document has no path."""
    where = f"{name}:{problem.line}: "
    return where + (f"{problem.path}: " if problem.path else "") + problem.message


def load_document(source: Path | str, schema: Mapping[str, Any], name: str | None = None) -> Document:
    """Read one YAML (or JSON) document: a file given as `Path`, or text given as `str`.

    Keys are always text; times stay text; only `true` and `false` are booleans (so the country `NO` is text);
    a key given twice, a merge key, a tag or a second document in the text is a problem. In `schema`, the
    format `instant` means what `parse_instant` reads, and the `description` of a sub-schema is told to the
    writer when a pattern of it does not match.

    Raises `DocumentError` with all problems (of the syntax first, else of the schema); `OSError` when the
    file cannot be read.
    """
    name = name or (str(source) if isinstance(source, Path) else "document")
    if isinstance(source, str):
        text = source
    else:
        try:
            text = source.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            line = source.read_bytes()[: error.start].count(b"\n") + 1
            raise DocumentError(name, [Problem(line, "", "not UTF-8 text: save the file as UTF-8")]) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise DocumentError(name, [_syntax_problem(error)]) from error
    reader = _Reader()
    values = reader.value(root, ()) if root is not None else None
    if reader.problems:
        raise DocumentError(name, reader.problems)
    if not isinstance(values, dict):
        found = "it is empty" if values is None else f"found {_kind(values)}"
        raise DocumentError(name, [Problem(1, "", f"expected keys with values at the top: {found}")])
    validator = jsonschema.Draft202012Validator(schema, format_checker=_FORMATS)
    problems = [
        problem
        for error in validator.iter_errors(values)
        for problem in _schema_problems(error, reader.lines, reader.texts)
    ]
    if problems:
        raise DocumentError(name, problems)
    return Document(values, name, reader.lines)


def parse_instant(text: str) -> int:
    """Milliseconds since 1970 UTC of an ISO 8601 date and time with `Z` or an offset; finer digits are cut.

    Raises `ValueError` that says what to write, for anything else: a time without a zone is not guessed.
    """
    if not isinstance(text, str) or not _INSTANT.fullmatch(text):
        raise ValueError(f"{text!r} is not a time with its zone: write it like {_EXAMPLE}")
    try:
        moment = datetime.fromisoformat(text.upper())
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is no time there is ({error}): write it like {_EXAMPLE}") from error


def format_instant(ms: int) -> str:
    """ISO 8601 in UTC with milliseconds, `2026-03-01T08:00:00.000Z`; the inverse of `parse_instant`."""
    moment = _EPOCH + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def nearest(word: str, known: Iterable[str]) -> str:
    """`: did you mean \\`x\\`?` when a known word is near, else an empty text; for the end of a message."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f": did you mean `{near[0]}`?" if near else ""


class _Reader:
    """Turns YAML nodes into plain values, and keeps the line and the written text of each."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.texts: dict[KeyPath, str] = {}
        self.problems: list[Problem] = []
        self._open: set[int] = set()

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            self._wrong(node, path, "an alias (`*`) that holds itself: write the values out")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                if node.tag != _YAML + "map":
                    self._wrong(node, path, f"the tag {node.tag} is not known here: remove it")
                return self._mapping(node, path)
            assert isinstance(node, yaml.SequenceNode)
            if node.tag != _YAML + "seq":
                self._wrong(node, path, f"the tag {node.tag} is not known here: remove it")
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(key_node, path, "a key must be plain text")
            elif key_node.tag == _YAML + "merge":
                self._wrong(key_node, path, "merge keys (`<<`) are not read here: write the values out")
            elif key_node.value in values:
                first = self.lines[(*path, key_node.value)]
                self._wrong(key_node, (*path, key_node.value), f"given twice, first on line {first}: keep one")
            else:
                self.lines[(*path, key_node.value)] = key_node.start_mark.line + 1
                values[key_node.value] = self.value(value_node, (*path, key_node.value))
        return values

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text: str = node.value
        self.texts[path] = text
        if node.tag not in _SCALARS:
            self._wrong(node, path, f"the tag {node.tag} is not known here: remove it")
        if node.style is not None or node.tag == _YAML + "str":
            return text
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        return text

    def _wrong(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(node.start_mark.line + 1, _show(path), message))


def _is_instant(value: object) -> bool:
    if isinstance(value, str):
        parse_instant(value)
    return True


_FORMATS = jsonschema.FormatChecker(formats=())
_FORMATS.checks("instant", raises=ValueError)(_is_instant)


def _syntax_problem(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    what = getattr(error, "problem", None) or getattr(error, "context", None) or str(error)
    if "expected a single document" in str(error):
        what = "a second document begins here (`---`): keep one to a file"
    elif "found character '\\t'" in str(what):
        what = "a tab where spaces are expected: indent with spaces"
    else:
        what = f"not readable as YAML: {what}"
    return Problem(mark.line + 1 if mark else 1, "", str(what))


def _schema_problems(
    error: jsonschema.ValidationError, lines: dict[KeyPath, int], texts: dict[KeyPath, str]
) -> Iterator[Problem]:
    path: KeyPath = tuple(error.absolute_path)
    found: Any = error.instance
    rule: Any = error.validator_value
    schema: Any = error.schema
    if "propertyNames" in list(error.absolute_schema_path)[-2:-1]:
        path = (*path, found)
    meaning = schema.get("description") if isinstance(schema, Mapping) else None

    def wrong(message: str, *more: str) -> Problem:
        return _problem(lines, (*path, *more), message)

    match error.validator:
        case "additionalProperties" | "unevaluatedProperties":
            known = set(schema.get("properties", ()))
            patterns = schema.get("patternProperties", ())
            for key in found:
                if key not in known and not any(re.search(pattern, key) for pattern in patterns):
                    hint = nearest(key, known - set(found)) or f": keys here are {', '.join(sorted(known))}"
                    yield wrong(f"unknown key{hint}", key)
        case "required":
            # One error a key: jsonschema names the key in the message only, so it is found again.
            for key in rule:
                if error.message.startswith(repr(key)):
                    yield wrong(f"the key `{key}` is missing: add it")
        case "dependentRequired":
            yield wrong(error.message)
        case "enum":
            choices = ", ".join("null" if choice is None else str(choice) for choice in rule)
            yield wrong(f"{_quote(found)} is not one of {choices}{nearest(str(found), map(str, rule))}")
        case "type":
            kinds = [rule] if isinstance(rule, str) else list(rule)
            expected = " or ".join(_TYPES[kind] for kind in kinds)
            hint = ""
            if "string" in kinds and isinstance(found, bool | int | float):
                hint = f': put it in quotes, "{texts[path]}"'
            elif kinds == ["array"] and isinstance(found, str):
                hint = f": write [{found}]"
            yield wrong(f"expected {expected}, found {_kind(found)}{hint}")
        case "format":
            yield wrong(str(error.cause) if error.cause else error.message)
        case "pattern":
            yield wrong(f"{_quote(found)} does not fit: expected {meaning or f'text that matches {rule}'}")
        case "anyOf" | "oneOf" if error.context:
            yield from _schema_problems(jsonschema.exceptions.best_match(error.context), lines, texts)
        case "minimum" | "exclusiveMinimum":
            least = "at least" if error.validator == "minimum" else "more than"
            yield wrong(f"{found} is too small: it must be {least} {rule}")
        case "minLength" | "minItems" | "minProperties":
            yield wrong(f"must not be empty{f': give {meaning}' if meaning else ''}" if not found else error.message)
        case "uniqueItems":
            twice = next(item for index, item in enumerate(found) if item in found[:index])
            yield wrong(f"{_quote(twice)} is given twice: keep one")
        case "not" | "const" | None:
            yield wrong(meaning or error.message)
        case _:
            yield wrong(error.message)


def _problem(lines: Mapping[KeyPath, int], path: KeyPath, message: str) -> Problem:
    at = path
    while at not in lines:
        at = at[:-1]
    return Problem(lines[at], _show(path), message)


def _show(path: KeyPath) -> str:
    shown = ""
    for step in path:
        if isinstance(step, int) or "." in step:
            shown += f"[{step}]"
        else:
            shown += f".{step}" if shown else step
    return shown


def _kind(value: object) -> str:
    if isinstance(value, str):
        return f"the text {_quote(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}"
    return {dict: "keys with values", list: "a list", type(None): "nothing (null)"}[type(value)]


def _quote(value: object) -> str:
    text = value if isinstance(value, str) else _kind(value)
    return f'"{text if len(text) <= 60 else text[:57] + "..."}"' if isinstance(value, str) else text
