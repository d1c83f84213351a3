"""What the audit API answers with: JSON, or a line of JSON for each entry; and its errors. Nothing of it is cached by
anybody on the way.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit.api.errors import ApiError, Unavailable
from audit.api.permissions import OPERATIONS
from processors.api_clients import AuthenticationUnavailable, Forbidden, Unauthorized
from sinks.clickhouse.errors import ClickHouseError, TransientError

log = logging.getLogger(__name__)

NDJSON = "application/x-ndjson"
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_OF_STATUS = {401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}


def answer(body: Any) -> Response:
    """One JSON document."""
    return Response(orjson.dumps(body), media_type="application/json", headers=HEADERS)


def wants_lines(request: Request) -> bool:
    """Whether the client asks for one line of JSON for each entry."""
    return NDJSON in request.headers.get("accept", "")


def lines(entries: Iterable[Mapping[str, Any]]) -> Response:
    """One line of JSON for each entry, as they are found; an answer that breaks off lacks the last chunk of HTTP."""
    found = iter(entries)
    # What fails at once is still told as an error.
    first = list(islice(found, 1))
    content = (orjson.dumps(entry) + b"\n" for entry in chain(first, found))
    return StreamingResponse(content, media_type=NDJSON, headers=HEADERS)


def entries_of(page: Callable[[Any], tuple[list[Any], Any]], after: Any) -> Iterator[Any]:
    """All entries of a paged question from a key on. page: key → entries and the key of the next page, None at the
    end."""
    while True:
        entries, after = page(after)
        yield from entries
        if after is None:
            return


def handle_errors(app: FastAPI) -> None:
    """Whatever goes wrong is answered as `{"error": {"code", "message"}}`."""
    for kind in FORESEEN:
        app.add_exception_handler(kind, _told)
    app.add_middleware(Unforeseen, _unforeseen)


# What goes wrong in an answer, and is told to whoever asked.
FORESEEN = (
    ApiError,
    Unauthorized,
    Forbidden,
    AuthenticationUnavailable,
    Unavailable,
    ClickHouseError,
    RequestValidationError,
    HTTPException,
)


def error_of(error: Exception) -> ApiError:
    """One of `FORESEEN` as it is told."""
    match error:
        case ApiError():
            return error
        case Unauthorized():
            return ApiError("unauthorized", str(error))
        case Forbidden():
            return ApiError("forbidden", str(error))
        case Unavailable() | AuthenticationUnavailable():
            return ApiError("unavailable", str(error), 5)
        case ClickHouseError():
            return _of_clickhouse(error)
        case RequestValidationError():
            found = [
                f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()
            ]
            return ApiError("invalid_request", "; ".join(found[:10]))
        case HTTPException():
            code = _OF_STATUS.get(error.status_code, "invalid_request" if error.status_code < 500 else "internal")
            return ApiError(code, f"{error.detail}; see openapi.json")
    raise error


def _told(request: Request, error: Exception) -> Response:
    headers = dict(getattr(error, "headers", None) or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(sorted(_methods(request))) or headers["Allow"]
    return _error(error_of(error), headers)


def _methods(request: Request) -> set[str]:
    """What may be asked of this path, by all operations of it: the framework tells that of the first one."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return {operation.method for operation in OPERATIONS.values() if compile_path(operation.path)[0].match(path)}


def _of_clickhouse(error: ClickHouseError) -> ApiError:
    # Its text may hold the query, and with it a person.
    code = getattr(error, "code", 0)
    if isinstance(error, TransientError):
        log.warning("ClickHouse cannot answer now (code %s)", code)
        return ApiError("unavailable", "the database cannot answer now: try again", 2)
    log.error("ClickHouse refuses a query of the audit API (code %s)", code)
    return ApiError("internal", "the database refused the question; the API's log has its error code")


class Unforeseen:
    """ASGI middleware: what nobody thought of is a 500, logged without its text, which may hold what was sent.

    tell: the answer.
    """

    def __init__(self, app: ASGIApp, tell: Callable[[Request, ApiError], Response]) -> None:
        self._app = app
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("the audit API failed: %s\n%s", type(error).__name__, where)
            if begun:
                # A connection that breaks is the only sign that is left: the answer is not whole.
                raise _BrokenOff from None
            told = ApiError("internal", f"this should not happen ({type(error).__name__}): please report it")
            await self._tell(Request(scope), told)(scope, receive, sent)


class _BrokenOff(Exception):
    """An answer that had begun cannot be ended."""


def _unforeseen(_: Request, error: ApiError) -> Response:
    return _error(error)


def _error(error: ApiError, more: Mapping[str, str] | None = None) -> Response:
    headers = {**HEADERS, **(more or {})}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.code == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    body = orjson.dumps({"error": {"code": error.code, "message": error.message}})
    return Response(body, error.status, headers, "application/json")
