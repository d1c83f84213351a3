"""Who may be due for an erasure that nobody asked for, and what is known of them. Reads only, and decides nothing.

In two turns. A sieve for each cause, one query over the rows that tell of it, keeps everybody who is due, and few
others; then comes all that processors/erasure_births.py wants to know of those few, and it decides. People with an open
request never come into a sieve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from clickhouse_driver import Client

from processors.case import DAY_MS
from processors.consent import ConsentFact
from processors.erasure_births import Person, Transfer, kept_for
from processors.knowledge import Policy, View
from sinks.clickhouse.client import execute, external_table
from sinks.clickhouse.erasures import aliases_of_subjects

_JUDGED = "activity IN ('collect', 'share', 'transfer', 'publish')"
_ERASED = "(activity = 'erase' AND erasure_phase = 'completed')"
_UNTIL_NOW = "occurred_at <= fromUnixTimestamp64Milli(%(now)s, 'UTC')"
# What a cause arose at must not be later, so that its days have passed.
_ARISEN = "fromUnixTimestamp64Milli(%(arisen)s, 'UTC')"
_NOT_OPEN = """(%(open)s = 1 OR subject NOT IN
(
    SELECT subject FROM subjects WHERE alias IN
    (
        SELECT alias FROM erasing
        WHERE request_id IN (SELECT request_id FROM erasure_requests FINAL WHERE isNull(ended_at))
    )
))"""

# Of each person of whom something is on record what they said last, and when; 1970: never. Of two facts of one moment
# the younger band counts, and no guardian's consent (verdicts.md, "States at t").
_SAID = f"""
SELECT subject,
    maxIf(occurred_at, activity = 'erase') AS erased_at,
    maxIf(occurred_at, consent_action = 'leave') AS left_at,
    maxIf(occurred_at, consent_action = 'accept') AS accepted_at,
    maxIf(occurred_at, age_band IN %(bands)s) AS aged_at,
    argMaxIf(age_band, (occurred_at, indexOf(%(bands)s, age_band)), age_band IN %(bands)s) AS band,
    maxIf(occurred_at, consent_action = 'guardian') AS guarded_at,
    argMaxIf(guardian_granted, (occurred_at, NOT guardian_granted), consent_action = 'guardian') AS guarded,
    maxIf(occurred_at, consent_action = 'grant' AND consent_activity = 'use') AS granted_at,
    maxIf(occurred_at, consent_action = 'withdraw' AND consent_activity = 'use' AND purpose = '*') AS withdrawn_at
FROM lineage
WHERE (activity = 'consent' OR {_ERASED}) AND {_UNTIL_NOW}
  AND subject IN (SELECT subject FROM lineage WHERE {{something}} AND {_UNTIL_NOW})
  AND {_NOT_OPEN}
GROUP BY subject
"""
_SAID_YOUNG = _SAID.format(something="age_band IN ('14_17', 'under_14')")
_SAID_LEAVE = _SAID.format(something="consent_action = 'leave'")
_SAID_NO_USE = _SAID.format(something="consent_action = 'withdraw' AND consent_activity = 'use' AND purpose = '*'")
_MINORS = f"""
SELECT DISTINCT subject FROM lineage
WHERE {_JUDGED} AND {_UNTIL_NOW} AND subject IN
(
    SELECT subject FROM ({_SAID_YOUNG})
    WHERE aged_at > erased_at AND band != 'adult' AND NOT (guarded AND guarded_at > greatest(erased_at, left_at))
)
"""
_LEFT = f"""
SELECT subject FROM ({_SAID_LEAVE})
WHERE left_at > erased_at AND left_at >= accepted_at AND left_at <= {_ARISEN}
"""
# Whoever goes on with what needs no further consent has not withdrawn everything. Of one event the highest revision
# counts, and of equal ones the one recorded last.
_WITHDRAWN = f"""
WITH withdrawn AS
(
    SELECT subject, withdrawn_at FROM ({_SAID_NO_USE})
    WHERE withdrawn_at > greatest(erased_at, left_at) AND withdrawn_at >= greatest(accepted_at, granted_at)
      AND withdrawn_at <= {_ARISEN}
)
SELECT subject FROM withdrawn WHERE subject NOT IN
(
    SELECT subject FROM
    (
        SELECT subject, verdict, occurred_at FROM lineage
        WHERE activity = 'collect' AND {_UNTIL_NOW} AND subject IN (SELECT subject FROM withdrawn)
        ORDER BY revision DESC, kafka_partition DESC, kafka_offset DESC
        LIMIT 1 BY subject, event_id
    ) AS collected
    INNER JOIN withdrawn USING (subject)
    WHERE verdict = 'lawful' AND occurred_at > withdrawn_at
)
"""
_TRANSFERRED = f"""
SELECT DISTINCT subject FROM lineage
WHERE activity = 'transfer' AND recipient IN %(successors)s AND verdict = 'violation'
  AND occurred_at <= {_ARISEN} AND {_NOT_OPEN}
