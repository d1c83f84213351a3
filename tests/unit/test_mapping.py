"""Mappings: every row becomes events or a rejection, the same every time, and nothing personal gets out."""

import copy
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import schema_dir
from streams.documents import DocumentError
from streams.serdes import Deserializer, Serializer
from streams.sources.encoding import Encoder
from streams.sources.events import EVENTS, LATEST_MS, Mapped
from streams.sources.mapping import Mapper, Position, Rejection, load_mapping, read_mapping
from streams.sources.readers import FileReader

PEPPER = bytes(range(32))
EXAMPLES = schema_dir() / "mappings" / "examples"
SHIPPED = ["jsonl", "mobile-consent-dialogs", "rudderstack"]

MINIMAL = """
name: test
input: {format: jsonl}
user_id: [user, device]
time: {path: at}
records:
  - to: telemetry
    event_type: event
"""


def mapper(text: str) -> Mapper:
    return read_mapping(text).compile(PEPPER)


def with_record(record: str, head: str = "") -> Mapper:
    return mapper(f"name: test\ninput: {{format: jsonl}}\nuser_id: user\ntime: {{path: at}}\n{head}records:\n{record}")


def one(made: list[Mapped] | Rejection) -> Mapped:
    assert isinstance(made, list), made
    assert len(made) == 1
    return made[0]


def reason(made: list[Mapped] | Rejection) -> str:
    assert isinstance(made, Rejection), made
    return made.reason


ROW = {"user": "ada", "at": "2026-03-01T08:00:00Z", "event": "app_open"}
AT = Position(1)


def read_all(name: str, file: Path) -> tuple[list[Mapped], list[tuple[int, str]]]:
    mapping = load_mapping(name)
    compiled = mapping.compile(PEPPER)
    events: list[Mapped] = []
    refused: list[tuple[int, str]] = []
    for batch in FileReader(str(file), mapping).batches():
        for position, row in batch:
            made = row if isinstance(row, Rejection) else compiled.map_row(row, position)
            if isinstance(made, Rejection):
                refused.append((position.number, made.reason))
            else:
                events.extend(made)
    return events, refused


# The mappings that ship


def test_shipped_jsonl() -> None:
    events, refused = read_all("jsonl", EXAMPLES / "jsonl.jsonl")
    assert refused == [
        (5, "the user id is missing (user_id)"),
        (6, "`time` cannot be read as iso8601"),
        (7, "no rule matches"),
        (8, "not JSON"),
    ]
    accept, opened, shared, withdrawn = events
    assert accept.topic == "consent"
    assert accept.record()["version"] == 1
    assert opened.event_id == UUID("6f2b1f0e-3a52-4a7a-9d0c-2f6c2a1d7c11").bytes
    assert [identity.identity_value for identity in opened.identities] == ["ada@example.org"]
    assert opened.record()["fields"] == ("ip", "model")
    assert shared.record() == {
        "event_id": shared.event_id,
        "occurred_at": 1_772_323_209_250,  # 2026-03-01T00:00:09.250Z
        "collected_at": 1_769_904_000_000,
        "activity": "share",
        "discloser": "self",
        "recipient": "mapper-ltd",
        "purpose": "service",
        "categories": ("user.device",),
        "region": "CN",
        "order": None,
        "source": "jsonl",
    }
    assert withdrawn.record()["categories"] == ("*",)


def test_shipped_mobile_consent_dialogs() -> None:
    events, refused = read_all("mobile-consent-dialogs", EXAMPLES / "mobile-consent-dialogs.csv")
    assert refused == [
        (5, "`data_type` has a value that the map does not list"),
        (6, "the user id is missing (app_id)"),
    ]
    assert [(e.user_id, e.occurred_at, e.record()["recipient"], e.record()["categories"]) for e in events] == [
        ("org.example.notes", 1_622_505_602_000, "facebook", ("user.device.device_id",)),
        ("org.example.notes", 1_622_505_603_000, None, ("user.location.precise",)),
        ("org.example.torch", 1_622_505_604_000, "firebase", ("user.telemetry",)),
    ]
    assert {(e.topic, e.record()["activity"], e.record()["region"]) for e in events} == {("sharing", "share", "DE")}


