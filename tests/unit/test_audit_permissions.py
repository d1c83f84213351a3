"""Who may do what over the audit API: the matrix in the code, the one in the docs, and what is served."""

from itertools import chain, combinations
from pathlib import Path

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from audit.api.app import audit_app
from audit.api.permissions import OPERATIONS, allowed
from audit.api.routes import serve
from audit.api.services import Published, Services
from audit.exports.background import Operator
from processors.api_clients import ROLES, ApiClients
from processors.knowledge import Knowledge
from sinks.clickhouse.pool import ClickHousePool

DOCS = Path(__file__).resolve().parents[2] / "docs" / "permissions.md"
IN_DOCS = {"yes": "all", "own": "own", "-": None}


def documented() -> dict[str, dict[str, str]]:
    """The matrix as docs/permissions.md has it."""
    tables = [line.split("|")[1:-1] for line in DOCS.read_text("utf-8").splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in row] for row in tables]
    [head] = [row for row in rows if row[0] == "operation"]
    body = [dict(zip(head, row, strict=True)) for row in rows if len(row) == len(head) and row[0].startswith("`")]
    return {row["operation"].strip("`"): row for row in body}


def test_the_docs_have_the_same_matrix() -> None:
    rows = documented()
    assert list(rows) == list(OPERATIONS)
    for name, row in rows.items():
        operation = OPERATIONS[name]
        assert row["request, below `/api/v1`"] == f"`{operation.method} {operation.path}`"
        assert (row["what"], row["recorded"]) == (operation.what, "yes" if operation.is_look else "-")
        assert {role: IN_DOCS[row[role]] for role in ROLES} == {role: operation.roles.get(role) for role in ROLES}


def test_what_is_served_is_what_is_listed() -> None:
    services = Services(
        ClickHousePool("clickhouse://127.0.0.1:1"),
        lambda header: ApiClients().of(header, 0),
        lambda user: user.encode(),
        lambda: Published((), (), Knowledge((), ())),
        Operator,
        lambda: 0,
        lambda: 0.0,
    )
    described = audit_app(services).openapi()["paths"]
    served = {
        entry["operationId"]: (method.upper(), path)
        for path, methods in described.items()
        for method, entry in methods.items()
    }
    assert served == {operation.id: (operation.method, operation.path) for operation in OPERATIONS.values()}


def test_nothing_is_served_that_is_not_listed() -> None:
    router = APIRouter()
    with pytest.raises(KeyError):
        serve(router, "everything", lambda: None)
    assert not [route for route in router.routes if isinstance(route, APIRoute)]


def test_people_are_shown_to_those_who_need_it_and_looks_to_those_who_do_not() -> None:
    looking = {role for operation in OPERATIONS.values() if operation.is_look for role in operation.roles}
    assert looking == {"auditor", "clerk"}
    assert {role for role, scope in OPERATIONS["looks"].roles.items() if scope == "all"} == {"overseer"}
    assert [operation.id for operation in OPERATIONS.values() if "overseer" in operation.roles] == ["looks"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_several_roles_may_what_any_of_them_may(operation: str) -> None:
    granted = OPERATIONS[operation].roles
    for roles in chain.from_iterable(combinations(ROLES, n) for n in range(len(ROLES) + 1)):
        found = allowed(operation, roles)
        scopes = {granted[role] for role in roles if role in granted}
        assert (found is None) == (not scopes)
        if found is not None:
            role, scope = found
            assert role in roles
            assert granted[role] == scope == ("all" if "all" in scopes else "own")
