"""Who we are to a vendor: a header, a query parameter, a password or an OAuth 2.0 token, by its document.

Tokens are kept in memory only. Nothing here shows a secret in an error.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode

import orjson

from sinks.recipients.document_templates import TemplateError, render_headers, render_texts, render_url
from sinks.recipients.transport import Transport

# A token is renewed so long before it expires, and lasts so long where the vendor does not say (RFC 6749, 5.1).
_EARLY_SECONDS = 60.0
_UNSAID_SECONDS = 300.0
# RFC 6749, section 5.2: what a refusal may say. Other words are not told, as they may quote what was sent.
_REFUSALS = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)
_OWN_FIELDS = ("token_url", "client_auth")


class AccessError(Exception):
    """The vendor gives no access token. The text names no secret."""


@dataclass(frozen=True)
class Credentials:
    """What a request carries. `token`: the OAuth token in it, if it is one."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: str | None = field(default=None, repr=False)


class Access:
    """The credentials of one entry. `auth`: of the document; `values`: settings and secrets; `clock`: seconds. One
    event loop."""

    def __init__(
        self, auth: Mapping[str, Any], values: Mapping[str, Any], transport: Transport, clock: Callable[[], float]
    ) -> None:
        self._auth = auth
        self._values = values
        self._transport = transport
        self._clock = clock
        self._renewing = asyncio.Lock()
        self._token: tuple[str, float] | None = None
        # Some vendors give a new one with each access token.
        self._refresh_token: str | None = None

    async def credentials(self) -> Credentials:
        """Raises `AccessError`, `TransportError`."""
        try:
            return await self._credentials()
        except TemplateError as error:
            # A secret or a setting is to be mended; the command has not failed by that.
            raise AccessError(str(error)) from None

    async def _credentials(self) -> Credentials:
        auth, values = self._auth, self._values
        if "oauth2" in auth:
            token = await self._access_token()
            return Credentials({"Authorization": f"Bearer {token}"}, token=token)
        if "bearer" in auth:
            return Credentials(render_headers({"Authorization": f"Bearer {auth['bearer']}"}, values, "auth.bearer"))
        if "basic" in auth:
            pair = render_texts({"password": "", **auth["basic"]}, values, "auth.basic")
            return Credentials({"Authorization": _basic(pair["user"], pair["password"])})
        return Credentials(
            render_headers(auth.get("headers", {}), values, "auth.headers"),
            render_texts(auth.get("query", {}), values, "auth.query"),
        )

    def refused(self, used: Credentials) -> bool:
        """A token was refused before its time; whether there may be another. Others' newer tokens stay."""
        if used.token is None:
            return False
        if self._token is not None and self._token[0] == used.token:
            self._token = None
        return True

    async def _access_token(self) -> str:
        async with self._renewing:
            if self._token is None or self._token[1] <= self._clock():
                self._token = await self._renew()
            return self._token[0]

    async def _renew(self) -> tuple[str, float]:
        """RFC 6749, sections 4.4 (client credentials) and 6 (refresh token)."""
        oauth = self._auth["oauth2"]
        form = render_texts(
            {key: value for key, value in oauth.items() if key not in _OWN_FIELDS}, self._values, "auth.oauth2"
        )
        if self._refresh_token is not None:
            form["refresh_token"] = self._refresh_token
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if oauth.get("client_auth") == "basic":
            # Section 2.3.1: form-encoded first.
            user, password = (quote_plus(form.pop(one, "")) for one in ("client_id", "client_secret"))
            headers["Authorization"] = _basic(user, password)
        url = render_url(oauth["token_url"], self._values, "auth.oauth2.token_url")
        reply = await self._transport.request("POST", url, headers=headers, body=urlencode(form).encode())
        said = _object(reply.body)
        token = said.get("access_token")
        if reply.status != 200 or not isinstance(token, str) or not token or not token.isprintable():
            # The one that was given may count again where the newer one does not.
            self._refresh_token = None
            why = f" ({said['error']})" if said.get("error") in _REFUSALS else ""
            raise AccessError(f"no access token: HTTP {reply.status}{why}")
        newer = said.get("refresh_token")
        if isinstance(newer, str) and newer and "refresh_token" in form:
            self._refresh_token = newer
        try:
            seconds = float(said.get("expires_in") or _UNSAID_SECONDS)
        except (TypeError, ValueError):
            seconds = _UNSAID_SECONDS
        return token, self._clock() + max(seconds - _EARLY_SECONDS, seconds / 2)


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