def test_shipped_rudderstack() -> None:
    events, refused = read_all("rudderstack", EXAMPLES / "rudderstack.ndjson")
    assert refused == [(5, "the user id is missing (userId, anonymousId)")]
    told = [(e.user_id, e.record()["event_type"], e.record()["fields"]) for e in events]
    anonymous = "0b0f9d5c-7a55-4d31-8f0b-4f7a57a3a1c7"
    assert told == [
        (
            "ada",
            "Order Completed",
            (
                "advertising_id",
                "anonymous_id",
                "device_id",
                "device_type",
                "email",
                "ip",
                "order_id",
                "price",
                "unlisted",
                "user_id",
            ),
        ),
        ("ada", "identify", ("birthday", "first_name", "unlisted", "user_id")),
        (anonymous, "page", ("anonymous_id", "url")),
        ("ada", "track", ("user_id",)),
    ]
    # The advertising id of zeros names nobody.
    assert {(i.identity_type, i.identity_value) for i in events[0].identities} == {
        ("email", "ada@example.org"),
        ("controller_customer_id", anonymous),
        ("ios_vendor_id", "d-1"),
    }


@pytest.mark.parametrize("name", SHIPPED)
def test_the_same_input_gives_the_same_bytes_and_no_user_id(name: str) -> None:
    file = next(EXAMPLES.glob(f"{name}.*"))
    encoder = Encoder()
    first, _ = read_all(name, file)
    again, _ = read_all(name, file)
    values = [encoder.encode(event) for event in first]
    assert [Encoder().encode(event) for event in again] == values
    assert len({event.event_id for event in first}) == len(first)
    written = b"".join(values)
    for event in first:
        for personal in (event.user_id, *(identity.identity_value for identity in event.identities)):
            assert personal.encode() not in written


# Golden ids: a change here would make every later ingest of an old file a set of new events.


def test_derived_ids_are_fixed() -> None:
    assert one(mapper(MINIMAL).map_row(ROW, AT)).event_id.hex() == GOLDEN_BY_CONTENT
    by_id = mapper(MINIMAL + "event_id: id\n")
    assert one(by_id.map_row(ROW | {"id": "m-1"}, AT)).event_id.hex() == GOLDEN_BY_ID


GOLDEN_BY_CONTENT = "d54520ed8eab84508537567c5a935972"
GOLDEN_BY_ID = "bbab1203e8e88e7c83f910505d4b29b0"


def test_derived_ids_depend_on_content_position_user_and_pepper() -> None:
    compiled = mapper(MINIMAL)
    ids = {
        one(compiled.map_row(ROW, Position(1))).event_id,
        one(compiled.map_row(ROW, Position(2))).event_id,
        one(compiled.map_row(ROW, Position(1, 0))).event_id,
        one(compiled.map_row(ROW | {"more": 1}, Position(1))).event_id,
        one(read_mapping(MINIMAL).compile(PEPPER[::-1]).map_row(ROW, Position(1))).event_id,
    }
    assert len(ids) == 5
    reordered = dict(reversed(ROW.items()))
    assert one(compiled.map_row(reordered, Position(1))).event_id in ids


def test_a_retry_is_the_same_event_where_the_mapping_says_so() -> None:
    compiled = mapper(MINIMAL + "event_id: {without: [sent.at], position: false}\n")
    row = ROW | {"sent": {"at": 1, "by": "x"}}
    retried = copy.deepcopy(row) | {"sent": {"at": 2, "by": "x"}}
    other = copy.deepcopy(row) | {"sent": {"at": 1, "by": "y"}}
    first = one(compiled.map_row(row, Position(1))).event_id
    assert one(compiled.map_row(retried, Position(9))).event_id == first
    assert one(compiled.map_row(other, Position(1))).event_id != first
    assert row["sent"] == {"at": 1, "by": "x"}, "the row is not changed"


