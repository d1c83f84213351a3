"""What the erasure controller asks of ClickHouse, and the projection of its requests, on the real engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import polars as pl
import pytest
from clickhouse_driver import Client

from processors.coded import MISSING_TIME, CodedRows
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect, execute
from sinks.clickhouse.erasures import (
    Disclosed,
    Marker,
    aliases_of_subjects,
    disclosures,
    erasure_request,
    erasure_requests,
    insert_erasure_states,
    markers,
    new_disclosures,
    open_request_of,
    subjects_of_aliases,
)
from sinks.clickhouse.insert import insert_lineage, insert_subjects
from sinks.clickhouse.purge import purge_stale
from sinks.clickhouse.rows import lineage_rows

JANUARY = 1_767_225_600_000
DAY = 86_400_000
A, B, C = (UUID(int=0xA0A1A2A3A4A5A6A7A8A9AAABACADAE00 + n) for n in range(3))


@pytest.fixture
def client(clickhouse: Any) -> Iterator[Client]:
    connected = connect(clickhouse.database().url)
    migrate.apply(connected)
    yield connected
    connected.disconnect()


def ids(values: list[UUID]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(value.bytes for value in values), dtype=np.uint8).reshape(-1, 16)


def insert(client: Client, kind: str, rows: list[tuple[UUID, int, int, int]], shape: dict[str, Any]) -> None:
    """Rows (subject, time, partition, offset) of one shape."""
    columns: dict[str, Any] = {
        "subject": ids([row[0] for row in rows]),
        "event_id": ids([uuid4() for _ in rows]),
        "occurred_at": np.array([row[1] for row in rows]),
        "judged_at": np.array([row[1] for row in rows]),
        "revision": np.zeros(len(rows), np.int64),
        "kafka_partition": np.array([row[2] for row in rows]),
        "kafka_offset": np.array([row[3] for row in rows]),
    }
    if kind == "DisclosureRecorded":
        columns["collected_at"] = np.full(len(rows), MISSING_TIME)
    if "request_id" in shape:
        columns["request_id"] = ids([shape.pop("request_id")] * len(rows))
    coded = CodedRows(columns, np.zeros(len(rows), np.int32), pl.DataFrame([shape]))
    insert_lineage(client, lineage_rows(kind, coded), str(uuid4()))


def disclose(client: Client, rows: list[tuple[UUID, int, int, int]], **fields: Any) -> None:
    shape = {"activity": "share", "discloser": "self", "recipient": "r", "verdict": "lawful", **fields}
    insert(client, "DisclosureRecorded", rows, shape)


def mark(client: Client, subject: UUID, request_id: UUID, phase: str, partition: int, offset: int) -> None:
    insert(
        client, "ErasureRecorded", [(subject, JANUARY, partition, offset)], {"phase": phase, "request_id": request_id}
    )


def link(client: Client, *links: tuple[bytes, UUID, int]) -> None:
    insert_subjects(
        client,
        np.frombuffer(b"".join(alias for alias, _, _ in links), np.uint8).reshape(-1, 16),
        ids([subject for _, subject, _ in links]),
        np.array([version for _, _, version in links], np.uint64),
        str(uuid4()),
    )


def target(id_: str = "r", **fields: Any) -> dict[str, Any]:
    """An ErasureTarget as the deserializer gives it."""
    return {
        "id": id_, "hop": 1, "state": "waiting", "grade": "none", "protocol": "opendsr", "round": 0, "attempts": 0,
        "next_at": None, "dispatched_at": None, "ended_at": None, "disclosed_at": None, "detail": "", "ground": "",
        "reference": "", "evidence": [], "claimed_at": None,
    } | fields  # fmt: skip


def erasure_state(request_id: UUID, **fields: Any) -> dict[str, Any]:
    """An ErasureState as the deserializer gives it."""
    return {
        "request_id": request_id.bytes, "version": 1, "state": "awaiting", "alias": None, "subject": None,
        "origin": "person", "regulation": "pipl", "requester": "", "verified_by": "", "received_at": JANUARY,
        "verified_at": None, "due_at": None, "next_at": None, "hold": "", "ground": "", "joined": None,
        "fence_partition": None, "fence_offset": None, "erased_at": None, "ended_at": None, "targets": [],
        "alarms": [], "history": [], "callbacks": [], "certificate": "",
    } | fields  # fmt: skip


def test_aliases_and_subjects_by_the_newest_link(client: Client) -> None:
    # Trailing zeros: what compares identifiers as text would lose them.
    erased, moved, steady, unknown = (bytes([n]) * 15 + b"\0" for n in range(1, 5))
    link(client, (erased, A, 1), (moved, A, 2), (steady, C, 3))
    link(client, (moved, B, 8), (erased, UUID(int=0), 9))
    assert subjects_of_aliases(client, [erased, moved, steady, unknown]) == {moved: B, steady: C}
    assert aliases_of_subjects(client, [A, B, C]) == {B: moved, C: steady}
    assert subjects_of_aliases(client, []) == {} == aliases_of_subjects(client, [])


def test_markers_are_found_where_they_stand_first(client: Client) -> None:
    first, second, missing = uuid4(), uuid4(), uuid4()
    mark(client, A, first, "requested", 3, 70)
    mark(client, A, first, "requested", 3, 50)
    mark(client, A, first, "completed", 3, 90)
    mark(client, B, second, "requested", 4, 10)
    wanted = {first: A, second: A, missing: C}
    assert markers(client, wanted, "requested") == {first: Marker(3, 50)}, "second is B's"
    assert markers(client, wanted, "completed") == {first: Marker(3, 90)}
    assert markers(client, {}, "completed") == {}


def test_disclosures_are_grouped_whatever_their_verdict_or_activity(client: Client) -> None:
    disclose(client, [(A, JANUARY, 1, 5), (A, JANUARY + DAY, 1, 9)])
    disclose(client, [(A, JANUARY + 2 * DAY, 1, 7)], verdict="violation", recipient="r")
    disclose(client, [(A, JANUARY, 1, 8)], discloser="r", recipient="s", activity="transfer")
    disclose(client, [(A, JANUARY, 1, 6)], recipient=None, activity="publish", verdict="gap")
    disclose(client, [(B, JANUARY, 2, 1), (C, JANUARY, 2, 2)])
    insert(client, "CollectionRecorded", [(A, JANUARY, 1, 4)], {"verdict": "lawful", "event_type": "e"})
    mark(client, A, uuid4(), "requested", 1, 3)
    of_a = [
        Disclosed(A, "r", "s", "transfer", JANUARY, JANUARY, 1, 1, 8),
        Disclosed(A, "self", "r", "share", JANUARY, JANUARY + 2 * DAY, 3, 1, 9),
        Disclosed(A, "self", None, "publish", JANUARY, JANUARY, 1, 1, 6),
    ]
    of_b = Disclosed(B, "self", "r", "share", JANUARY, JANUARY, 1, 2, 1)
    assert sorted(disclosures(client, [A]), key=repr) == sorted(of_a, key=repr)
    assert sorted(disclosures(client, [B, A]), key=repr) == sorted([*of_a, of_b], key=repr)
    assert disclosures(client, []) == []

    assert new_disclosures(client, {1: 9, 2: 0}, {1: 100, 2: 0}, [A, B]) == [
        Disclosed(A, "self", "r", "share", JANUARY + DAY, JANUARY + DAY, 1, 1, 9)
    ]
    assert new_disclosures(client, {1: 0, 2: 1}, {1: 5, 2: 2}, [A, B]) == [of_b], "until is not included"
    assert new_disclosures(client, {1: 0}, {2: 9}, [A, B]) == [], "a partition that is in only one"
    assert sum(d.rows for d in new_disclosures(client, {1: 0, 2: 0}, {1: 100, 2: 100}, [A, B, C])) == 7


def test_a_look_at_few_new_rows_passes_over_the_old_ones(client: Client) -> None:
    """By the index on Kafka's coordinates: what the engine read is told by it."""
    execute(client, "SYSTEM STOP MERGES lineage")
    people = [uuid4() for _ in range(5000)]
    for start in range(0, 50_000, 5000):
        disclose(client, [(person, JANUARY, n % 4, start + n) for n, person in enumerate(people)])
    since, until = {n: 49_990 for n in range(4)}, {n: 50_000 for n in range(4)}
    found = new_disclosures(client, since, until, people)
    assert sum(d.rows for d in found) == 10
    assert client.last_query.profile_info.rows == 10
    progress = client.last_query.progress
    assert progress.rows <= 5000 + len(people) * 2, "one part of ten, and those that were asked for"


