"""One person's lineage with all that is known of it, as the API and the pages ask for it. Reads only, but for the look,
which is recorded while the events are read: both take as long.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any
from uuid import UUID

from audit.api.errors import ApiError
from audit.api.services import Services
from audit.exports.background import Background
from audit.exports.gathering import background_of
from audit.exports.under_policy import under_policy
from audit.subject import subject_lineage

Lineage = dict[str, Any]


class People:
    """Lineages of people, by their aliases. Every function may raise `ApiError`, `Unavailable` and ClickHouseError."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def alias(self, user: str) -> bytes:
        """User id → alias (16 bytes)."""
        try:
            return self._services.alias_of(user)
        except UnicodeEncodeError:
            raise ApiError("invalid_request", "body.user: must be valid Unicode text") from None

    def lineage(
        self,
        alias: bytes,
        look: Callable[[UUID | None], None],
        as_of: datetime | None = None,
        version: int | None = None,
        every_revision: bool = False,
        consents: bool = True,
    ) -> Lineage:
        """As `audit.subject.subject_lineage` gives it. version: as had this one been in force all the time.

        look: records who is looked at (`Caller.looks_at`); it has ended, or what it raises is raised, before anything
        is answered. consents: each event has the ids of the consents that its verdict rests on, which takes longer to
        find.
        """
        if version is not None and every_revision:
            raise ApiError("invalid_request", "all_revisions are as stored: ask for them without policy_version")
        known = self._services.published()
        if version is not None and version not in known.knowledge.policies:
            versions = ", ".join(map(str, sorted(known.knowledge.policies))) or "none"
            raise ApiError("not_found", f"this policy version was never published; published: {versions}")
        recorded: list[Future[None]] = []
        with ThreadPoolExecutor(1, "look") as beside:
            # The connection is given back before the look is waited for, which needs one as well.
            with self._services.clickhouse.client() as client:
                found = subject_lineage(
                    client,
                    alias,
                    as_of,
                    every_revision,
                    known.knowledge if consents else None,
                    lambda subject: recorded.append(beside.submit(look, subject)),
                )
            for one in recorded:
                one.result()
        return found if version is None else under_policy(found, known.knowledge, version)

    def background(self, lineage: Lineage, alias: bytes, as_of: int | None = None) -> Background:
        """What stands beside a lineage in a report. as_of: ms."""
        known, now = self._services.published(), round(self._services.clock() * 1000)
        operator = self._services.operator()
        with self._services.clickhouse.client() as client:
            return background_of(client, alias, lineage, known.policies, known.recipients, operator, now, as_of)
