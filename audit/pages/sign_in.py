"""Signing in with a token of the API, and signing out. The token stays in memory; it is written nowhere.

Another way of signing in adds its own router: once it knows the value of a header `Authorization` that
`Services.authenticate` takes, it answers with `signed_in`. It can be named on the sign-in page through `ways`.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from audit.pages.failures import SIGN_IN
from audit.pages.forms import Form
from audit.pages.visits import COOKIE, Desk, go
from processors.api_clients import Unauthorized

_MOST_TOKEN = 8192
_MOST_PATH = 2000


class Way(NamedTuple):
    """Another way of signing in. `path`: where it begins (GET, with `?next=PATH`). `name`: e.g. the provider's.

    `left`: told what a session held that has ended; what is shown then, None: nothing in particular.
    """

    path: str
    name: str
    left: Callable[[str], Response | None] = lambda _: None


def sign_in_router(desk: Desk, ways: Sequence[Way] = ()) -> APIRouter:
    """/sign-in and /sign-out."""
    router = APIRouter()

    def asked(next_: Annotated[str, Query(alias="next", max_length=_MOST_PATH)] = "/") -> Response:
        return _page(local(next_))

    def tried(request: Request, form: Form) -> Response:
        token, wanted = form.get("token", "").strip(), local(form.get("next", "/"))
        # People paste the whole header, too.
        authorization = token if token[:7].lower() == "bearer " else f"Bearer {token}"
        try:
            if len(token) > _MOST_TOKEN:
                raise Unauthorized("this is too long for a token")
            desk.services.authenticate(authorization)
        except Unauthorized as error:
            return _page(wanted, str(error) if token else "paste your token into the field", 401)
        desk.sessions.end(request.cookies.get(COOKIE))
        return signed_in(desk, request, authorization, wanted)

    def left(request: Request) -> Response:
        session = desk.sessions.of(request.cookies.get(COOKIE))
        desk.sessions.end(request.cookies.get(COOKIE))
        shown = [way.left(session.authorization) for way in ways] if session else []
        answer = next(filter(None, shown), go(SIGN_IN))
        answer.delete_cookie(COOKIE)
        return answer

    def _page(wanted: str, problem: str = "", status: int = 200) -> Response:
        return desk.page(
            None, "sign_in.html", "Sign in", status=status, wanted=wanted, problem=problem, ways=list(ways)
        )

    router.add_api_route(SIGN_IN, asked, methods=["GET"], response_model=None)
    router.add_api_route(SIGN_IN, tried, methods=["POST"], response_model=None)
    router.add_api_route("/sign-out", left, methods=["POST"], response_model=None)
    return router


def signed_in(desk: Desk, request: Request, authorization: str, wanted: str = "/") -> Response:
    """Begins a session of whoever presents this value, which was authenticated before, and goes on to a path of ours.

    The cookie is sent to this site only when a page of this site leads there (SameSite=Strict): what comes from
    another site, as the answer of an identity provider does, must first show a page that leads on.
    """
    answer = go(local(wanted))
    answer.set_cookie(
        COOKIE,
        desk.sessions.begin(authorization),
        httponly=True,
        samesite="strict",
        # Of a loopback address, which speaks plain HTTP, browsers would not send it back.
        secure=request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https",
    )
    return answer


def local(path: str) -> str:
    """A path of this site, with its query; "/" of anything that might lead elsewhere."""
    parts = urlsplit(path)
    is_ours = path.startswith("/") and path[1:2] not in ("/", "\\") and not parts.scheme and not parts.netloc
    if not is_ours or not path.isprintable() or "\\" in path or len(path) > _MOST_PATH or path.startswith(SIGN_IN):
        return "/"
    return path