def test_a_hundred_thousand_people_are_asked_for_at_once(client: Client) -> None:
    people = [uuid4() for _ in range(100_000)]
    disclose(client, [(person, JANUARY, 0, n) for n, person in enumerate(people[:1000])])
    start = time.monotonic()
    assert len(disclosures(client, people)) == 1000
    assert len(new_disclosures(client, {0: 500}, {0: 1000}, people)) == 500
    assert len(markers(client, {uuid4(): person for person in people}, "requested")) == 0
    assert time.monotonic() - start < 20


def test_ids_stand_in_no_query(client: Client) -> None:
    """What the driver sends as the query's text is what a server keeps in its log."""
    sent: list[str] = []
    original = client.connection.send_query

    def send(query: str, *args: Any, **kwargs: Any) -> Any:
        sent.append(query)
        return original(query, *args, **kwargs)

    client.connection.send_query = send
    alias = bytes(range(16))
    link(client, (alias, A, 1))
    disclose(client, [(A, JANUARY, 0, 0)])
    assert subjects_of_aliases(client, [alias])
    assert aliases_of_subjects(client, [A])
    assert disclosures(client, [A])
    assert new_disclosures(client, {0: 0}, {0: 1}, [A])
    assert not markers(client, {B: A}, "requested")
    assert not open_request_of(client, alias)
    assert len(sent) == 8
    assert not [query for query in sent if str(A) in query or alias.hex() in query.lower()]


