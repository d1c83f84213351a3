"""The first page: the search for a person, and what else the visitor's roles let them see.

A person is searched for by their user id, with a reason; both are sent in a form, so that no URL holds them.
"""

from fastapi import APIRouter
from starlette.responses import Response

from audit.api.errors import ApiError
from audit.pages.forms import Form
from audit.pages.visits import Desk, Visit, Visiting, go, serve_page

_MOST_USER = 512


def home_router(desk: Desk) -> APIRouter:
    """/ and POST /people."""
    router = APIRouter()

    def home(visit: Visiting) -> Response:
        return _page(visit)

    def search(visit: Visiting, form: Form) -> Response:
        user, reason = form.get("user", ""), form.get("reason", "")
        try:
            if not 0 < len(user) <= _MOST_USER:
                raise ApiError("invalid_request", f"give the user id as the app knows it: 1 to {_MOST_USER} characters")
            told = visit.caller.reason(reason)
            alias = desk.services.alias_of(user)
        except UnicodeEncodeError:
            return _page(visit, "the user id is no valid Unicode text", "", 400)
        except ApiError as error:
            return _page(visit, error.message, user, 400)
        return go(f"/people/{desk.sessions.open_case(visit.session, user, alias, told).id}")

    def _page(visit: Visit, problem: str = "", user: str = "", status: int = 200) -> Response:
        cases = desk.sessions.cases(visit.session)
        return desk.page(visit, "home.html", "Find a person", status=status, problem=problem, user=user, cases=cases)

    serve_page(router, "/", None, home)
    serve_page(router, "/people", "lineage", search, ["POST"])
    return router
