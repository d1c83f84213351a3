"""Templates of vendor documents: `{{ root.name }}` in the texts of a YAML structure, and dotted paths into answers.

A placeholder names a value and can do nothing else: there are no expressions, calls or conditions. Pure; errors name
the place in the document and the placeholder, never a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from urllib.parse import quote

_PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")
_LEFT_OUT = object()
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class TemplateError(Exception):
    """A template that is wrong, or lacks a value; the text names the place and no value."""


class UnfitValueError(TemplateError):
    """A value that cannot stand where the template wants it, however often it is tried."""


def placeholders(template: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every placeholder as (place, name without the question mark). Raises `TemplateError` for what is none."""
    if isinstance(template, Mapping):
        for key, value in template.items():
            yield from placeholders(value, f"{where}.{key}")
    elif isinstance(template, list):
        for i, value in enumerate(template):
            yield from placeholders(value, f"{where}.{i}")
    elif isinstance(template, str):
        rest = _PLACEHOLDER.sub("", template)
        if "{{" in rest or "}}" in rest:
            raise TemplateError(f"{where}: a placeholder is not closed, or not opened")
        for found in _PLACEHOLDER.finditer(template):
            yield where, found[1].strip().removesuffix("?").rstrip()


def check_placeholders(template: Any, where: str, allowed: Mapping[str, Collection[str] | None]) -> None:
    """Raises `TemplateError` for a name that has no value there. `allowed`: root → what may follow it; None: anything,
    empty: nothing."""
    for place, name in placeholders(template, where):
        root, _, rest = name.partition(".")
        if root not in allowed:
            raise TemplateError(f"{place}: there is no {{{{ {name} }}}}; here are: {', '.join(sorted(allowed))}")
        names = allowed[root]
        if names is not None and rest not in (names or ("",)):
            known = ", ".join(sorted(f"{root}.{one}" for one in names)) or f"{root} alone"
            raise TemplateError(f"{place}: there is no {{{{ {name} }}}}; there is: {known}")


def render(template: Any, values: Mapping[str, Any], where: str) -> Any:
    """JSON with its placeholders filled. A text that is nothing but a placeholder becomes the value, of its own type;
    a member whose value may be missing (`{{ name? }}`) and is, is left out. Raises `TemplateError`."""
    if isinstance(template, Mapping):
        members = ((key, render(value, values, f"{where}.{key}")) for key, value in template.items())
        return {key: value for key, value in members if value is not _LEFT_OUT}
    if isinstance(template, list):
        items = (render(value, values, f"{where}.{i}") for i, value in enumerate(template))
        return [value for value in items if value is not _LEFT_OUT]
    if not isinstance(template, str):
        return template
    if alone := _PLACEHOLDER.fullmatch(template):
        return _value(alone[1], values, where)
    return _fill(template, values, where)


def render_texts(template: Mapping[str, Any], values: Mapping[str, Any], where: str) -> dict[str, str]:
    """Header, query and form fields: texts. A list becomes a text with commas. Raises `TemplateError`."""
    rendered = {}
    for key, value in template.items():
        filled = render(value, values, f"{where}.{key}")
        if filled is not _LEFT_OUT:
            rendered[key] = _text(filled, f"{where}.{key}")
    return rendered


def render_headers(template: Mapping[str, Any], values: Mapping[str, Any], where: str) -> dict[str, str]:
    """As `render_texts`, where nothing can break out of its header. Raises `TemplateError`."""
    rendered = render_texts(template, values, where)
    for key, value in rendered.items():
        if _CONTROL.search(value):
            raise UnfitValueError(f"{where}.{key}: a value with a control character cannot stand in a header")
    return rendered


def render_url(template: str, values: Mapping[str, Any], where: str) -> str:
    """Settings stand in it as they are; whatever else is quoted, so that it stays within its place. Raises
    `TemplateError`."""

    def quoted(name: str, text: str) -> str:
        if name.partition(".")[0] == "settings":
            return text
        if text in ("", ".", ".."):
            raise UnfitValueError(f"{where}: {{{{ {name} }}}} is empty or leads to another path")
        return quote(text, safe="")

    return _fill(template, values, where, quoted)


def _fill(
    template: str, values: Mapping[str, Any], where: str, write: Callable[[str, str], str] = lambda _, text: text
) -> str:
    def filled(found: re.Match[str]) -> str:
        value = _value(found[1], values, where)
        return "" if value is _LEFT_OUT else write(found[1].strip(), _text(value, where))

    return _PLACEHOLDER.sub(filled, template)


def _value(inner: str, values: Mapping[str, Any], where: str) -> Any:
    name = inner.strip()
    optional = name.endswith("?")
    name = name.removesuffix("?").rstrip()
    found = at_path(values, name)
    if found not in (None, "", []):
        return found
    if optional:
        return _LEFT_OUT
    raise TemplateError(f"{where}: {{{{ {name} }}}} has no value")


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list):
        return ",".join(_text(one, where) for one in value)
    raise UnfitValueError(f"{where}: a structure cannot stand in a text")


def every(value: Any, path: str) -> list[Any]:
    """What stands at a dotted path: names and indexes, `*` for every item or member; empty: the whole."""
    found = [value]
    for step in path.split(".") if path else ():
        found = [next_ for one in found for next_ in _step(one, step)]
    return found


def at_path(value: Any, path: str) -> Any:
    """The first of `every`, None where there is none."""
    return next(iter(every(value, path)), None)


def _step(value: Any, step: str) -> list[Any]:
    if isinstance(value, Mapping):
        if step == "*":
            return list(value.values())
        return [value[step]] if step in value else []
    if isinstance(value, list):
        if step == "*":
            return value
        if step.isdecimal() and int(step) < len(value):
            return [value[int(step)]]
    return []