# The projection


def test_a_request_is_its_newest_state(client: Client) -> None:
    request_id, other, alias = uuid4(), uuid4(), uuid4().bytes
    state = erasure_state(
        request_id,
        alias=alias,
        subject=A.bytes,
        due_at=JANUARY + 30 * DAY,
        targets=[target("x", hop=None, ended_at=JANUARY + 1, evidence=["ab"]), target("y", state="acknowledged")],
        history=[{"occurred_at": JANUARY, "text": "came in"}],
        callbacks=[{"url": "https://a.example", "request_id": other.bytes, "told": "", "attempts": 0, "next_at": None}],
        alarms=["late"],
    )
    insert_erasure_states(client, [state], [7], "a")
    insert_erasure_states(client, [erasure_state(request_id, alias=alias, state="received")], [3], "b")

    found = erasure_request(client, request_id)
    assert found is not None
    expected = {name: value for name, value in state.items() if name not in ("alias", "subject")}
    expected["request_id"] = str(request_id)
    expected["callbacks"] = [state["callbacks"][0] | {"request_id": str(other)}]
    assert found == expected
    assert open_request_of(client, alias) == found == erasure_requests(client)[0]
    assert open_request_of(client, uuid4().bytes) is None
    assert erasure_request(client, uuid4()) is None
    assert execute(
        client,
        """SELECT targets.id, targets.hop, targets.state, toUnixTimestamp64Milli(assumeNotNull(targets.ended_at[1])),
            toUnixTimestamp64Milli(assumeNotNull(due_at)), alarms FROM erasure_requests FINAL""",
    ) == [(["x", "y"], [None, 1], ["waiting", "acknowledged"], JANUARY + 1, JANUARY + 30 * DAY, ["late"])]

    insert_erasure_states(client, [erasure_state(request_id, state="completed", ended_at=JANUARY + DAY)], [8], "c")
    assert open_request_of(client, alias) is None
    assert purge_stale(client, "erasing") in (1, 2), "one request; its rows may have been merged already"
    assert execute(client, "SELECT count() FROM erasing") == [(0,)]
    assert purge_stale(client, "erasing") == 0


def test_requests_are_in_the_order_of_their_need(client: Client) -> None:
    now = round(time.time() * 1000)
    soon, later = now + 3 * DAY, now + 20 * DAY
    wanted = {
        "overdue": erasure_state(uuid4(), due_at=now - DAY, next_at=now + DAY),
        "stuck": erasure_state(uuid4(), due_at=soon, next_at=now - 2 * 3_600_000),
        "alarmed": erasure_state(uuid4(), due_at=soon + 1, alarms=["!"]),
        "stubborn": erasure_state(uuid4(), due_at=later, targets=[target(), target("s", attempts=5)]),
        "soon": erasure_state(uuid4(), due_at=soon, targets=[target(attempts=9, ended_at=now)]),
        "later": erasure_state(uuid4(), due_at=later, next_at=now - 1000),
        "unverified": erasure_state(uuid4(), state="received"),
        "ended last": erasure_state(uuid4(), state="completed", due_at=now - DAY, ended_at=now - 1),
        "ended first": erasure_state(uuid4(), state="refused", ended_at=now - 5),
    }
    names = {str(UUID(bytes=state["request_id"])): name for name, state in wanted.items()}
    states = list(wanted.values())[::-1]
    insert_erasure_states(client, states, range(len(states)), "all")

    def listed(**given: Any) -> list[str]:
        return [names[found["request_id"]] for found in erasure_requests(client, **given)]

    assert listed() == list(wanted)
    assert listed(open_only=True) == list(wanted)[:7]
    assert listed(limit=2) == ["overdue", "stuck"]
    assert listed(state="received") == ["unverified"]
    assert listed(state="refused", open_only=True) == []
