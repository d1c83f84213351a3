"""How operations become routes: each as permissions.py lists it, with its examples in the OpenAPI description."""

from collections.abc import Callable, Mapping, Sequence
from inspect import cleandoc
from typing import Any

from fastapi import APIRouter, Response, Security
from fastapi.security import HTTPBearer

from audit.api.access import REASON_HEADER, AskedByCaller
from audit.api.answers import NDJSON
from audit.api.errors import CODES
from audit.api.examples import examples
from audit.api.permissions import OPERATIONS

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string", "enum": [*CODES]}, "message": {"type": "string"}},
        }
    },
}
# Operation → what may be asked about an entry of its answer: operation, parameter, and where its value stands.
_LINKS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "lineage": [("event", "event_id", "/events/0/event_id")],
    "events": [("event", "event_id", "/events/0/event_id")],
    "recipients": [("recipient", "recipient_id", "/recipients/0/id")],
    "requests": [
        ("request", "request_id", "/requests/0/request_id"),
        ("certificate", "request_id", "/requests/0/request_id"),
        ("retry", "request_id", "/requests/0/request_id"),
    ],
}
_bearer = HTTPBearer(auto_error=False, description="A token of `lineage api token create`.")


def serve(
    router: APIRouter,
    operation: str,
    handler: Callable[..., Any],
    *,
    lines: bool = False,
    media_types: Sequence[str] = (),
) -> None:
    """Adds the route of an operation.

    lines: it can answer with a line of JSON for each entry. media_types: what else than its example's it answers with.
    """
    served = OPERATIONS[operation]
    example = examples()[operation]
    content: dict[str, Any] = {
        example.media_type: {"schema": {"type": "object"} if example.is_json else {}, "example": example.answer}
    }
    content = {kind: {"schema": {}} for kind in media_types} | content
    if lines:
        content[NDJSON] = {"schema": {"type": "string", "description": "One entry a line."}}
    extra: dict[str, Any] = {}
    if served.is_look:
        # In the body it will do as well, where there is one.
        schema = {"type": "string", "minLength": 3, "maxLength": 500}
        what = "Why you look at people, e.g. the number of the case. It is recorded."
        extra["parameters"] = [
            {
                "name": REASON_HEADER,
                "in": "header",
                "required": served.method == "GET",
                "description": what,
                "schema": schema,
                "example": "case 4711",
            }
        ]
    if example.body is not None:
        extra["requestBody"] = {"content": {"application/json": {"example": example.body}}}
    roles = ", ".join(f"{role} ({scope})" if scope == "own" else role for role, scope in served.roles.items())
    look = " It is a look at people: give a reason; it is recorded before the answer." if served.is_look else ""
    router.add_api_route(
        served.path,
        handler,
        methods=[served.method],
        operation_id=operation,
        summary=served.what,
        description=f"{cleandoc(handler.__doc__ or served.what)}{look} Roles: {roles}.",
        responses={
            200: {"description": served.what, "content": content, "links": _links(operation)},
            "default": _error_response(),
        },
        openapi_extra=extra,
        response_model=None,
        # Else every answer would be described as JSON as well.
        response_class=Response,
        dependencies=[Security(_bearer)],
        route_class_override=AskedByCaller,
    )


def _links(operation: str) -> dict[str, Any]:
    return {
        f"its {target}": {"operationId": target, "parameters": {parameter: f"$response.body#{place}"}}
        for target, parameter, place in _LINKS.get(operation, ())
    }


def _error_response() -> dict[str, Any]:
    example = {"error": {"code": "not_found", "message": "no such event: GET /events lists events"}}
    return {
        "description": "An error; its code stays, its text may change.",
        "content": {"application/json": {"schema": _ERROR, "example": example}},
    }
