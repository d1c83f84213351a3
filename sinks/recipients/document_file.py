"""Reads a vendor document (docs/vendor-documents.md) and checks it as a whole, so that nothing in it fails later.

Knows no settings' values, secrets or persons.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import orjson
import yaml
from jsonschema import Draft202012Validator

from schemas import schema_dir
from sinks.recipients.document_templates import TemplateError, check_placeholders, placeholders

COMMAND = ("key", "submitted_at", "submitted_day", "due_at", "due_day", "regulation", "callback_url")
IDENTITY = ("type", "format", "value", "name")
# What of a part is sent, and what its answers compare.
SENT = ("url", "query", "headers", "json", "form")


class DocumentError(ValueError):
    """A document, or what an entry gives it, cannot be used; the text says where and why."""


def load_document(document: str | Path) -> dict[str, Any]:
    """A checked document. A name without a slash is that of a shipped one. Raises `DocumentError`."""
    folder = schema_dir() / "connectors"
    path = Path(document) if "/" in str(document) else folder / "documents" / f"{document}.yaml"
    try:
        read: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        shipped = ", ".join(sorted(file.stem for file in (folder / "documents").glob("*.yaml")))
        raise DocumentError(
            f"there is no document {document}; shipped documents: {shipped}; a file of your own is named with a slash"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"{path} cannot be read: {type(error).__name__}") from None
    except yaml.YAMLError as error:
        raise DocumentError(f"{path} is not YAML: {error}") from None
    schema = json.loads((folder / "document.schema.json").read_text(encoding="utf-8"))
    wrong = sorted(Draft202012Validator(schema).iter_errors(read), key=lambda error: list(map(str, error.path)))
    if wrong:
        where = ".".join(map(str, wrong[0].path)) or "the document"
        raise DocumentError(f"{path}: {where}: {wrong[0].message}")
    try:
        orjson.dumps(read)
        _check(read)
    except TemplateError as error:
        raise DocumentError(f"{path}: {error}") from None
    except TypeError:
        raise DocumentError(f"{path}: a key is not a text: put it in quotes") from None
    return read


def roots(template: Any, where: str) -> set[str]:
    """The first words of a template's placeholders. Raises `TemplateError`."""
    return {name.partition(".")[0] for _, name in placeholders(template, where)}


def _check(document: Mapping[str, Any]) -> None:
    """Every placeholder has a value where it stands; nothing but a setting decides who is called."""
    base: dict[str, Collection[str] | None] = {
        "settings": document.get("settings", {}).keys() or ("none",),
        "secrets": document.get("secrets", ()) or ("none",),
    }
    identities = document["identities"]
    extra = {name for one in identities for name in one.get("with", {})}
    if taken := sorted(extra & set(IDENTITY)):
        raise TemplateError(f"identities: with.{taken[0]} has a name that is taken")
    for i, one in enumerate(identities):
        check_placeholders(one.get("with", {}), f"identities.{i}.with", {"settings": base["settings"]})
        if missing := sorted(extra - one.get("with", {}).keys()):
            raise TemplateError(f"identities.{i}.with: {missing[0]} is missing, which another identity has")
    check_placeholders(document.get("auth", {}), "auth", base)
    known = [f"{one['type']}.{one.get('format', 'raw')}" for one in identities]
    asked = {**base, "command": COMMAND, "request": ("key",)}
    if document.get("send") == "all":
        asked |= {"identities": (), "known": known}
    else:
        asked["identity"] = (*IDENTITY, *extra)
    if "lookup" in document:
        lookup = document["lookup"]
        _check_part(lookup, "lookup", {**asked, "page": ("cursor", "number")})
        check_placeholders(lookup.get("match", {}), "lookup.match", asked)
        asked |= {"found": (), "all_found": ()}
    _check_part(document["request"], "request", asked, polled="check" in document)
    if "check" in document:
        inquiry = {**base, "command": COMMAND, "reference": (), "known": known}
        _check_part(document["check"], "check", inquiry, polled=True)


def _check_part(
    part: Mapping[str, Any], name: str, allowed: Mapping[str, Collection[str] | None], polled: bool = False
) -> None:
    for key in SENT:
        check_placeholders(part.get(key, {}), f"{name}.{key}", allowed)
    url = part["url"]
    called = re.match(r"(?:https?://)?[^/?#]*", url)
    if not url.startswith(("https://", "http://", "{{")) or not called or roots(called[0], "") - {"settings"}:
        raise TemplateError(f"{name}.url: it starts with https:// or a setting, and only settings name the host")
    for i, entry in enumerate(part.get("answers", ())):
        where = f"{name}.answers.{i}"
        if polled and entry["outcome"] == "acknowledged" and "check_after" not in entry:
            raise TemplateError(f"{where}: check_after is missing: without it nobody asks how it stands")
        check_placeholders(entry.get("where", {}), f"{where}.where", allowed)
        for key in ("reference", "ground"):
            told = {"answer": None, "command": COMMAND, **({"request": ("key",)} if "request" in allowed else {})}
            check_placeholders(entry.get(key, ""), f"{where}.{key}", told)