def test_given_ids() -> None:
    compiled = mapper(MINIMAL + "event_id: id\nidentities:\n  - {type: android_id, path: device}\n")
    uuid = "6F2B1F0E-3A52-4A7A-9D0C-2F6C2A1D7C11"
    assert one(compiled.map_row(ROW | {"id": uuid}, AT)).event_id == UUID(uuid).bytes
    # A UUID that is the user or their device would carry them into the log.
    assert one(compiled.map_row(ROW | {"id": uuid, "user": uuid.lower()}, AT)).event_id != UUID(uuid).bytes
    assert one(compiled.map_row(ROW | {"id": uuid, "device": uuid.lower()}, AT)).event_id != UUID(uuid).bytes
    counted = [one(compiled.map_row(ROW | {"id": 1, "user": user}, AT)).event_id for user in ("ada", "ben")]
    assert counted[0] != counted[1], "ids that count up for each user"
    assert one(compiled.map_row(ROW | {"id": 1, "event": "x"}, Position(7))).event_id == counted[0]
    assert reason(compiled.map_row(ROW | {"id": [1]}, AT)) == "the event id is neither text nor a whole number"


# What rows may hold


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"user": None}, "the user id is missing (user, device)"),
        ({"user": "  "}, "the user id is missing (user, device)"),
        ({"user": True}, "the user id is neither text nor a whole number"),
        ({"user": ["a"]}, "the user id is neither text nor a whole number"),
        ({"user": "\ud800"}, "the user id is not valid Unicode"),
        ({"at": ""}, "`time` is missing (at)"),
        ({"at": "2026-03-01T08:00:00"}, "`time` has no time zone: name it in the mapping (`zone`)"),
        ({"at": 5}, "`time` cannot be read as iso8601"),
        ({"at": "1969-12-31T23:59:59Z"}, "`time` is out of range: 1970 to 2099"),
        ({"at": "2100-01-01T00:00:00Z"}, "`time` is out of range: 1970 to 2099"),
        ({"event": None}, "`event_type` is missing"),
        ({"event": {}}, "`event_type` is not text"),
        ({"event": "x" * 257}, "`event_type` is longer than 256 characters"),
        ({"event": "a\nb"}, "`event_type` has control characters"),
        ({"event": "\udfff"}, "`event_type` is not valid Unicode"),
    ],
)
def test_rejections(row: dict[str, Any], expected: str) -> None:
    assert reason(mapper(MINIMAL).map_row(ROW | row, AT)) == expected


def test_the_first_path_with_a_value_counts() -> None:
    assert one(mapper(MINIMAL).map_row(ROW | {"user": "", "device": 7}, AT)).user_id == "7"


def test_paths() -> None:
    record = "  - to: telemetry\n    event_type: 'a.b\\.c.1.d'\n"
    row = ROW | {"a": {"b.c": [0, {"d": "found"}]}}
    assert one(with_record(record).map_row(row, AT)).record()["event_type"] == "found"


@pytest.mark.parametrize(
    ("time", "value", "expected"),
    [
        ("{path: at, format: epoch_ms}", 1_700_000_000_123, 1_700_000_000_123),
        ("{path: at, format: epoch_ms}", "1700000000123", 1_700_000_000_123),
        ("{path: at, format: epoch_s}", 1_700_000_000.5, 1_700_000_000_500),
        ("{path: at, format: epoch_s}", "1700000000", 1_700_000_000_000),
        ("{path: at}", "2023-11-14T22:13:20.123999Z", 1_700_000_000_123),
        ("{path: at}", "2023-11-15T06:13:20+08:00", 1_700_000_000_000),
        ("{path: at, zone: Asia/Shanghai}", "2023-11-15T06:13:20", 1_700_000_000_000),
        ("{path: at, zone: UTC, format: '%d/%m/%Y %H.%M'}", "14/11/2023 22.13", 1_699_999_980_000),
        ("{synthesise: {start: '2023-11-14T22:13:20Z', step: 250ms}}", None, 1_700_000_000_250),
    ],
)
def test_times(time: str, value: Any, expected: int) -> None:
    compiled = mapper(MINIMAL.replace("{path: at}", time))
    assert one(compiled.map_row(ROW | {"at": value}, AT)).occurred_at == expected


