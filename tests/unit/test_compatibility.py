"""The released contracts must stay readable, and the check must see it when they would not."""

import json
from pathlib import Path

import pytest

from schemas import schema_dir
from streams.compatibility import check_released, incompatibilities


def test_what_any_release_wrote_can_be_read() -> None:
    result = check_released()
    assert result.compared >= 12
    assert result.incompatible == ()


@pytest.fixture
def contracts(tmp_path: Path) -> Path:
    """A folder with one contract and one release of it."""
    (tmp_path / "released" / "0.1.0").mkdir(parents=True)
    text = (schema_dir() / "avro" / "DataShared.avsc").read_text("utf-8")
    (tmp_path / "DataShared.avsc").write_text(text)
    (tmp_path / "released" / "0.1.0" / "DataShared.avsc").write_text(text)
    return tmp_path


def change(folder: Path, field: dict[str, object]) -> None:
    path = folder / "DataShared.avsc"
    schema = json.loads(path.read_text("utf-8"))
    schema["fields"].append(field)
    path.write_text(json.dumps(schema))


def test_a_new_field_with_a_default_is_fine(contracts: Path) -> None:
    change(contracts, {"name": "channel", "type": "string", "default": ""})
    assert check_released(contracts).incompatible == ()


def test_a_new_field_without_a_default_is_told(contracts: Path) -> None:
    change(contracts, {"name": "channel", "type": "string"})
    [found] = check_released(contracts).incompatible
    assert (found.contract, found.version) == ("DataShared", "0.1.0")
    assert "channel" in found.reasons[0]


def test_every_release_counts_not_only_the_last(contracts: Path) -> None:
    change(contracts, {"name": "channel", "type": "string"})
    (contracts / "released" / "0.2.0").mkdir()
    (contracts / "released" / "0.2.0" / "DataShared.avsc").write_text((contracts / "DataShared.avsc").read_text())
    result = check_released(contracts)
    assert result.compared == 2
    assert [found.version for found in result.incompatible] == ["0.1.0"]


def test_a_contract_that_was_removed_is_told(contracts: Path) -> None:
    (contracts / "DataShared.avsc").unlink()
    [found] = check_released(contracts).incompatible
    assert "removed" in found.reasons[0]


def test_a_type_that_narrows_is_told() -> None:
    def record(kind: str) -> dict[str, object]:
        return {"type": "record", "name": "R", "fields": [{"name": "n", "type": kind}]}

    assert incompatibilities(record("long"), record("int")) == ()
    assert incompatibilities(record("int"), record("long")) != ()
