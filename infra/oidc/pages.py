"""Signing in to the pages at the identity provider: authorization code with PKCE, state and nonce (RFC 9700).

What a sign-in needs until it is done is kept by its own browser, sealed, so that nobody fills this server with begun
ones. URLs that the provider sends people back to are fixed by the settings, never by what a request says of its host.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from dataclasses import asdict
from urllib.parse import urlsplit

from cryptography.fernet import Fernet, InvalidToken
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from audit.pages.failures import SIGN_IN
from audit.pages.sign_in import Way, local, signed_in
from audit.pages.visits import Desk
from infra.oidc.sign_ins import SCHEME, Begun, SignIns
from processors.api_clients import AuthenticationUnavailable, Forbidden, Unauthorized

PATH = "/sign-in/oidc"
CALLBACK = f"{PATH}/callback"
_COOKIE = "lineage_sign_in"
# So long somebody may take to sign in at the provider.
_SECONDS = 15 * 60
_MOST_CODE = 4096
_MOST_WANTED = 1500


def oidc_way(name: str, sign_ins: SignIns, public_url: str, desk: Desk) -> Way:
    """The way on the sign-in page; and what is shown to those who leave."""

    def left(authorization: str) -> Response | None:
        if not authorization.startswith(SCHEME):
            return None
        sign_ins.end(authorization)
        url = sign_ins.leave_url(public_url + SIGN_IN)
        return desk.page(None, "oidc_left.html", "Signed out", name=name, url=url) if url else None

    return Way(PATH, name, left)


def oidc_router(desk: Desk, sign_ins: SignIns, ways: Sequence[Way], public_url: str) -> APIRouter:
    """/sign-in/oidc, and where the provider sends people back to."""
    router = APIRouter()
    seal = Fernet(Fernet.generate_key())
    is_secure = urlsplit(public_url).scheme == "https"

    def begin(request: Request) -> Response:
        wanted = local(request.query_params.get("next", "/"))
        # Browsers keep cookies of 4 KB.
        url, begun = sign_ins.begin(wanted if len(wanted) <= _MOST_WANTED and wanted.isascii() else "/")
        answer = RedirectResponse(url, 303)
        # Lax: the provider sends the browser back from another site.
        answer.set_cookie(
            _COOKIE,
            seal.encrypt(json.dumps(asdict(begun)).encode()).decode(),
            max_age=_SECONDS,
            path=PATH,
            httponly=True,
            samesite="lax",
            secure=is_secure,
        )
        return answer

    def came_back(request: Request) -> Response:
        asked = request.query_params
        begun = _begun(request.cookies.get(_COOKIE))
        if begun is None or not hmac.compare_digest(asked.get("state", "").encode(), begun.state.encode()):
            return _again(f"this sign-in was not begun here, or too long ago: begin again, at {public_url}", "/", 400)
        if "error" in asked:
            why = "the identity provider did not let you in"
            return _again(why if asked["error"] == "access_denied" else f"{why}: begin again", begun.wanted, 403)
        code = asked.get("code", "")
        if not 0 < len(code) <= _MOST_CODE:
            return _again("the identity provider sent no code: begin again", begun.wanted, 400)
        try:
            held = sign_ins.complete(begun, code, asked.get("iss"))
        except Unauthorized as error:
            return _again(str(error), begun.wanted, 401)
        except Forbidden as error:
            return _again(str(error), begun.wanted, 403)
        except AuthenticationUnavailable as error:
            return _again(str(error), begun.wanted, 503)
        # A page of ours, which leads on: browsers send the session's cookie only where a page of this site leads to.
        page = desk.page(None, "oidc_signed_in.html", "Signed in", wanted=begun.wanted)
        # The URL that shows it holds a code.
        page.headers["Referrer-Policy"] = "no-referrer"
        page.headers["Set-Cookie"] = signed_in(desk, request, held, begun.wanted).headers["Set-Cookie"]
        return _forgotten(page)

    def _begun(cookie: str | None) -> Begun | None:
        try:
            return Begun(**json.loads(seal.decrypt(cookie or "", ttl=_SECONDS)))
        except (InvalidToken, ValueError, TypeError):
            return None

    def _again(problem: str, wanted: str, status: int) -> Response:
        return _forgotten(
            desk.page(None, "sign_in.html", "Sign in", status=status, wanted=wanted, problem=problem, ways=list(ways))
        )

    def _forgotten(page: HTMLResponse) -> Response:
        page.delete_cookie(_COOKIE, path=PATH, httponly=True, samesite="lax", secure=is_secure)
        return page

    router.add_api_route(PATH, begin, methods=["GET"], response_model=None)
    router.add_api_route(CALLBACK, came_back, methods=["GET"], response_model=None)
    return router
