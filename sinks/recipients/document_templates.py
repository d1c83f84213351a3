"""Templates of vendor documents: placeholders in the strings of a YAML structure, in Jinja's sandbox.

A string that is nothing but one placeholder keeps the type of its value, so that lists and numbers go into JSON as
such. A value that is missing is an error that names the place, never an empty string. Reads nothing, calls nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError
from jinja2.exceptions import SecurityError
from jinja2.nativetypes import NativeEnvironment, NativeTemplate
from jinja2.sandbox import SandboxedEnvironment

_PARTS = ("auth", "lookup", "request", "check")
# Of a part, what says how its answer is read: no template.
_NOT_SENT = frozenset({"answers", "items", "id", "next"})


class TemplateError(Exception):
    """A template that cannot be read, or lacks a value; the text names the place and no value."""


class _Environment(SandboxedEnvironment):
    """Strings, in the sandbox."""


class _NativeEnvironment(NativeEnvironment, SandboxedEnvironment):
    """Values of their own type, in the sandbox."""


class Templates:
    """The compiled templates of a document. Raises `TemplateError`."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        settings: dict[str, Any] = {"undefined": StrictUndefined, "autoescape": False}
        self._text = _Environment(**settings)
        self._native = _NativeEnvironment(**settings)
        self._compiled = {
            name: {key: self._compile(value, f"{name}.{key}") for key, value in document[name].items()}
            for name in _PARTS
            if name in document
        }
        for name, part in self._compiled.items():
            self._compiled[name] = {key: value for key, value in part.items() if key not in _NOT_SENT}

    def render(self, name: str, context: Mapping[str, Any]) -> dict[str, Any]:
        """A part of the document with its placeholders filled; empty when the document has no such part.

        Raises `TemplateError`."""
        rendered: dict[str, Any] = self._fill(self._compiled.get(name, {}), context, name)
        return rendered

    def _compile(self, node: Any, where: str) -> Any:
        if isinstance(node, dict):
            return {key: self._compile(value, f"{where}.{key}") for key, value in node.items()}
        if isinstance(node, list):
            return [self._compile(value, f"{where}.{i}") for i, value in enumerate(node)]
        if not isinstance(node, str) or "{" not in node:
            return node
        alone = node.startswith("{{") and node.endswith("}}") and node.count("{{") == 1
        try:
            return (self._native if alone else self._text).from_string(node)
        except TemplateSyntaxError as error:
            raise TemplateError(f"{where}: {error.message}") from None

    def _fill(self, node: Any, context: Mapping[str, Any], where: str) -> Any:
        if isinstance(node, dict):
            return {key: self._fill(value, context, f"{where}.{key}") for key, value in node.items()}
        if isinstance(node, list):
            return [self._fill(value, context, f"{where}.{i}") for i, value in enumerate(node)]
        if not hasattr(node, "render"):
            return node
        try:
            # Of a native template alone: what looks like a number in a string stays a string.
            return node.render(context) if not isinstance(node, NativeTemplate) else _native(node, context)
        except UndefinedError as error:
            raise TemplateError(f"{where}: {error.message}") from None
        except SecurityError:
            raise TemplateError(f"{where}: not allowed in a document") from None
        except Exception as error:
            # What it says may quote a value.
            raise TemplateError(f"{where}: {type(error).__name__}") from None


def _native(template: NativeTemplate, context: Mapping[str, Any]) -> Any:
    """The placeholder's own value. Jinja would read a string that looks like a literal as one."""
    values = list(template.root_render_func(template.new_context(dict(context))))
    value = values[0] if len(values) == 1 else "".join(map(str, values))
    if isinstance(value, StrictUndefined):
        value._fail_with_undefined_error()
    return value