@pytest.mark.parametrize("value", [True, "NaN", "nan", "inf", 1e300, float("nan"), "9" * 5000, [], {}, "0x10"])
@pytest.mark.parametrize("form", ["iso8601", "epoch_ms", "epoch_s", "'%Y'"])
def test_what_is_no_time(form: str, value: Any) -> None:
    compiled = mapper(MINIMAL.replace("{path: at}", f"{{path: at, format: {form}}}"))
    assert reason(compiled.map_row(ROW | {"at": value}, AT)).startswith("`time` ")


def test_maps() -> None:
    compiled = with_record("""
  - to: sharing
    activity: {const: share}
    recipient: {path: to, map: {nobody: null, "1": one}, others: keep}
    purpose: {path: why, map: [service, push], ignore_case: true, default: other}
    categories: {path: what, map: {ip: user.device.ip_address, all: [user.device, user.contact]}}
""")

    def shared(**row: Any) -> tuple[Any, ...]:
        record = one(compiled.map_row(ROW | row, AT)).record()
        return record["recipient"], record["purpose"], record["categories"]

    assert shared(to="nobody", why="PUSH", what="ip") == (None, "push", ("user.device.ip_address",))
    assert shared(to=1, why="x", what=["all", "ip"]) == (
        "one",
        "other",
        ("user.device", "user.contact", "user.device.ip_address"),
    )
    assert shared(to="acme") == ("acme", "other", ())
    assert reason(compiled.map_row(ROW | {"what": "secret"}, AT)) == "`what` has a value that the map does not list"


def test_one_row_gives_several_records_with_ids_of_their_own() -> None:
    compiled = with_record(
        """
  - to: telemetry
    event_type: {const: identify}
  - to: consent
    each: consents
    when: {consents: {present: true}}
    time: {path: [$.at, at]}
    action: {path: $.given, map: {"true": grant, "false": withdraw}}
    activity: {const: use}
    purpose: $.purpose
""",
        "event_id: id\n",
    )
    given_id = "6f2b1f0e-3a52-4a7a-9d0c-2f6c2a1d7c11"
    row = ROW | {
        "id": given_id,
        "consents": [
            {"given": True, "purpose": "push"},
            {"given": False, "purpose": "*", "at": "2026-03-02T00:00:00Z"},
        ],
    }
    made = compiled.map_row(row, AT)
    assert isinstance(made, list)
    assert [event.topic for event in made] == ["telemetry", "consent", "consent"]
    assert made[0].event_id == UUID(given_id).bytes
    assert len({event.event_id for event in made}) == 3
    assert [event.record()["action"] for event in made[1:]] == ["grant", "withdraw"]
    assert made[2].occurred_at - made[1].occurred_at == 16 * 3600 * 1000
    # One bad part rejects the row whole: half a row would be counted as mapped.
    row["consents"].append({"given": True})
    assert reason(compiled.map_row(row, AT)) == "`purpose` is missing: the action grant needs it"


@pytest.mark.parametrize(
    ("when", "row", "holds"),
    [
        ("{a: 1}", {"a": 1}, True),
        ("{a: 1}", {"a": True}, False),
        ("{a: 1}", {"a": "1"}, False),
        ("{a: null}", {}, True),
        ("{a: {in: [x, y]}, b: z}", {"a": "y", "b": "z"}, True),
        ("{a: {in: [x, y]}, b: z}", {"a": "y"}, False),
        ("{a: {not_in: [x]}}", {}, True),
        ("{a: {not_in: [x]}}", {"a": "x"}, False),
        ("{a: {not_in: [x]}}", {"a": ["x"]}, True),
        ("{a: {present: false}}", {"a": ""}, True),
        ("{a: {present: true}}", {"a": 0}, True),
        ("{a: {matches: '^o+$'}}", {"a": "ooo"}, True),
        ("{a: {matches: '^o+$'}}", {"a": 1}, False),
    ],
)
def test_conditions(when: str, row: dict[str, Any], holds: bool) -> None:
    made = with_record(f"  - to: telemetry\n    when: {when}\n    event_type: event\n").map_row(ROW | row, AT)
    assert made == Rejection("no rule matches") if not holds else isinstance(made, list)


