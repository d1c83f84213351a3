"""Which lineage of a person a page shows: as of a moment, under a policy version, with the latest or every verdict."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from pydantic import BeforeValidator

from audit.api.errors import ApiError
from audit.api.parameters import iso

_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2149, 1, 1, tzinfo=UTC)


def _as_of(value: Any) -> datetime | None:
    """A moment as forms and URLs have it: UTC where no zone is said, the end of the day where only a day is."""
    if not isinstance(value, str) or not value.strip():
        return None
    try:
        found = datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError("must be a time like 2026-03-01T08:00:00, or a day") from None
    if len(value.strip()) == len("2026-03-01"):
        found = datetime.combine(found.date(), time(23, 59, 59, 999000))
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
    if not _FIRST <= found < _LAST:
        raise ValueError("must lie between 1970 and 2148")
    return found


def _version(value: Any) -> int | None:
    if value in (None, ""):
        return None
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 18:
        raise ValueError("must be a version of the policy")
    return int(value)


def _revisions(value: Any) -> str:
    return "every" if value == "every" else "latest"


@dataclass(frozen=True)
class Chosen:
    """`version`: as had this policy version been in force all the time; None: as judged. `every`: every verdict that
    an event ever had."""

    as_of: datetime | None = None
    version: int | None = None
    every: bool = False

    @property
    def values(self) -> dict[str, Any]:
        """As a URL has it."""
        return {
            "as_of": None if self.as_of is None else iso(self.as_of),
            "policy": self.version,
            "verdicts": "every" if self.every else None,
        }


def _chosen(
    as_of: Annotated[datetime | None, BeforeValidator(_as_of), Query()] = None,
    policy: Annotated[int | None, BeforeValidator(_version), Query()] = None,
    verdicts: Annotated[Literal["latest", "every"], BeforeValidator(_revisions), Query()] = "latest",
) -> Chosen:
    if policy is not None and verdicts == "every":
        raise ApiError(
            "invalid_request", "every verdict is shown as it was given: choose “as judged then” with it, not a version"
        )
    return Chosen(as_of, policy, verdicts == "every")


Choosing = Annotated[Chosen, Depends(_chosen)]