"""
_SHAPES = """
SELECT cityHash64(ifNull(purpose, ''), data_categories) AS shape, any(purpose), any(data_categories) FROM lineage
WHERE activity = 'collect' GROUP BY shape
"""
# First by time alone, which most people do not pass. Of an event the highest revision counts; few have any but 0.
_EXPIRED = f"""
SELECT subject, max(toUnixTimestamp64Milli(occurred_at) + days * {DAY_MS}) AS kept_until FROM
(
    SELECT subject, event_id, occurred_at, revision,
        transform(cityHash64(ifNull(purpose, ''), data_categories), %(shapes)s, %(days)s, toInt64(-1)) AS days
    FROM lineage
    WHERE activity = 'collect' AND subject IN
    (
        SELECT subject FROM lineage WHERE activity = 'collect' AND {_NOT_OPEN}
        GROUP BY subject HAVING max(occurred_at) < fromUnixTimestamp64Milli(%(quiet)s, 'UTC')
    )
) AS collected
LEFT ANY JOIN
(
    SELECT subject, event_id, max(revision) AS highest FROM lineage WHERE activity = 'collect' AND revision > 0
    GROUP BY subject, event_id
) AS revised USING (subject, event_id)
WHERE revision = highest
GROUP BY subject HAVING min(days) >= 0 AND kept_until < %(arisen)s
"""

# Copies of a fact are one fact, and the first one counts.
_FACTS = f"""
SELECT subject, event_id, toUnixTimestamp64Milli(occurred_at), consent_action, consent_version, age_band,
    guardian_granted, consent_activity, purpose, recipient, data_categories
FROM lineage
WHERE subject IN (SELECT subject FROM asked) AND (activity = 'consent' OR {_ERASED})
ORDER BY kafka_offset
LIMIT 1 BY subject, event_id
"""
_EVENTS = f"""
SELECT subject, toUnixTimestamp64Milli(min(occurred_at)),
    toUnixTimestamp64Milli(maxOrNullIf(occurred_at, activity = 'collect' AND verdict = 'lawful')),
    groupArrayIf(
        (assumeNotNull(recipient), purpose, data_categories, toUnixTimestamp64Milli(occurred_at)),
        activity = 'transfer' AND isNotNull(recipient) AND arrayExists(f -> endsWith(f, ' no_pledge'), findings))
