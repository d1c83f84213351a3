"""Who may call the API: clients, their tokens' digests and their roles. Pure: reads no file and no clock.

A token is only ever compared by its SHA-256: tokens have 256 random bits, so there is nothing to guess or to salt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# What somebody may do: read the operation of the jobs; read people's lineage; ask for erasures; answer people who ask
# for their data; watch those who look at people (docs/permissions.md).
ROLES = ("engineer", "auditor", "eraser", "clerk", "overseer")
TOKEN_PREFIX = "lineage_"
# Names of those whom an identity provider vouches for begin so, and no others (processors/oidc_tokens.py).
OIDC_PREFIX = "oidc:"


class ClientsError(ValueError):
    """A list of clients that cannot be read; the text says where it is wrong and quotes no token."""


class Unauthorized(Exception):
    """No client is known by what was presented; the text says what to present."""


class AuthenticationUnavailable(Exception):
    """Who calls cannot be found out now; the text says why, and nothing of what was presented."""


class Forbidden(Exception):
    """The client may not do this; the text names the role that may."""


@dataclass(frozen=True)
class ApiClient:
    """A caller of the API, e.g. the service through which people ask for their erasure.

    `token_sha256`: hex. `expires_at`: ms since 1970 UTC; None: never. `verifies_identity`: what it asks for, it asks
    for people whose identity it has verified.
    """

    id: str
    token_sha256: str
    roles: frozenset[str]
    expires_at: int | None = None
    verifies_identity: bool = False

    def require(self, role: str) -> None:
        """Raises `Forbidden` when the client has not that role."""
        if role not in self.roles:
            raise Forbidden(f"this needs the role {role}: see docs/permissions.md")


class ApiClients:
    """Clients by their tokens; several tokens of one client are several entries (a token is exchanged that way)."""

    def __init__(self, clients: Iterable[ApiClient] = ()) -> None:
        self._clients = {client.token_sha256: client for client in clients}

    def __iter__(self) -> Iterator[ApiClient]:
        return iter(self._clients.values())

    def of(self, authorization: str | None, now: int) -> ApiClient:
        """Whose header `Authorization: Bearer TOKEN` this is. `now`: ms. Raises `Unauthorized`."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("send the header `Authorization: Bearer TOKEN`")
        client = self._clients.get(digest(token.strip()))
        if client is None:
            raise Unauthorized("this token is not known, or revoked")
        if client.expires_at is not None and client.expires_at <= now:
            raise Unauthorized("this token has expired")
        return client


def digest(token: str) -> str:
    """SHA-256 of a token, hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def read_clients(text: str) -> list[ApiClient]:
    """Clients of a file: `{"clients": [{id, token_sha256, roles, expires_at, verifies_identity}]}`.

    Raises `ClientsError`: a list that is half understood lets nobody in.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ClientsError(f"not JSON: {error}") from None
    entries = document.get("clients") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ClientsError("expected an object with a list `clients`")
    return [_client(entry, at) for at, entry in enumerate(entries)]


def write_clients(clients: Iterable[ApiClient]) -> str:
    """The file's content, that `read_clients` reads."""
    entries = [{**vars(client), "roles": sorted(client.roles)} for client in clients]
    return json.dumps({"clients": entries}, indent=2) + "\n"


def _client(entry: Any, at: int) -> ApiClient:
    if not isinstance(entry, Mapping):
        raise ClientsError(f"clients[{at}] is not an object")
    name, hashed, roles = entry.get("id"), entry.get("token_sha256"), entry.get("roles")
    expires_at, verifies = entry.get("expires_at"), entry.get("verifies_identity", False)
    if not isinstance(name, str) or not name:
        raise ClientsError(f"clients[{at}].id must be a name")
    if name.startswith(OIDC_PREFIX):
        raise ClientsError(f"clients[{at}].id must not begin with {OIDC_PREFIX}")
    if not isinstance(hashed, str) or len(hashed) != 64 or set(hashed) - set("0123456789abcdef"):
        raise ClientsError(f"clients[{at}].token_sha256 must be 64 hex digits")
    if not isinstance(roles, list) or not roles or not all(role in ROLES for role in roles):
        raise ClientsError(f"clients[{at}].roles must be a list of: {', '.join(ROLES)}")
    if expires_at is not None and (isinstance(expires_at, bool) or not isinstance(expires_at, int)):
        raise ClientsError(f"clients[{at}].expires_at must be ms since 1970, or null")
    if not isinstance(verifies, bool):
        raise ClientsError(f"clients[{at}].verifies_identity must be true or false")
    return ApiClient(name, hashed, frozenset(roles), expires_at, verifies)
