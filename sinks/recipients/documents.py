"""HTTP by document: a vendor's deletion API told in YAML (docs/vendor-documents.md).

What is rendered holds identifiers and secrets, and is sent and forgotten; errors name the place in the document, never
a value. Nothing counts as done that the document does not map to it.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID

from processors.erasure_commands import Answer, Command, Grade
from sinks.recipients.answer_mapping import NOT_KNOWN, answer_to, entry_for, together
from sinks.recipients.connector import CallbackRefused
from sinks.recipients.document_access import AccessError
from sinks.recipients.document_file import SENT, DocumentError, load_document, roots
from sinks.recipients.document_requests import DocumentRequests, json_of
from sinks.recipients.document_templates import TemplateError, UnfitValueError, render
from sinks.recipients.identifiers import known_there, unknown_there
from sinks.recipients.transport import TransientError, Transport, TransportError

_SAFE_IN_REFERENCE = "!$&'()*+,-./:;=?@_~"
# Shorter ones stand in anything.
_SHORTEST_IDENTIFIER = 4


def document_connector(
    document: str | Path,
    settings: Mapping[str, Any],
    secrets: Mapping[str, str],
    transport: Transport,
    headers: Mapping[str, str] | None = None,
) -> DocumentConnector:
    """The connector that a document describes. A name without a slash is that of a shipped document.

    Raises `DocumentError` when the document is wrong, or a setting or secret that it needs is missing.
    """
    return DocumentConnector(load_document(document), settings, secrets, transport, headers=headers)


class DocumentConnector:
    """One vendor's API. `document`: as `load_document` gives it; `headers`: on every request, besides its own; `clock`:
    seconds since 1970, UTC."""

    protocol = "http"

    def __init__(
        self,
        document: Mapping[str, Any],
        settings: Mapping[str, Any],
        secrets: Mapping[str, str],
        transport: Transport,
        *,
        headers: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._document = document
        self._transport = transport
        self._clock = clock
        self._secrets = dict(secrets)
        self._constants = {"settings": _settings(document, settings), "secrets": _needed(document, secrets)}
        self._requests = DocumentRequests(document, self._constants, transport, headers or {}, clock)
        self._needs_reference = "reference" in roots({key: document.get("check", {}).get(key) for key in SENT}, "check")

    async def dispatch(self, command: Command) -> Answer:
        """Sends the deletion for each identifier that the vendor knows, or for all in one; each must be answered."""
        told = known_there(command.identities, self._kinds())
        if not told:
            return unknown_there(self._kinds())
        every_one = [told] if self._document.get("send") == "all" else [[one] for one in told]
        answers = []
        for identities in every_one:
            answers += await self._delete(command, identities, alone=len(every_one) == 1)
        return _discreet(together(answers), command)

    async def check(self, command: Command, reference: str) -> Answer:
        """Asks how the vendor's jobs stand. Where it cannot be asked, or has forgotten, the deletion is sent again."""
        references = [unquote(one) for one in reference.split()]
        if "check" not in self._document or (self._needs_reference and not references):
            return await self.dispatch(command)
        values = {**self._common(command), "known": _known(known_there(command.identities, self._kinds()))}
        answers = []
        for one in references if self._needs_reference else [reference]:
            try:
                answer = await self._ask("check", {**values, "reference": one})
            except _SendAgainError:
                return await self.dispatch(command)
            except (TransportError, TemplateError, AccessError) as error:
                answer = _again(error)
            if answer.outcome == "acknowledged" and not answer.reference:
                answer = replace(answer, reference=quote(one, safe=_SAFE_IN_REFERENCE))
            answers.append(answer)
        return _discreet(together(answers), command)

    async def callback(self, headers: Mapping[str, str], body: bytes, callback_url: str) -> tuple[UUID, Answer]:
        raise CallbackRefused(404, "this protocol has no callbacks")

    async def close(self) -> None:
        await self._transport.close()

    # What is sent

    async def _delete(self, command: Command, identities: Sequence[Mapping[str, str]], alone: bool) -> list[Answer]:
        """Looks the person up if the vendor wants its own ids, then deletes. `alone`: there is no other request."""
        answers: list[Answer] = []
        try:
            values = {**self._common(command), **self._told(identities)}
            if "lookup" not in self._document:
                key = str(command.idempotency_key) if alone else self._key(command, identities)
                return [await self._ask("request", {**values, "request": {"key": key}})]
            values["request"] = {"key": self._key(command, identities, "lookup")}
            found, evidence = await self._requests.find(values)
            if isinstance(found, Answer):
                return [found]
            if not found:
                return [Answer("completed", Grade.claimed, NOT_KNOWN, evidence=evidence)]
            together_ = "all_found" in roots({name: self._document["request"].get(name) for name in SENT}, "request")
            for ids in [found] if together_ else [[one] for one in found]:
                key = self._key(command, identities, *ids)
                answers.append(
                    await self._ask(
                        "request", {**values, "request": {"key": key}, "found": ids[0], "all_found": list(ids)}
                    )
                )
        except (TransportError, TemplateError, AccessError) as error:
            answers.append(_again(error))
        return answers

    def _common(self, command: Command) -> dict[str, Any]:
        submitted, due = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (command.submitted_at, command.due_at))
        return {
            **self._constants,
            "command": {
                "key": str(command.idempotency_key),
                "submitted_at": f"{submitted:%Y-%m-%dT%H:%M:%S}.{submitted.microsecond // 1000:03}Z",
                "submitted_day": f"{submitted:%Y-%m-%d}",
                "due_at": f"{due:%Y-%m-%dT%H:%M:%SZ}",
                "due_day": f"{due:%Y-%m-%d}",
                "regulation": command.regulation,
                "callback_url": command.callback_url,
            },
        }

    def _kinds(self) -> list[tuple[str, str]]:
        return [(one["type"], one.get("format", "raw")) for one in self._document["identities"]]

    def _told(self, identities: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        first = identities[0]
        i, about = next(
            (i, one)
            for i, one in enumerate(self._document["identities"])
            if (one["type"], one.get("format", "raw")) == (first["identity_type"], first["identity_format"])
        )
        identity = {
            **render(about.get("with", {}), self._constants, f"identities.{i}.with"),
            "type": first["identity_type"],
            "format": first["identity_format"],
            "value": first["identity_value"],
            "name": about.get("name", about["type"]),
        }
        return {"identity": identity, "identities": [dict(one) for one in identities], "known": _known(identities)}

    def _key(self, command: Command, identities: Sequence[Mapping[str, str]], *found: str) -> str:
        """The idempotency key of one request of several: the same in every attempt, and another for another person's
        id. Made with the secrets, so that it tells nobody of the identifier."""
        secret = "\x1f".join(self._secrets.values()).encode() or b"none"
        about = [str(command.idempotency_key), *(value for one in identities for value in one.values()), *found]
        digest = hmac.digest(secret, "\x1f".join(about).encode(errors="replace"), hashlib.sha256)
        return str(UUID(bytes=digest[:16], version=4))

    async def _ask(self, part: str, values: Mapping[str, Any]) -> Answer:
        reply = await self._requests.send(part, values)
        body, entries = json_of(reply), self._document[part]["answers"]
        entry = entry_for(reply, body, entries, values)
        if entry is not None and entry["outcome"] == "send_again":
            raise _SendAgainError
        answer = answer_to(reply, body, entries, values, self._clock(), inquiry=part == "check")
        if part == "request" and self._needs_reference and answer.outcome == "acknowledged" and not answer.reference:
            # Nobody could be asked how it stands, and it would seem to end with other jobs of the command.
            return replace(answer, outcome="retry", grade=Grade.none, detail="accepted, without the id of a job")
        return replace(answer, reference=quote(answer.reference, safe=_SAFE_IN_REFERENCE))


class _SendAgainError(Exception):
    """The vendor does not know the job any more, or it came to nothing."""


def _known(identities: Sequence[Mapping[str, str]]) -> dict[str, dict[str, list[str]]]:
    known: dict[str, dict[str, list[str]]] = {}
    for one in identities:
        of_kind = known.setdefault(one["identity_type"], {})
        of_kind.setdefault(one["identity_format"], []).append(one["identity_value"])
    return known


def _settings(document: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults. Raises `DocumentError`."""
    vendor, declared = document["vendor"], document.get("settings", {})
    if unknown := sorted(given.keys() - declared.keys()):
        raise DocumentError(f"{vendor}: settings.{unknown[0]} is none of {', '.join(declared) or 'its settings'}")
    settings = {}
    for name, about in declared.items():
        value = given.get(name, about.get("default"))
        if value in (None, ""):
            if about.get("required", True) and "default" not in about:
                raise DocumentError(f"{vendor}: settings.{name} is missing: {about['description']}")
            continue
        if "enum" in about and value not in about["enum"]:
            raise DocumentError(f"{vendor}: settings.{name} is none of {', '.join(map(str, about['enum']))}")
        settings[name] = value
    for group in document.get("one_of", ()):
        if not settings.keys() & set(group):
            raise DocumentError(f"{vendor}: one of settings.{', settings.'.join(group)} is needed")
    return settings


def _needed(document: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    vendor, declared = document["vendor"], document.get("secrets", [])
    if missing := [name for name in declared if not given.get(name)]:
        raise DocumentError(f"{vendor}: secrets.{missing[0]} is missing")
    if unknown := sorted(given.keys() - set(declared)):
        raise DocumentError(f"{vendor}: secrets.{unknown[0]} is none of {', '.join(declared) or 'its secrets'}")
    return dict(given)


def _discreet(answer: Answer, command: Command) -> Answer:
    """Without the person's identifiers, should the vendor have quoted one."""
    values = {str(one["identity_value"]).strip().lower() for one in command.identities}
    if any(unquote(one).lower() in values for one in answer.reference.split()):
        answer = replace(answer, reference="")
    if any(len(one) >= _SHORTEST_IDENTIFIER and one in answer.ground.lower() for one in values):
        answer = replace(answer, ground="told in words that hold an identifier")
    return answer


def _again(error: Exception) -> Answer:
    if isinstance(error, UnfitValueError):
        return Answer("failed", detail=str(error))
    return Answer(
        "retry", detail=str(error), retry_after=error.retry_after if isinstance(error, TransientError) else None
    )
