"""The values that come from outside, with their bounds: what they hold is bound in queries, and never quoted."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from audit.exports.export import FORMATS

MOST = 1000
USUAL = 100
# What the table's times and the projection's days can hold.
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2149, 1, 1, tzinfo=UTC)


def _moment(value: Any) -> datetime:
    try:
        if not isinstance(value, str):
            raise ValueError
        found = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("must be a time like 2026-03-01T08:00:00Z") from None
    if found.tzinfo is None:
        raise ValueError("must have a zone, e.g. Z")
    if not _FIRST <= found < _LAST:
        raise ValueError("must lie between 1970 and 2148")
    return found


def _day(value: Any) -> date:
    try:
        if not isinstance(value, str) or len(value) != 10:
            raise ValueError
        found = date.fromisoformat(value)
    except ValueError:
        raise ValueError("must be a day like 2026-03-01") from None
    if not _FIRST.date() <= found < _LAST.date():
        raise ValueError("must lie between 1970 and 2148")
    return found


Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]
# Larger whole numbers do not get through every client's JSON unharmed.
Version = Annotated[int, Field(ge=0, lt=1 << 53)]
Verdict = Literal["lawful", "violation", "gap"]
Activity = Literal["collect", "share", "transfer", "publish"]
Name = Annotated[str, Field(min_length=1, max_length=200)]
UserId = Annotated[str, Field(min_length=1, max_length=512, description="The user id as the app knows it.")]
# How long it may be is checked by access.py, which says what to do about it.
Reason = Annotated[
    str | None,
    Field(description="Why you look; or the header X-Reason."),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 3, "maxLength": 500}, {"type": "null"}]}),
]
Cursor = Annotated[str | None, Field(description="`next` of the answer before.", max_length=512)]
Limit = Annotated[int, Field(ge=1, le=MOST, description="Entries on a page.")]
CursorQuery = Annotated[str | None, Query(description="`next` of the answer before.", max_length=512)]
LimitQuery = Annotated[int, Query(ge=1, le=MOST, description="Entries on a page.")]
FromDay = Annotated[Day | None, Query(alias="from", description="The first day, in UTC.")]
ToDay = Annotated[Day | None, Query(alias="to", description="The day after the last one.")]
From = Annotated[Moment | None, Query(alias="from", description="From this moment on.")]
To = Annotated[Moment | None, Query(alias="to", description="Before this moment.")]


class PersonBody(BaseModel):
    """At whom, and why."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    user: UserId
    reason: Reason = None


class ChosenBody(PersonBody):
    """Which lineage of the person."""

    as_of: Annotated[Moment | None, Field(description="Only what occurred until then.")] = None
    policy_version: Annotated[
        Version | None, Field(description="As judged had this version been in force all the time.")
    ] = None
    all_revisions: Annotated[bool, Field(description="Every verdict that an event ever had.")] = False


class LineageBody(ChosenBody):
    cursor: Cursor = None
    limit: Limit = USUAL


class AccountingBody(PersonBody):
    since: Annotated[Moment | None, Field(alias="from", description="From this moment on.")] = None
    until: Annotated[Moment | None, Field(alias="to", description="Before this moment.")] = None
    cursor: Cursor = None
    limit: Limit = USUAL


class ReportBody(PersonBody):
    as_of: Annotated[Moment | None, Field(description="Only what occurred until then.")] = None


class ExportBody(ChosenBody):
    format: Annotated[str, Field(json_schema_extra={"enum": list(FORMATS)})]


class RecipientBody(BaseModel):
    """One recipient of an erasure request."""

    model_config = ConfigDict(extra="forbid")

    recipient: Annotated[Name, Field(description="As `targets` of the request name it.")]


class RetryBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    recipient: Annotated[Name | None, Field(description="null: all that have not done it.")] = None


class ConfirmBody(RecipientBody):
    note: Annotated[
        str, Field(max_length=300, description="Who confirmed it and how. No personal values of the person.")
    ] = ""
    reference: Annotated[
        UUID | None, Field(description="The reference that the answer names: it must be the newest one.")
    ] = None


class ExemptBody(RecipientBody):
    ground: Annotated[
        str, Field(min_length=3, max_length=300, description="The law or clause that lets it keep the data.")
    ]


class IncidentBody(BaseModel):
    """A breach at a recipient between two moments."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    recipient: Name
    since: Annotated[Moment, Field(alias="from", description="When the breach began.")]
    until: Annotated[Moment, Field(alias="to", description="When it had ended.")]
    reason: Reason = None
    cursor: Cursor = None
    limit: Limit = USUAL


def ms(moment: datetime | None) -> int | None:
    """Milliseconds since 1970, UTC."""
    return None if moment is None else (moment - _FIRST) // timedelta(milliseconds=1)


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
