"""Judged events and the facts about their people, as the workflow needs them to judge again. Reads only.

All that is asked for lies in a *prefix of the log*: one partition, below an offset that the loader has passed. Events
and facts are then those of one moment, though they are asked for one after the other. What repeats from event to event
comes as one dictionary-coded column, so that Python sees each combination once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import orjson
from clickhouse_driver import Client

from processors.coded import MISSING_TIME
from processors.consent import ConsentFact
from sinks.clickhouse.errors import sorted_errors

Ints = npt.NDArray[np.int64]

_JUDGED = "activity IN ('collect', 'share', 'transfer', 'publish')"
# Names of the records' fields (schemas/avro) → the columns that hold them.
_SHAPE = {
    "activity": "activity",
    "event_type": "event_type",
    "discloser": "discloser",
    "recipient": "recipient",
    "purpose": "given_purpose",
    "categories": "given_categories",
    "fields": "fields",
    "region": "region",
    "storage_country": "storage_country",
    "order": "legal_order",
    "source": "source",
    "tagged_purpose": "purpose",
    "tagged_categories": "data_categories",
    "verdict": "verdict",
    "clauses": "clauses",
    "legal_basis": "legal_basis",
    "findings": "findings",
    "policy_version": "nullIf(policy_version, 0)",
    "recipient_kind": "recipient_kind",
    "recipient_effective_at": "toUnixTimestamp64Milli(recipient_effective_at)",
    "sensitive": "sensitive",
}
_ID_HALVES = ", ".join(
    f"reinterpretAsUInt64(substring(UUIDToNum({name}), {start}, 8))"
    for name in ("subject", "event_id")
    for start in (1, 9)
)
# The highest revision counts, and of equal ones the one recorded last.
_EVENTS = f"""
SELECT {_ID_HALVES},
    toUnixTimestamp64Milli(occurred_at),
    ifNull(toUnixTimestamp64Milli(collected_at), {MISSING_TIME}),
    revision,
    toLowCardinality(toJSONString(tuple({", ".join(_SHAPE.values())})))
FROM
(
    SELECT * FROM lineage
    WHERE kafka_partition = %(partition)s AND kafka_offset < %(end)s AND {_JUDGED}
      AND occurred_at >= fromUnixTimestamp64Milli(%(since)s, 'UTC')
      AND occurred_at < fromUnixTimestamp64Milli(%(until)s, 'UTC')
      AND {{scope}}
    ORDER BY revision DESC, kafka_offset DESC
    LIMIT 1 BY subject, event_id
)
WHERE kafka_offset < %(before)s
"""
# Copies of a fact are one fact, and the first one counts: the tagger knows it by its id from then on.
_FACTS = """
SELECT subject, event_id, toUnixTimestamp64Milli(occurred_at), consent_action, consent_version, age_band,
    guardian_granted, consent_activity, purpose, recipient, data_categories
FROM lineage
WHERE kafka_partition = %(partition)s AND kafka_offset < %(end)s
  AND (activity = 'consent' OR (activity = 'erase' AND erasure_phase = 'completed'))
  AND {scope}
ORDER BY kafka_offset
LIMIT 1 BY subject, event_id
"""
_MONTHS = f"""
SELECT toYYYYMM(occurred_at), kafka_partition, count() FROM lineage
WHERE {_JUDGED}
  AND occurred_at >= fromUnixTimestamp64Milli(%(since)s, 'UTC')
  AND occurred_at < fromUnixTimestamp64Milli(%(until)s, 'UTC')
  AND {{scope}}