FROM
(
    SELECT subject, activity, verdict, recipient, purpose, data_categories, findings, occurred_at FROM lineage
    WHERE subject IN (SELECT subject FROM asked) AND {_JUDGED} AND {_UNTIL_NOW}
    ORDER BY revision DESC, kafka_partition DESC, kafka_offset DESC
    LIMIT 1 BY subject, event_id
)
GROUP BY subject
"""
_KNOWN_REQUESTS = "SELECT DISTINCT request_id FROM erasure_requests WHERE request_id IN (SELECT request_id FROM asked)"

_WAITING = """
SELECT request_id, hex(alias), origin FROM erasing INNER JOIN
(
    SELECT request_id, origin FROM erasure_requests FINAL
    WHERE state = 'received' AND origin IN %(causes)s
      AND received_at <= fromUnixTimestamp64Milli(%(until)s, 'UTC')
      AND JSONExtractString(document, 'requester') = %(requester)s
) AS waiting USING (request_id)
"""

_SETTINGS: Mapping[str, Any] = {
    "select_sequential_consistency": 1,
    "max_execution_time": 0,
    "max_query_size": 1 << 22,
    # The table is in the order of subjects: a person's rows lie together, and memory holds one at a time.
    "optimize_aggregation_in_order": 1,
    "max_bytes_before_external_sort": 1 << 30,
    "max_bytes_before_external_group_by": 1 << 30,
}
_BANDS = ["adult", "14_17", "under_14"]


def candidates(client: Client, cause: str, view: View, now: int, with_open: bool = False) -> dict[UUID, int | None]:
    """Everybody who is due for a cause at `now` (ms), and few others: subject → how long all that was collected of them
    is kept (ms; the cause `retention` only).

    view: what is known at `now`. Nobody, if its policy does not name the cause. with_open: also those whose erasure is
    open already. Raises ClickHouseError.
    """
    policy = view.policy
    if policy is None or cause not in policy.erasure:
        return {}
    arisen = now - policy.erasure[cause].after_days * DAY_MS
    given = {"now": now, "arisen": arisen, "bands": _BANDS, "open": int(with_open)}
    if cause == "retention":
        return _expired(client, policy, arisen, with_open)
    if cause == "merger":
        given["successors"] = view.unpledged_successors()
        if not given["successors"]:
            return {}
    rows = execute(client, _SIEVES[cause], given, **_SETTINGS)
    return dict.fromkeys(subject for (subject,) in rows)


_SIEVES: Mapping[str, str] = {"minor": _MINORS, "merger": _TRANSFERRED, "leave": _LEFT, "withdrawal": _WITHDRAWN}


def _expired(client: Client, policy: Policy, arisen: int, with_open: bool) -> dict[UUID, int | None]:
    kept = [(shape, kept_for(policy, purpose, categories)) for shape, purpose, categories in execute(client, _SHAPES)]
    limited = [(shape, days) for shape, days in kept if days is not None]
    if not limited:
        return {}
    given = {
        "shapes": [shape for shape, _ in limited],
        "days": [days for _, days in limited],
        "arisen": arisen,
        "open": int(with_open),
        "quiet": arisen - min(days for _, days in limited) * DAY_MS,
    }
    return dict(execute(client, _EXPIRED, given, **_SETTINGS))


def people(client: Client, found: Mapping[UUID, int | None], now: int) -> list[Person]:
    """What is known of them at `now` (ms), in the order given; who is erased, or never was, is left out.

    found: some of what `candidates` gave. Raises ClickHouseError.
    """
    aliases = aliases_of_subjects(client, list(found))
    asked = [external_table("asked", {"subject": "UUID"}, [(subject,) for subject in aliases])]
    if not aliases:
        return []
    facts: dict[UUID, list[ConsentFact]] = {}
    erased: dict[UUID, list[int]] = {}
    for subject, event_id, at, action, *content in execute(client, _FACTS, {}, asked, **_SETTINGS):
        if action == "none":
            erased.setdefault(subject, []).append(at)
        else:
            facts.setdefault(subject, []).append(_fact(event_id, at, action, content))
    events = {subject: rest for subject, *rest in execute(client, _EVENTS, {"now": now}, asked, **_SETTINGS)}
    told = []
    for subject in found:
        if subject not in aliases:
            continue
        first, last_lawful, transfers = events.get(subject, (None, None, ()))
        told.append(
            Person(
                alias=aliases[subject],
                subject=subject,
                facts=tuple(facts.get(subject, ())),
                erased=tuple(erased.get(subject, ())),
                first_event=first,
                last_lawful=last_lawful,
                transfers=tuple(Transfer(r, p, tuple(categories), at) for r, p, categories, at in transfers),
                kept_until=found[subject],
            )
        )
    return told


def _fact(event_id: UUID, at: int, action: str, content: Sequence[Any]) -> ConsentFact:
    version, band, granted, activity, purpose, recipient, categories = content
    return ConsentFact(
        event_id.bytes, at, action, version or None, band, granted, activity, purpose, recipient, tuple(categories)
    )


def waiting_requests(
    client: Client, causes: Sequence[str], requester: str, until: int
) -> list[tuple[UUID, bytes, str]]:
    """(request id, alias, cause) of those that `requester` opened by `until` (ms) and nobody has verified since.

    Raises ClickHouseError.
    """
    given = {"causes": list(causes), "requester": requester, "until": until}
    rows = execute(client, _WAITING, given, **_SETTINGS)
    return [(request_id, bytes.fromhex(alias), cause) for request_id, alias, cause in rows]


def known_requests(client: Client, request_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the requests that there are already, open or ended. Raises ClickHouseError."""
    if not request_ids:
        return set()
    asked = [external_table("asked", {"request_id": "UUID"}, [(request_id,) for request_id in request_ids])]
    return {request_id for (request_id,) in execute(client, _KNOWN_REQUESTS, {}, asked, **_SETTINGS)}
