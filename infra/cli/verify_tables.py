"""The part of `lineage verify` about `subjects` and `erasure_requests`: each against the topic it comes from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from infra.cli.options import table
from infra.settings import Settings

if TYPE_CHECKING:
    from clickhouse_driver import Client

    from audit.projection_check import ProjectionCheck

# A request's document is long, and a table for people has lines.
_SHOWN = 60


def check_tables(
    settings: Settings, client: Client, purged: Collection[bytes], progress: Callable[[str, int], None]
) -> list[ProjectionCheck]:
    """Compares both. `purged`: subjects of whom nothing may be left; it was known before this is called."""
    from audit.projection_check import check_projection
    from sinks.clickhouse.projected_rows import ERASURE_REQUESTS, SUBJECTS, ProjectedRows
    from streams.compacted_topic import CompactedTopic
    from streams.projections import Links, Requests

    kafka, registry = settings.kafka(), settings.registry()
    found = []
    for projection, place in ((Links, SUBJECTS), (Requests, ERASURE_REQUESTS)):
        topic = CompactedTopic(kafka, projection(client, registry))
        shown = partial(progress, place.table)
        found.append(check_projection(topic, ProjectedRows(client, place), purged, shown))
    return found


def differing(found: Iterable[ProjectionCheck]) -> int:
    """How many rows differ, in all of them."""
    return sum(one.different.total() for one in found)


def tables_answer(found: Iterable[ProjectionCheck]) -> dict[str, Any]:
    """What `lineage verify` answers about them (docs/verify.md), by table."""
    return {one.table: _answer(one) for one in found}


def _answer(found: ProjectionCheck) -> dict[str, Any]:
    return {
        "topic": found.topic,
        "checked": found.checked,
        "waiting": found.waiting,
        "different": found.different.total(),
        "by_kind": dict(found.different),
        "differences": [
            {
                "kind": one.kind,
                found.key: one.key.hex(),
                "version": one.version,
                "columns": {
                    name: {"stored": plain(stored), "topic": plain(told)}
                    for name, (stored, told) in one.columns.items()
                },
            }
            for one in found.differences
        ],
    }


def tables_lines(found: Sequence[ProjectionCheck], limit: int) -> Iterable[str]:
    """Lines for people."""
    for one in found:
        waiting = [f"{one.waiting:,} not projected yet"] if one.waiting else []
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in one.different.items()) or "no differences"
        yield "; ".join([f"{one.table}: {one.checked:,} compared with the topic {one.topic}", *waiting, kinds])
        if one.differences[:limit]:
            rows = [[d.key.hex(), str(d.version), d.kind, _changes(d.columns)] for d in one.differences[:limit]]
            yield from table(rows, [one.key, "version", "what", "in the table, and in the topic"])


def plain(value: Any) -> Any:
    """A value of the table for JSON."""
    return value if value is None or isinstance(value, bool | int | str) else _listed(value)


def _listed(value: Any) -> Any:
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else str(value)


def _changes(columns: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name}: {_short(stored)} ≠ {_short(told)}" for name, (stored, told) in columns.items()) or "-"


def _short(value: Any) -> str:
    said = str(plain(value))
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"
