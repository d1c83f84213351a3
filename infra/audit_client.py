"""How commands ask the audit API: where it is, with which token, and what its refusals mean. Shows no token, follows no
redirect (a token goes to one host only), and reads nothing but what it is told to.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson

from infra.settings import Settings, SettingsError

PATH = "/api/v1"
NDJSON = "application/x-ndjson"
TOKEN_FILE = "operator-token"
_CONNECT_SECONDS = 120.0
# So long is waited for an API that starts, or that says to come again.
_PATIENCE_SECONDS = 30.0
_CHUNK = 1 << 16


class ApiRefused(Exception):
    """The API's answer is an error: its text says what to do. `code`: see docs/audit-api.md; empty: not of the API."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class ApiPlace:
    """Where it is asked. `is_local`: it is that of the stack on the data folder, of this machine's own operator."""

    url: str
    token: str = field(repr=False)
    token_file: Path
    is_local: bool


def find_api(settings: Settings) -> ApiPlace:
    """The API that is named (LINEAGE_API_URL), else that of the stack on the data folder. Raises `SettingsError`."""
    if settings.api_url:
        if settings.api_token_file is None:
            raise SettingsError(
                "LINEAGE_API_URL names an API, and nothing the token for it: LINEAGE_API_TOKEN_FILE must name the file "
                "that holds it (lineage api token create)"
            )
        return _place(settings.api_url, settings.api_token_file, False)
    stack = settings.stack()
    if stack is None:
        raise SettingsError(
            f"no audit API: start the local stack (lineage up --data {settings.data}), or name one with "
            "LINEAGE_API_URL and LINEAGE_API_TOKEN_FILE"
        )
    if settings.clickhouse_url and stack.clickhouse_url and settings.clickhouse_url != stack.clickhouse_url:
        raise SettingsError(
            f"LINEAGE_CLICKHOUSE is not the ClickHouse of the stack on {settings.data}: name the audit API before it "
            "with LINEAGE_API_URL and LINEAGE_API_TOKEN_FILE"
        )
    if stack.api is None:
        raise SettingsError(f"the API of the stack on {settings.data} does not run now: see lineage status")
    return _place(f"http://{stack.api}", settings.api_token_file or settings.data / "secrets" / TOKEN_FILE, True)


def _place(url: str, token_file: Path, is_local: bool) -> ApiPlace:
    found = urlsplit(url)
    if found.scheme not in ("http", "https") or not found.hostname or found.query or found.username:
        raise SettingsError("LINEAGE_API_URL must be like https://lineage.example.com")
    try:
        token = token_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not ASCII text"
        raise SettingsError(
            f"the token for the audit API cannot be read ({why}): {token_file}"
            + ("; lineage up makes it" if is_local else "")
        ) from None
    return ApiPlace(url.rstrip("/").removesuffix(PATH), token, token_file, is_local)


class AuditClient:
    """Asks one API. reason: why people are looked at. wait: called with a text when it has to come again."""

    def __init__(
        self, place: ApiPlace, reason: str | None = None, wait: Callable[[str], None] = lambda _: None
    ) -> None:
        self._place = place
        self._reason = reason
        self._wait = wait

    def get(self, path: str, **parameters: Any) -> Any:
        """A JSON document; parameters that are None are left out. Raises `ApiRefused`, `OSError`."""
        with self.asked("GET", path, parameters) as answer:
            return orjson.loads(b"".join(pieces(answer)))

    @contextmanager
    def asked(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        accept: str = "application/json",
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer, to be read in the block; a None in parameters or body is left out. Raises as `get` does."""
        query = urlencode([(name, _text(value)) for name, value in (parameters or {}).items() if value is not None])
        # What the commands tell is as of now.
        headers = {
            "Authorization": f"Bearer {self._place.token}",
            "Accept": accept,
            "Cache-Control": "no-cache",
        }
        content = None
        if body is not None:
            given = {name: value for name, value in body.items() if value is not None}
            try:
                content = orjson.dumps(given | ({} if self._reason is None else {"reason": self._reason}))
            except TypeError:
                raise ApiRefused("invalid_request", "what is asked must be valid Unicode text") from None
            headers["Content-Type"] = "application/json"
        target = f"{urlsplit(self._place.url).path}{PATH}{path}" + (f"?{query}" if query else "")
        connection, answer = self._answered(method, target, content, headers)
        try:
            yield answer
        finally:
            connection.close()

    def lines(
        self, method: str, path: str, parameters: Mapping[str, Any] | None = None, body: Mapping[str, Any] | None = None
    ) -> Iterator[Any]:
        """The entries of a list, as they come. Raises as `get` does, and `ApiRefused` when the answer breaks off."""
        with self.asked(method, path, parameters, body, NDJSON) as answer:
            yield from entries(answer)

    def _answered(
        self, method: str, target: str, content: bytes | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        deadline, told = time.monotonic() + _PATIENCE_SECONDS, False
        while True:
            connection = self._connection()
            try:
                connection.putrequest(method, target)
                for name, value in headers.items():
                    connection.putheader(name, value)
                if self._reason is not None and content is None:
                    connection.putheader("X-Reason", self._reason.encode())
                if content is not None:
                    connection.putheader("Content-Length", str(len(content)))
                connection.endheaders(content)
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # The local one may be starting again; of another that does not answer, the address may be wrong.
                if not self._place.is_local or time.monotonic() > deadline:
                    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
                    raise ApiRefused("", f"no audit API answers at {self._place.url}: {why}") from None
                refusal, pause = "it does not answer", 0.5
            else:
                if answer.status == 200:
                    return connection, answer
                found, again = _refusal(answer, self._place), answer.headers.get("Retry-After")
                connection.close()
                # Without a time, coming again does not help.
                if again is None or not again.isdigit() or time.monotonic() > deadline:
                    raise found
                refusal, pause = str(found), min(5.0, float(again))
            if not told:
                self._wait(f"the audit API cannot answer now ({refusal}): trying again")
                told = True
            time.sleep(pause)

    def _connection(self) -> http.client.HTTPConnection:
        found = urlsplit(self._place.url)
        kind = http.client.HTTPSConnection if found.scheme == "https" else http.client.HTTPConnection
        return kind(found.hostname or "", found.port, timeout=_CONNECT_SECONDS)


def entries(answer: http.client.HTTPResponse) -> Iterator[Any]:
    """One entry a line. Raises `ApiRefused` when the answer breaks off."""
    # Not its own `readline`, which takes an answer that breaks off for one that has ended.
    begun = b""
    for piece in pieces(answer):
        *lines, begun = (begun + piece).split(b"\n")
        yield from map(orjson.loads, lines)


def pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The content of a file. Raises `ApiRefused` when the answer breaks off."""
    try:
        while piece := answer.read(_CHUNK):
            yield piece
    except (OSError, http.client.HTTPException):
        raise ApiRefused("", "the audit API's answer broke off: ask again, and see the API's log") from None


def _refusal(answer: http.client.HTTPResponse, place: ApiPlace) -> ApiRefused:
    try:
        told = orjson.loads(answer.read())["error"]
        code, message = str(told["code"]), str(told["message"])
    except (ValueError, LookupError, TypeError, OSError, http.client.HTTPException):
        return ApiRefused("", f"{place.url} answers {answer.status} {answer.reason}: is it the audit API?")
    if code == "unauthorized":
        again = "; remove it, and lineage up makes a new one" if place.is_local else ""
        return ApiRefused(code, f"the audit API takes no token like the one in {place.token_file}: {message}{again}")
    return ApiRefused(code, message)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