def test_fields_are_names_from_the_document_only() -> None:
    compiled = with_record("""
  - to: telemetry
    event_type: event
    fields:
      within: [context]
      known: {context.device: device, context.device.id: device_id, email: email}
      ignore: [context.debug]
""")

    def fields(**row: Any) -> Any:
        return one(compiled.map_row(ROW | row, AT)).record()["fields"]

    assert fields() == ()
    assert fields(context={"device": {"id": "x"}}, email="") == ("device_id",)
    assert fields(context={"device": {"id": None, "other": 1}}) == ("device",)
    assert fields(context={"device": {"deep": {"deeper": [None, {"": ""}]}}}) == ()
    assert fields(context={"device": "text"}) == ("device",)
    assert fields(context={"ada@example.org": 0, "debug": {"x": 1}}) == ("unlisted",)
    assert fields(context={"debug": {"x": 1}}, elsewhere="x", email="e") == ("email",)
    assert fields(context="text") == ("unlisted",)


def test_a_path_to_the_wrong_place_gives_nobody_away() -> None:
    compiled = with_record(
        "  - to: sharing\n    activity: {const: share}\n    recipient: to\n    categories: what\n",
        "identities:\n  - {type: email, path: mail}\n",
    )
    holds = "holds an identifier of the person"
    assert reason(compiled.map_row(ROW | {"to": "ada"}, AT)) == f"`recipient` {holds}"
    assert reason(compiled.map_row(ROW | {"to": "a@b.org", "mail": "a@b.org"}, AT)) == f"`recipient` {holds}"
    assert reason(compiled.map_row(ROW | {"what": ["user", "ada"]}, AT)) == f"`categories` {holds}"
    assert one(compiled.map_row(ROW | {"to": "a@b.org"}, AT)).record()["recipient"] == "a@b.org"


# Documents


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("user_id: [user, device]\n", "", "m.yaml:1: the key `user_id` is missing: add it"),
        ("{format: jsonl}", "{format: jsonl, rows: a}", "m.yaml:3: input.rows: belongs to the format json"),
        ("path: at", "path: at, format: iso", "m.yaml:5: time.format: "),
        ("path: at", "path: at, zone: Mars/Base", "m.yaml:5: time.zone: no time zone is called Mars/Base"),
        ("{path: at}", "{zone: UTC}", "m.yaml:5: time: give `path`"),
        ("    event_type: event", "    band: age", "m.yaml:8: records[0].band: telemetry has no such field"),
        ("    event_type: event", "    region: r", "m.yaml:7: records[0]: the key `event_type` is missing"),
        ("event_type: event", "event_typ: event", "m.yaml:8: records[0].event_typ: unknown key: did you mean"),
        ("event_type: event", "event_type: {const: x, path: y}", "m.yaml:8: records[0].event_type: give a path"),
        (
            "event_type: event",
            "event_type: event\n    region: {path: r, map: {Germany: Germany}}",
            "m.yaml:9: records[0].region.map.Germany: is not a country code",
        ),
        (
            "event_type: event",
            "event_type: event\n    categories: {const: Device}",
            "m.yaml:9: records[0].categories.const: has an entry that is no data category key",
        ),
        (
            "event_type: event",
            "event_type: {known: {a: b}}",
            "m.yaml:8: records[0].event_type: `known` names fields",
        ),
        (
            "    event_type: event",
            "    when: {a: {matches: '('}}\n    event_type: event",
            "m.yaml:8: records[0].when.a.matches: not a regular expression",
        ),
    ],
)
def test_problems_name_line_and_key(old: str, new: str, problem: str) -> None:
    text = MINIMAL.lstrip("\n")
    assert old in text
    with pytest.raises(DocumentError) as caught:
        # Lines are counted as in a file that starts with an empty one.
        read_mapping(
            "\n" + text.replace(old, new) if not problem.startswith("m.yaml:1:") else text.replace(old, new), "m.yaml"
        )
    assert problem in str(caught.value)


