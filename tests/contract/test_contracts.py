"""The event contracts: documented, classified, decoded alike by three readers, compatible with what was released."""

import io
import json
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from schemas import schema_dir
from streams.columnar import CONTAINER_FROM
from streams.containers import frame_schema, read_container
from streams.contracts import contract, contracts, known_contracts
from streams.serdes import Deserializer, Serializer, decode_body
from streams.topics import CATALOGUE

PRIVACY = {"none", "linked", "pseudonym", "sealed", "unsafe"}
EXAMPLES = schema_dir() / "avro" / "examples"


def fields(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of a schema, those of nested records included."""
    if isinstance(node, list):
        for branch in node:
            yield from fields(branch, path)
    elif isinstance(node, dict):
        for field in node.get("fields", ()):
            yield f"{path}.{field['name']}", field
            yield from fields(field["type"], f"{path}.{field['name']}")
        for inner in ("items", "values"):
            if inner in node:
                yield from fields(node[inner], path)
        if isinstance(node.get("type"), dict | list):
            yield from fields(node["type"], path)


ALL_FIELDS = [pair for name, c in contracts().items() for pair in fields(c.schema, name)]


@pytest.mark.parametrize(("path", "field"), ALL_FIELDS, ids=[path for path, _ in ALL_FIELDS])
def test_every_field_says_what_it_is_and_how_private(path: str, field: dict[str, Any]) -> None:
    assert field.get("doc"), f"{path} has no doc"
    assert field.get("privacy") in PRIVACY, f"{path}: privacy must be one of {sorted(PRIVACY)}"


@pytest.mark.parametrize("name", contracts())
def test_every_contract_has_a_topic(name: str) -> None:
    assert contract(name).schema["doc"]
    assert any(name in topic.contracts for topic in CATALOGUE), f"{name} is on no topic of streams/topics.py"


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ("TelemetryCollected", "CollectionRecorded"),
        ("DataShared", "DisclosureRecorded"),
        ("ConsentChanged", "ConsentRecorded"),
    ],
)
def test_a_recorded_event_is_the_event_followed_by_its_tags(given: str, recorded: str) -> None:
    head = contract(recorded).schema["fields"][: len(contract(given).field_names)]
    assert head == contract(given).schema["fields"]


def test_a_consent_fact_is_a_consent_changed() -> None:
    facts = contract("SubjectState").schema["fields"][2]["type"]["items"]
    assert facts["fields"] == contract("ConsentChanged").schema["fields"]


def golden(name: str) -> tuple[bytes, dict[str, Any]]:
    """The example as it was encoded once, and what it says (bytes as hex)."""
    document = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return bytes.fromhex(document["single_object_hex"]), document["record"]


def plain(value: Any) -> Any:
    """Bytes as hex, for comparison with the example."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", contracts())
def test_the_golden_example_is_what_we_encode(name: str) -> None:
    encoded, record = golden(name)
    assert plain(Deserializer().decode(encoded)[1]) == record
    assert Serializer(name).encode(decode_body(contract(name), encoded[10:])) == encoded


@pytest.mark.parametrize("name", contracts())
def test_the_avro_package_reads_the_golden_example(name: str) -> None:
    from avro.io import BinaryDecoder, DatumReader
    from avro.schema import parse

    encoded, record = golden(name)
    with warnings.catch_warnings():
        # It knows the uuid type on strings only and reads ours as the fixed that it is.
        warnings.simplefilter("ignore")
        schema = parse(json.dumps(contract(name).schema))
    read = DatumReader(schema, schema).read(BinaryDecoder(io.BytesIO(encoded[10:])))

    def in_ms(value: Any) -> Any:
        if hasattr(value, "timestamp"):
            return round(value.timestamp() * 1000)
        if isinstance(value, dict):
            return {key: in_ms(inner) for key, inner in value.items()}
        return [in_ms(inner) for inner in value] if isinstance(value, list) else value

    assert plain(in_ms(read)) == record


# Maps and arrays of records are read one by one only: these contracts never come in volume.
COLUMNAR = [
    name
    for name, c in contracts().items()
    if not any(isinstance(f["type"], dict) and f["type"]["type"] == "map" for f in c.schema["fields"])
    and name not in {"SubjectState", "DeadLetter", "ErasureState", "BatchSealed"}
]


@pytest.mark.parametrize("name", COLUMNAR)
def test_the_columnar_path_reads_the_golden_example(name: str) -> None:
    encoded, record = golden(name)
    frame = read_container(contract(name).schema, [encoded[10:]] * CONTAINER_FROM)
    assert frame is not None
    assert dict(frame.schema) == frame_schema(contract(name).schema)
    assert plain(frame.row(0, named=True)) == record
    assert frame.n_unique() == 1


def test_released_schemas_are_known_by_their_fingerprints() -> None:
    released = list((schema_dir() / "avro" / "released").glob("*/*.avsc"))
    assert released, "no release is kept under schemas/avro/released"
    for path in released:
        assert any(c.schema == json.loads(path.read_text(encoding="utf-8")) for c in known_contracts().values())
