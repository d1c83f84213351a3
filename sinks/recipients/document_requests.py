"""The requests of a vendor document: filled in, sent with credentials, and looked up page by page.

What is rendered is sent and forgotten; errors name the place in the document, never a value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson

from processors.erasure_commands import Answer
from sinks.recipients.answer_mapping import answer_to, entry_for
from sinks.recipients.document_access import Access, Credentials
from sinks.recipients.document_file import SENT, roots
from sinks.recipients.document_templates import (
    UnfitValueError,
    at_path,
    every,
    render,
    render_headers,
    render_texts,
    render_url,
)
from sinks.recipients.transport import Reply, Transport, TransportError

_MOST_PAGES = 50

Values = Mapping[str, Any]


class DocumentRequests:
    """The requests to one vendor. `values`: settings and secrets; `headers`: on every request; `clock`: seconds since
    1970, UTC. Its methods raise `TransportError`, `TemplateError` and `AccessError`."""

    def __init__(
        self,
        document: Mapping[str, Any],
        values: Values,
        transport: Transport,
        headers: Mapping[str, str],
        clock: Callable[[], float],
    ) -> None:
        self._document = document
        self._transport = transport
        self._headers = {"Accept": "application/json", **headers}
        self._clock = clock
        self._access = Access(document.get("auth", {}), values, transport, clock)

    async def send(self, part: str, values: Values, url: str | None = None) -> Reply:
        """Sends a part of the document, once more with a new token where the old one is refused. `url`: instead of
        its own, with its query."""
        given = await self._access.credentials()
        reply = await self._sent(part, values, url, given)
        if reply.status == 401 and self._access.refused(given):
            # Revoked before its time.
            given = await self._access.credentials()
            reply = await self._sent(part, values, url, given)
        return reply

    async def _sent(self, part: str, values: Values, url: str | None, given: Credentials) -> Reply:
        template = self._document[part]
        headers = {**self._headers, **render_headers(template.get("headers", {}), values, f"{part}.headers")}
        body: bytes | None = None
        try:
            if "json" in template:
                headers.setdefault("Content-Type", "application/json")
                body = orjson.dumps(render(template["json"], values, f"{part}.json"))
            elif "form" in template:
                headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
                body = urlencode(render_texts(template["form"], values, f"{part}.form")).encode()
            query = dict(given.query)
            if url is None:
                url = render_url(template["url"], values, f"{part}.url")
                query |= render_texts(template.get("query", {}), values, f"{part}.query")
            if query:
                url = f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"
            urlsplit(url)
        except (TypeError, ValueError):
            # What it says may quote a value.
            raise UnfitValueError(f"{part}: a value that cannot be written") from None
        return await self._transport.request(
            template.get("method", "POST"), url, headers={**headers, **given.headers}, body=body
        )

    async def find(self, values: Values) -> tuple[list[str] | Answer, str]:
        """The vendor's own ids of the person, over all pages, and the evidence; or why there are none to be had."""
        lookup = self._document["lookup"]
        numbered = "page" in roots({key: lookup.get(key) for key in SENT}, "lookup") and "next" not in lookup
        ids: dict[str, None] = {}
        cursor: Any = None
        url: str | None = None
        for number in range(1, _MOST_PAGES + 1):
            paged = {**values, "page": {"cursor": cursor, "number": number}}
            reply = await self.send("lookup", paged, url)
            body = json_of(reply)
            evidence = hashlib.sha256(reply.body).hexdigest()
            entry = entry_for(reply, body, lookup.get("answers", ()), paged)
            if entry is not None and entry["outcome"] == "not_found":
                return list(ids), evidence
            if entry is not None or reply.status != 200:
                return answer_to(reply, body, lookup.get("answers", ()), paged, self._clock()), evidence
            items = _items(body, lookup["items"])
            ids |= dict.fromkeys(self._ids(items, lookup, paged))
            if "next_url" in lookup:
                url = self._next_url(at_path(body, lookup["next_url"]), lookup, paged)
                more = url is not None
            else:
                cursor = at_path(body, lookup["next"]) if "next" in lookup else None
                more = bool(items) if numbered else cursor not in (None, "", False)
            if not more:
                return list(ids), evidence
        return Answer("retry", detail=f"the look-up has more than {_MOST_PAGES} pages"), ""

    def _ids(self, items: Sequence[Any], lookup: Mapping[str, Any], values: Values) -> list[str]:
        wanted = render_texts(lookup.get("match", {}), values, "lookup.match")
        ids = []
        for item in items:
            # Searches may be inexact, and nobody else is to be deleted.
            if all(str(at_path(item, path)).strip().lower() == value.strip().lower() for path, value in wanted.items()):
                found = at_path(item, lookup["id"])
                if not isinstance(found, str | int) or isinstance(found, bool) or found == "":
                    raise TransportError("lookup.id: what was found has no id there")
                ids.append(str(found))
        return ids

    def _next_url(self, url: Any, lookup: Mapping[str, Any], values: Values) -> str | None:
        if url in (None, ""):
            return None
        try:
            parts, own = urlsplit(str(url)), urlsplit(render_url(lookup["url"], values, "lookup.url"))
        except ValueError:
            raise TransportError("lookup.next_url: not a URL") from None
        if (parts.scheme, parts.netloc) != (own.scheme, own.netloc):
            # Credentials go there.
            raise TransportError("lookup.next_url: it leads elsewhere, which is not followed")
        return str(url)


def _items(body: Any, path: str) -> list[Any]:
    """What a look-up found. An answer without the list is no answer that nobody was found."""
    before, star, _ = path.partition("*")
    if not isinstance(at_path(body, before.rstrip(".")), list | dict if star else list):
        raise TransportError("lookup.items: the answer has no such list")
    return every(body, path if star else f"{path}.*".lstrip("."))


def json_of(reply: Reply) -> Any:
    try:
        return orjson.loads(reply.body)
    except ValueError:
        return None