def test_an_unknown_mapping_names_those_there_are() -> None:
    with pytest.raises(FileNotFoundError, match="jsonl, mobile-consent-dialogs, rudderstack"):
        load_mapping("nosuch")


# Encoding

_TIMES = st.integers(0, LATEST_MS - 1)
_WORDS = st.text(st.characters(codec="utf-8"), max_size=40)


@given(st.data(), st.sampled_from(sorted(EVENTS)), st.binary(min_size=16, max_size=16), _TIMES, st.none() | _TIMES)
def test_encoding_is_that_of_the_serializer(
    data: st.DataObject, topic: str, event_id: bytes, occurred_at: int, collected_at: int | None
) -> None:
    kind = EVENTS[topic]
    kinds = {
        "version": st.none() | st.integers(1, 2**63 - 1),
        "granted": st.none() | st.booleans(),
        "categories": st.lists(_WORDS).map(tuple),
        "fields": st.lists(_WORDS).map(tuple),
        "activity": st.sampled_from(["share", "transfer", "publish"]),
        "action": st.sampled_from(["accept", "withdraw"]),
    }
    texts = {"event_type", "discloser", "source"}
    values = tuple(
        data.draw(kinds.get(name, _WORDS if name in texts else st.none() | _WORDS), label=name) for name in kind.fields
    )
    event = Mapped(topic, "u", (), event_id, occurred_at, collected_at if kind.has_collected_at else None, values)
    value = Encoder().encode(event)
    assert value == Serializer(kind.contract).encode(event.record())
    name, decoded = Deserializer().decode(value)
    assert name == kind.contract
    assert decoded == {k: list(v) if isinstance(v, tuple) else v for k, v in event.record().items()}


# Anything at all

_ANY_TEXT = st.text(st.characters(), max_size=20)
_KEYS = (
    st.sampled_from(
        [
            "user_id",
            "topic",
            "occurred_at",
            "action",
            "categories",
            "identities",
            "fields",
            "event_id",
            "message",
            "userId",
            "type",
            "timestamp",
            "context",
            "traits",
            "device",
            "app_id",
            "data_type",
            "version",
            "activity",
            "purpose",
            "recipient",
            "event",
            "collected_at",
        ]
    )
    | _ANY_TEXT
)
_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | _ANY_TEXT
    | st.sampled_from(["telemetry", "consent", "sharing", "track", "identify", "2026-03-01T08:00:00Z", "ada", "grant",
                       "use", "idfa", "share"])
)  # fmt: skip
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=6))
_COMPILED = {name: load_mapping(name).compile(PEPPER) for name in SHIPPED}


@settings(max_examples=400)
@given(st.sampled_from(SHIPPED), st.dictionaries(_KEYS, _VALUES, max_size=12), st.integers(0, 2**40))
def test_no_row_raises(name: str, row: dict[str, Any], number: int) -> None:
    before = copy.deepcopy(row)
    made = _COMPILED[name].map_row(row, Position(number))
    assert repr(row) == repr(before), "a row is never changed"
    if isinstance(made, Rejection):
        assert made.reason
        return
    for event in made:
        Deserializer().decode(Encoder().encode(event))
        assert len(event.event_id) == 16


def test_no_nesting_raises() -> None:
    for depth in (200, 300, 900, 3_000, 30_000):
        deep: Any = ""
        for _ in range(depth):
            deep = {"products": [deep]}
        row = {"message": {"type": "track", "userId": "u", "timestamp": "2026-03-01T08:00:00Z", "properties": deep}}
        made = _COMPILED["rudderstack"].map_row(row, AT)
        assert isinstance(made, list) if depth < 300 else isinstance(made, list) or made.reason == "nested too deep"


