"""HTTP by document: a vendor's deletion API told in YAML (docs/vendor-documents.md).

A document is data: its templates are rendered in a sandbox, and can neither call nor change anything. What is rendered
holds identifiers and secrets, and is sent and forgotten; errors name the place in the document, never a value.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit, urlunsplit
from uuid import UUID

import orjson
import yaml
from jsonschema import Draft202012Validator

from processors.erasure_commands import Answer, Command
from schemas import schema_dir
from sinks.recipients.answer_mapping import answer_to, at_path
from sinks.recipients.connector import CallbackRefused
from sinks.recipients.document_templates import TemplateError, Templates
from sinks.recipients.identifiers import known_there
from sinks.recipients.transport import Reply, TransientError, Transport, TransportError

# A token is renewed so long before it expires.
_EARLY_SECONDS = 60.0
_MOST_PAGES = 50
# Of the answers to the parts of one command the worst one counts.
_WORST_FIRST = ("retry", "failed", "unsupported", "exempt", "dispatched", "acknowledged", "completed")


class DocumentError(ValueError):
    """A document, or what an entry gives it, cannot be used; the text says where and why."""


class _Part(NamedTuple):
    """One request of a command: for one identifier, or for all together."""

    context: dict[str, Any]


def document_connector(
    document: str | Path, settings: Mapping[str, Any], secrets: Mapping[str, str], transport: Transport
) -> DocumentConnector:
    """The connector that a document describes. A name without a slash is that of a shipped document.

    Raises `DocumentError` when the document is wrong, or a setting or secret that it needs is missing.
    """
    return DocumentConnector(load_document(document), settings, secrets, transport)


def load_document(document: str | Path) -> dict[str, Any]:
    """A checked document. Raises `DocumentError`."""
    folder = schema_dir() / "connectors"
    path = Path(document) if "/" in str(document) else folder / "documents" / f"{document}.yaml"
    try:
        read: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        shipped = ", ".join(sorted(file.stem for file in (folder / "documents").glob("*.yaml")))
        raise DocumentError(f"{path} cannot be read: {error.strerror}; shipped documents: {shipped}") from None
    except yaml.YAMLError as error:
        raise DocumentError(f"{path} is not YAML: {error}") from None
    schema = json.loads((folder / "document.schema.json").read_text(encoding="utf-8"))
    wrong = sorted(Draft202012Validator(schema).iter_errors(read), key=lambda error: list(map(str, error.path)))
    if wrong:
        where = ".".join(map(str, wrong[0].path)) or "the document"
        raise DocumentError(f"{path}: {where}: {wrong[0].message}")
    return read


class DocumentConnector:
    """One vendor's API. `clock`: seconds since 1970 UTC."""

    protocol = "http"

    def __init__(
        self,
        document: Mapping[str, Any],
        settings: Mapping[str, Any],
        secrets: Mapping[str, str],
        transport: Transport,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._document = document
        self._transport = transport
        self._clock = clock
        needed = document.get("settings", {})
        for name, about in needed.items():
            if name not in settings and about.get("required", True) and "default" not in about:
                raise DocumentError(f"{document['vendor']}: settings.{name} is missing: {about['description']}")
        if unknown := sorted(settings.keys() - needed.keys()):
            raise DocumentError(f"{document['vendor']}: settings.{unknown[0]} is none of {', '.join(needed) or 'none'}")
        if missing := [name for name in document.get("secrets", []) if name not in secrets]:
            raise DocumentError(f"{document['vendor']}: secrets.{missing[0]} is missing")
        defaults = {name: about["default"] for name, about in needed.items() if "default" in about}
        self._constants = {"settings": {**defaults, **settings}, "secrets": dict(secrets)}
        try:
            self._templates = Templates(document)
        except TemplateError as error:
            raise DocumentError(f"{document['vendor']}: {error}") from None
        self._token: tuple[str, float] | None = None

    async def dispatch(self, command: Command) -> Answer:
        """Sends the deletion: for the first identifier the vendor knows, for each, or for all in one."""
        kinds = [(one["type"], one.get("format", "raw")) for one in self._document["identities"]]
        told = known_there(command.identities, kinds)
        if not told:
            return Answer("unsupported", detail=f"knows the person by none of: {', '.join(dict(kinds))}")
        try:
            parts = [await self._found(part) for part in self._parts(command, told)]
            answers = [await self._ask("request", part.context) if isinstance(part, _Part) else part for part in parts]
        except (TransportError, TemplateError, _TokenError) as error:
            return _again(error)
        return _together(answers)

    async def check(self, command: Command, reference: str) -> Answer:
        """Asks how the vendor's jobs stand; without a way to ask, the deletion is sent again."""
        if "check" not in self._document or not reference:
            return await self.dispatch(command)
        try:
            asked = [{**self._context(command), "reference": one} for one in reference.split()]
            return _together([await self._ask("check", context) for context in asked])
        except _ForgottenError:
            return await self.dispatch(command)
        except (TransportError, TemplateError, _TokenError) as error:
            return _again(error)

    async def callback(self, headers: Mapping[str, str], body: bytes, callback_url: str) -> tuple[UUID, Answer]:
        raise CallbackRefused(404, "this protocol has no callbacks")

    async def close(self) -> None:
        await self._transport.close()

    # What is sent

    def _context(self, command: Command) -> dict[str, Any]:
        return {
            **self._constants,
            "command": {
                "key": str(command.idempotency_key),
                "submitted_at": _time(command.submitted_at),
                "due_at": _time(command.due_at),
                "regulation": command.regulation,
                "callback_url": command.callback_url or "",
            },
        }

    def _parts(self, command: Command, told: Sequence[Mapping[str, str]]) -> list[_Part]:
        named = {one["type"]: one for one in self._document["identities"]}
        order = list(named)
        many = [
            {
                "type": one["identity_type"],
                "format": one["identity_format"],
                "value": one["identity_value"],
                "name": named[one["identity_type"]].get("name", one["identity_type"]),
            }
            for one in sorted(told, key=lambda one: order.index(one["identity_type"]))
        ]
        # OpenDSR's form, for APIs that took it over.
        base = {**self._context(command), "identities": [dict(one) for one in told]}
        match self._document.get("send", "first"):
            case "all":
                return [_Part({**base, "many": many, "one": many[0]})]
            case "each":
                return [_Part({**base, "many": many, "one": one}) for one in many]
            case _:
                return [_Part({**base, "many": many, "one": many[0]})]

    async def _found(self, part: _Part) -> _Part | Answer:
        """With the vendor's own ids of the person, where they are looked up first."""
        lookup = self._document.get("lookup")
        if lookup is None:
            return part
        ids: list[Any] = []
        page: Any = None
        for _ in range(_MOST_PAGES):
            reply = await self._send("lookup", {**part.context, "page": page})
            body = _json(reply)
            if reply.status == 404:
                break
            if reply.status != 200:
                return answer_to(reply, body, [])
            ids += [found for item in at_path(body, lookup["items"]) or [] if (found := at_path(item, lookup["id"]))]
            page = at_path(body, lookup["next"]) if "next" in lookup else None
            if not page:
                break
        else:
            return Answer("retry", detail=f"more than {_MOST_PAGES} pages of one person")
        if not ids:
            return answer_to(Reply(404, {}, b""), None, [{"status": 404, "outcome": "completed"}], "not known there")
        return _Part({**part.context, "found": ids})

    async def _ask(self, what: str, context: Mapping[str, Any]) -> Answer:
        reply = await self._send(what, context)
        if what == "check" and reply.status == 404:
            raise _ForgottenError
        answer = answer_to(reply, _json(reply), self._document[what]["answers"])
        return replace(answer, reference=answer.reference or context.get("reference", ""))

    async def _send(self, what: str, context: Mapping[str, Any], renewed: bool = False) -> Reply:
        auth = self._document.get("auth", {})
        token = await self._access(context) if "oauth2" in auth else None
        request = self._templates.render(what, {**context, "token": token})
        url = request["url"]
        if query := {**request.get("query", {}), **self._rendered_auth("query", context)}:
            parts = urlsplit(url)
            url = urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, urlencode(query))))))
        headers = {"Accept": "application/json", **request.get("headers", {}), **self._authorization(context, token)}
        body: bytes | None = None
        if "json" in request:
            headers.setdefault("Content-Type", "application/json")
            body = orjson.dumps(request["json"])
        elif "form" in request:
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
            body = urlencode(request["form"]).encode()
        reply = await self._transport.request(request.get("method", "POST"), url, headers=headers, body=body)
        if reply.status == 401 and token is not None and not renewed:
            # Revoked before its time.
            self._token = None
            return await self._send(what, context, renewed=True)
        return reply

    # Who we are

    def _rendered_auth(self, kind: str, context: Mapping[str, Any]) -> dict[str, Any]:
        rendered: dict[str, Any] = self._templates.render("auth", context).get(kind, {})
        return rendered

    def _authorization(self, context: Mapping[str, Any], token: str | None) -> dict[str, str]:
        auth = self._templates.render("auth", context)
        if token is not None:
            return {"Authorization": f"Bearer {token}"}
        if "bearer" in auth:
            return {"Authorization": f"Bearer {auth['bearer']}"}
        if "basic" in auth:
            pair = f"{auth['basic']['user']}:{auth['basic'].get('password', '')}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        return dict(auth.get("headers", {}))

    async def _access(self, context: Mapping[str, Any]) -> str:
        """The access token (RFC 6749, sections 4.4 and 6), renewed before it expires."""
        if self._token is not None and self._token[1] > self._clock():
            return self._token[0]
        asked = dict(self._templates.render("auth", context)["oauth2"])
        url = asked.pop("token_url")
        body = urlencode(asked).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        reply = await self._transport.request("POST", url, headers=headers, body=body)
        said = _json(reply)
        if reply.status != 200 or not isinstance(said, dict) or not said.get("access_token"):
            raise _TokenError(f"no access token: HTTP {reply.status}")
        lasts = said.get("expires_in")
        seconds = float(lasts) if isinstance(lasts, int | float) else 300.0
        self._token = str(said["access_token"]), self._clock() + max(seconds - _EARLY_SECONDS, 1.0)
        return self._token[0]


class _ForgottenError(Exception):
    """The vendor does not know the job any more: the deletion is sent again, under the same key."""


class _TokenError(Exception):
    """The vendor gives no access token."""


def _json(reply: Reply) -> Any:
    try:
        return orjson.loads(reply.body)
    except ValueError:
        return None


def _together(answers: Sequence[Answer]) -> Answer:
    """One answer for all parts: the worst outcome, and every reference."""
    worst = min(answers, key=lambda answer: _WORST_FIRST.index(answer.outcome))
    references = " ".join(dict.fromkeys(answer.reference for answer in answers if answer.reference))
    evidence = [answer.evidence for answer in answers if answer.evidence]
    if len(evidence) > 1:
        return replace(worst, reference=references, evidence=hashlib.sha256("".join(evidence).encode()).hexdigest())
    return replace(worst, reference=references)


def _again(error: Exception) -> Answer:
    after = error.retry_after if isinstance(error, TransientError) else None
    return Answer("retry", detail=str(error), retry_after=after)


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
