"""Who calls the API: bearer tokens against a file of digests, read again when it changes, so that a revoked token is
refused at once. Shows no token after it was made.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from infra.settings import write_secret
from processors.api_clients import (
    OIDC_PREFIX,
    ROLES,
    TOKEN_PREFIX,
    ApiClient,
    ApiClients,
    ClientsError,
    Unauthorized,
    digest,
    read_clients,
    write_clients,
)

log = logging.getLogger(__name__)

OPERATOR, OPERATORS_ROLE = "operator", "auditor"
_TOKEN_BYTES = 32
_DAY_MS = 86_400_000


class ClientsFile:
    """The clients of a file; a missing file has none. Thread-safe. `clock`: seconds since 1970 UTC."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int, int] | None = None
        self._clients = ApiClients()
        self._lock = Lock()

    def authenticate(self, authorization: str | None) -> ApiClient:
        """Whose header `Authorization` this is. Raises `Unauthorized`."""
        return self._current().of(authorization, int(self._clock() * 1000))

    def _current(self) -> ApiClients:
        with self._lock:
            try:
                status = self._path.stat()
                seen = (status.st_mtime_ns, status.st_ino, status.st_size)
                if seen != self._seen:
                    # Forgotten first: a file that cannot be read lets nobody in.
                    self._clients = ApiClients()
                    self._clients, self._seen = ApiClients(load(self._path)), seen
            except FileNotFoundError:
                self._clients, self._seen = ApiClients(), None
            except (OSError, ClientsError) as error:
                log.error("the list of API clients cannot be read, nobody is let in: %s", error)
                raise Unauthorized(f"the list of API clients cannot be read ({type(error).__name__})") from error
            return self._clients


def load(path: Path) -> list[ApiClient]:
    """Raises `ClientsError` with the path, `OSError`."""
    try:
        return read_clients(path.read_text(encoding="utf-8"))
    except ClientsError as error:
        raise ClientsError(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise ClientsError(f"{path}: not UTF-8 text") from None


def create_token(
    path: Path, name: str, roles: Sequence[str], *, verifies_identity: bool = False, days: int | None = None
) -> str:
    """A new token of a client; only its digest is kept. Raises `ClientsError`, `OSError`."""
    if not name.strip() or not name.isprintable():
        raise ClientsError("a client needs a name")
    if name.startswith(OIDC_PREFIX):
        raise ClientsError(f"names that begin with {OIDC_PREFIX} are of those whom an identity provider vouches for")
    if not roles or set(roles) - set(ROLES):
        raise ClientsError(f"roles are: {', '.join(ROLES)}")
    token = TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    expires_at = None if days is None else int(time.time() * 1000) + days * _DAY_MS
    with _changed(path) as clients:
        clients.append(ApiClient(name, digest(token), frozenset(roles), expires_at, verifies_identity))
    return token


def make_operator_token(path: Path, token_file: Path) -> bool:
    """The token with which the commands of this machine's operator ask; whether it was made now.

    Kept in a file of its own, readable for its owner only. Raises `ClientsError`, `OSError`.
    """
    if token_file.exists():
        return False
    write_secret(token_file, create_token(path, OPERATOR, [OPERATORS_ROLE]).encode() + b"\n")
    return True


def revoke(path: Path, name: str, token_id: str | None = None) -> int:
    """Removes a client's tokens, or the one whose digest begins with `token_id`; how many those were.

    Raises `ClientsError`, `OSError`.
    """
    with _changed(path) as clients:
        kept = [c for c in clients if c.id != name or (token_id and not c.token_sha256.startswith(token_id))]
        gone = len(clients) - len(kept)
        clients[:] = kept
    return gone


@contextmanager
def _changed(path: Path) -> Iterator[list[ApiClient]]:
    """The clients, to be changed in the block and written when it ends; one process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        clients = load(path) if path.exists() else []
        yield clients
        write_secret(path, write_clients(clients).encode())
    finally:
        os.close(handle)