# Files


def write(tmp_path: Path, name: str, content: bytes) -> str:
    (tmp_path / name).write_bytes(content)
    return str(tmp_path / name)


def rows_of(file: str, text: str) -> list[tuple[int, Any]]:
    reader = FileReader(file, read_mapping(text))
    return [
        (position.number, row.reason if isinstance(row, Rejection) else row)
        for batch in reader.batches()
        for position, row in batch
    ]


def test_json_lines_that_are_none(tmp_path: Path) -> None:
    file = write(
        tmp_path, "a.jsonl", b'\xef\xbb\xbf{"a": 1}\n\n[1]\n{"a"\n{"a": "\xff"}\n' + b"[" * 5000 + b'\n{"b": 2}'
    )
    assert rows_of(file, MINIMAL) == [
        (1, {"a": 1}),
        (3, "not a JSON object"),
        (4, "not JSON"),
        (5, "not UTF-8"),
        (6, "not JSON"),
        (7, {"b": 2}),
    ]


def test_csv_rows_that_are_none(tmp_path: Path) -> None:
    file = write(
        tmp_path, "a.csv", b'a,b\r\n1,"two\r\nlines"\r\nshort\r\n\xff,2\r\n"",x\r\n\r\n1,2,3\r\n"open,1\r\nend'
    )
    assert rows_of(file, MINIMAL.replace("jsonl", "csv")) == [
        (2, {"a": "1", "b": "two\r\nlines"}),
        (4, "not as many columns as the header"),
        (5, "not UTF-8, or too long a line"),
        (6, {"a": "", "b": "x"}),
        (8, "not as many columns as the header"),
        (9, "not as many columns as the header"),
    ]


def test_json_documents_and_compressed_files(tmp_path: Path) -> None:
    import gzip

    file = write(tmp_path, "a.json.gz", gzip.compress(b'{"data": {"rows": [{"a": 1}, 2]}}'))
    text = MINIMAL.replace("{format: jsonl}", "{format: json, rows: data.rows}")
    assert rows_of(file, text) == [(1, {"a": 1}), (2, "not a JSON object")]


def test_lines_longer_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.sources.readers.MAX_LINE_BYTES", 1 << 20)
    file = write(tmp_path, "a.jsonl", b'{"a": "' + b"x" * (5 << 20) + b'"}\n{"b": 2}\n')
    assert rows_of(file, MINIMAL) == [(1, "longer than 1 MiB"), (2, {"b": 2})]


def test_reasons_are_few() -> None:
    """Rows are counted by reason: a reason that differs from row to row would make the count useless."""
    made = Counter(
        reason(_COMPILED["jsonl"].map_row({"topic": "telemetry", "user_id": f"u{i}", "occurred_at": f"never {i}"}, AT))
        for i in range(50)
    )
    assert list(made.values()) == [50]


def test_the_guide_holds() -> None:
    guide = (schema_dir().parent / "docs" / "mappings.md").read_text(encoding="utf-8")
    text = next(block for block in guide.split("```yaml\n")[1:] if block.startswith("name:")).split("```")[0]
    row = {"user": {"id": 17, "email": "a@example.org"}, "at": "2026-03-01 08:00:00", "properties": {"x": 1}}
    opened = one(mapper(text).map_row(row | {"kind": "open"}, AT))
    assert (opened.user_id, opened.occurred_at) == ("17", 1_772_323_200_000)
    assert opened.record()["fields"] == ("email", "unlisted")
    sent = one(mapper(text).map_row(row | {"kind": "sent", "what": ["ip", "mail"], "why": "x"}, AT))
    assert sent.record()["categories"] == ("user.device.ip_address", "user.contact.email")
    assert sent.record()["purpose"] == "service"
    with pytest.raises(DocumentError) as caught:
        read_mapping(text.replace("event_type:", "event_typ:"), "my-app.yaml")
    assert str(caught.value) in guide
