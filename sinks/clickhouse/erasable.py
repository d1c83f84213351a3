"""The register of every table and column, and of what becomes of a person's data there when the person is erased.

Frozen data. A test compares it with the columns of a migrated database: what is not registered fails it. For topics,
the same stands in the catalogue (streams/topics.py). Never a place that nobody has thought about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Erased:
    """A table whose rows about a person go. key: the column that says whose a row is. how: what removes them.

    purged: by `purge.purge`, which counts survivors here; else by what `how` says. columns: all of them.
    emptied: of a table whose rows stay, as evidence of something else, the columns that are emptied, the key among
    them; none: the rows go as a whole.
    """

    key: str
    how: str
    columns: frozenset[str]
    purged: bool
    emptied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exempt:
    """A table that keeps its rows, and why that is right. columns: all of them."""

    reason: str
    columns: frozenset[str]


@dataclass(frozen=True)
class Shown:
    """A view: it holds no rows, and shows those of tables that are registered here. columns: all of them."""

    tables: frozenset[str]
    columns: frozenset[str]


def _columns(names: str) -> frozenset[str]:
    return frozenset(names.split())


PLACES: Mapping[str, Erased | Exempt | Shown] = {
    "lineage": Erased(
        key="subject",
        how="a mutation deletes the rows of a batch of subjects, and builds the projection by_day again without them",
        purged=True,
        columns=_columns(
            """subject occurred_at event_id activity event_type discloser recipient recipient_kind
            recipient_effective_at purpose given_purpose data_categories given_categories fields region
            storage_country collected_at legal_order consent_action consent_version consent_activity age_band
            guardian_granted erasure_phase request_id verdict clauses legal_basis findings policy_version sensitive
            revision judged_at source kafka_partition kafka_offset"""
        ),
    ),
    "subjects": Erased(
        key="subject",
        how="a mutation deletes the links to a batch of subjects, older versions too; one that is told late goes as "
        "soon as the erasure of its alias is told (links). The row that says `erased` stays: an alias and no subject, "
        "as in the topic subject-state, so that a link told again cannot count",
        purged=True,
        columns=_columns("alias subject version updated_at"),
    ),
    "looks": Erased(
        key="subject",
        how="a mutation empties at whom the look was, and the reason, whose words may name the person; that there was "
        "a look, by whom and when, stays: it leads to nobody then",
        purged=True,
        emptied=("subject", "reason"),
        columns=_columns("look_id at client role operation people subject reason subject_matter"),
    ),
    "erasing": Erased(
        key="alias",
        how="a mutation deletes the rows of requests that have ended (requests)",
        purged=False,
        columns=_columns("alias request_id"),
    ),
    "erase_batch": Erased(
        key="subject",
        how="the purge drops the batch as a whole, when it is done",
        purged=False,
        columns=_columns("batch subject made_at"),
    ),
    "erasure_requests": Exempt(
        reason="it proves what was done, and holds neither alias nor subject: without the table `erasing`, whose rows "
        "go when a request ends, its request id leads to nobody",
        columns=_columns(
            """request_id version state origin regulation received_at verified_at due_at next_at erased_at ended_at
            hold ground joined targets.id targets.hop targets.state targets.grade targets.protocol targets.attempts
            targets.ended_at targets.detail targets.ground alarms document updated_at"""
        ),
    ),
    "schema_migrations": Exempt(reason="names of files", columns=_columns("name sha256 applied_at")),
    "disclosures": Shown(
        tables=_columns("lineage"),
        columns=_columns(
            """event_id subject occurred_at activity discloser recipient recipient_kind purpose data_categories region
            collected_at verdict clauses findings legal_basis policy_version sensitive source revision judged_at"""
        ),
    ),
    "collections": Shown(
        tables=_columns("lineage"),
        columns=_columns(
            """event_id subject occurred_at event_type fields data_categories purpose region storage_country verdict
            clauses findings legal_basis policy_version sensitive source revision judged_at"""
        ),
    ),
    "violations": Shown(
        tables=_columns("lineage"),
        columns=_columns(
            """event_id subject occurred_at activity discloser recipient clause reasons purpose data_categories
            policy_version revision judged_at"""
        ),
    ),
    "consents": Shown(
        tables=_columns("lineage"),
        columns=_columns(
            """event_id subject occurred_at action policy_version age_band guardian_granted activity purpose recipient
            data_categories source recorded_at"""
        ),
    ),
    "consent_intervals": Shown(
        tables=_columns("lineage"),
        columns=_columns(
            """subject kind since until given policy_version age_band activity purpose recipient data_categories
            event_id"""
        ),
    ),
    "recipient_reach": Shown(
        tables=_columns("lineage"),
        columns=_columns("recipient people people_direct people_onward disclosures first_at last_at"),
    ),
    "daily_counts": Shown(
        tables=_columns("lineage"),
        columns=_columns("day activity recipient purpose verdict clauses events"),
    ),
    "erasures": Shown(
        tables=_columns("erasure_requests"),
        columns=_columns(
            """request_id state origin regulation received_at verified_at due_at erased_at ended_at hold ground joined
            alarms"""
        ),
    ),
    "erasure_targets": Shown(
        tables=_columns("erasure_requests"),
        columns=_columns(
            """request_id target own_store hop state grade protocol attempts received_at verified_at due_at ended_at
            detail ground"""
        ),
    ),
    "looks_taken": Shown(
        tables=_columns("looks"),
        columns=_columns("look_id at client role operation people subject reason subject_matter"),
    ),
}
"""Table or view → what becomes of it."""


def purged_places() -> dict[str, Erased]:
    """The tables that a purge deletes from, or empties columns of, in the order in which it does."""
    return {name: place for name, place in PLACES.items() if isinstance(place, Erased) and place.purged}