GROUP BY 1, 2 ORDER BY 1, 2
"""
_SETTINGS = {
    "select_sequential_consistency": 1,
    "output_format_json_quote_64bit_integers": 0,
    "max_bytes_before_external_sort": 1 << 30,
    "max_execution_time": 0,
}
BEGINNING, END_OF_TIME = 0, 4_102_444_800_000


@dataclass(frozen=True)
class Scope:
    """Which events: of `subjects` (None: of all), to or by `recipients` (None: whoever), those of the slice
    `slice` = (i, n) of all subjects; occurred from `since` until before `until` (ms)."""

    subjects: tuple[bytes, ...] | None = None
    recipients: tuple[str, ...] | None = None
    slice: tuple[int, int] | None = None
    since: int = BEGINNING
    until: int = END_OF_TIME

    def sql(self, of_facts: bool = False) -> tuple[str, dict[str, Any]]:
        """A condition and its parameters; `of_facts`: on the people only."""
        conditions, given = ["1"], dict[str, Any]()
        if self.subjects is not None:
            conditions.append("subject IN %(subjects)s")
            given["subjects"] = [UUID(bytes=subject) for subject in self.subjects]
        if self.slice is not None and self.slice[1] > 1:
            conditions.append("cityHash64(subject) %% %(slices)s = %(slice)s")
            given["slice"], given["slices"] = self.slice
        if self.recipients is not None and not of_facts:
            conditions.append("(recipient IN %(recipients)s OR discloser IN %(recipients)s)")
            given["recipients"] = list(self.recipients)
        return " AND ".join(conditions), given | {"since": self.since, "until": self.until}


@dataclass(frozen=True)
class JudgedEvents:
    """`n` events with the verdicts that count. `subjects`, `event_ids`: uint8[n, 16]; times in ms, `MISSING_TIME`:
    none; `codes`: of each event the number of its shape; `shapes`: the other fields of its record, by name."""

    subjects: npt.NDArray[np.uint8]
    event_ids: npt.NDArray[np.uint8]
    occurred_at: Ints
    collected_at: Ints
    revision: Ints
    codes: npt.NDArray[np.int32]
    shapes: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.codes)


@dataclass
class Facts:
    """What is known of one person: consents, and when erasures were completed (ms)."""

    consents: list[ConsentFact] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)


def judged_events(client: Client, scope: Scope, partition: int, end: int, before: int | None = None) -> JudgedEvents:
    """Each event of the scope in the prefix [0, `end`) of a partition, once; `before`: only those whose verdict that
    counts was recorded before that offset. Raises ClickHouseError."""
    condition, given = scope.sql()
    given |= {"partition": partition, "end": end, "before": end if before is None else before}
    with sorted_errors():
        columns = client.execute(_EVENTS.format(scope=condition), given, columnar=True, settings=_SETTINGS)
    if not columns:
        none = np.zeros(0, np.int64)
        no_ids = np.zeros((0, 16), np.uint8)
        return JudgedEvents(no_ids, no_ids, none, none, none, none.astype(np.int32), [])
    numbers: dict[str, int] = {}
    codes = [numbers.setdefault(shape, len(numbers)) for shape in columns[7]]
    return JudgedEvents(
        _ids(columns[0], columns[1]),
        _ids(columns[2], columns[3]),
        np.array(columns[4], np.int64),
        np.array(columns[5], np.int64),
        np.array(columns[6], np.int64),
        np.array(codes, np.int32),
        [dict(zip(_SHAPE, orjson.loads(shape), strict=True)) for shape in numbers],
    )


def _ids(first: Sequence[int], second: Sequence[int]) -> npt.NDArray[np.uint8]:
    return np.array([first, second], "<u8").T.copy().view(np.uint8).reshape(-1, 16)


def facts_of_people(client: Client, scope: Scope, partition: int, end: int) -> dict[bytes, Facts]:
    """Subject → facts in the prefix [0, `end`) of a partition, whatever their time. Raises ClickHouseError."""
    condition, given = scope.sql(of_facts=True)
    people: dict[bytes, Facts] = {}
    with sorted_errors():
        rows: Iterable[tuple[Any, ...]] = client.execute_iter(
            _FACTS.format(scope=condition), given | {"partition": partition, "end": end}, settings=_SETTINGS
        )
        for subject, event_id, time, action, version, band, granted, activity, purpose, recipient, categories in rows:
            facts = people.setdefault(subject.bytes, Facts())
            if action == "none":
                facts.erased.append(time)
                continue
            facts.consents.append(
                ConsentFact(
                    event_id.bytes, time, action, version or None, band, granted, activity, purpose, recipient,
                    tuple(categories),
                )
            )  # fmt: skip
    return people


def months_of_events(client: Client, scope: Scope) -> list[tuple[int, int, int]]:
    """(yyyymm, partition, rows) of a scope: how much there is to judge again. Raises ClickHouseError."""
    condition, given = scope.sql()
    with sorted_errors():
        return list(client.execute(_MONTHS.format(scope=condition), given, settings=_SETTINGS))
