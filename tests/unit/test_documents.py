"""Documents: every problem is told with its line and key, and nothing is guessed."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.documents import Document, DocumentError, format_instant, load_document, parse_instant

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version"],
    "properties": {
        "version": {"type": "integer", "minimum": 1},
        "effective_at": {"type": "string", "format": "instant"},
        "kind": {"enum": ["affiliate", "partner", None]},
        "clause": {"type": "string"},
        "items": {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"type": "string"}},
        "residency": {
            "type": "object",
            "propertyNames": {"pattern": "^[A-Z]{2}$", "description": "a country of two capital letters"},
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}


def problems(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load_document(text, SCHEMA, "p.yaml")
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1\nverzion: 2", ["p.yaml:2: verzion: unknown key: keys here are"]),
        ("version: 1\neffectve_at: x", ["p.yaml:2: effectve_at: unknown key: did you mean `effective_at`?"]),
        ("kind: partner", ["p.yaml:1: the key `version` is missing: add it"]),
        (
            "version: 1\nkind: partnr",
            ['p.yaml:2: kind: "partnr" is not one of affiliate, partner, null: did you mean `partner`?'],
        ),
        (
            "version: 1\n\nclause: 2.10",
            ['p.yaml:3: clause: expected text, found the number 2.1: put it in quotes, "2.10"'],
        ),
        ("version: '1'", ['p.yaml:1: version: expected a whole number, found the text "1"']),
        ("version: 0", ["p.yaml:1: version: 0 is too small: it must be at least 1"]),
        ("version: true", ["p.yaml:1: version: expected a whole number, found true"]),
        ("version: 1\nitems: a", ['p.yaml:2: items: expected a list, found the text "a": write [a]']),
        ("version: 1\nitems: []", ["p.yaml:2: items: must not be empty"]),
        ("version: 1\nitems:\n- a\n- 6", ["p.yaml:4: items[1]: expected text, found the number 6: put it in quotes"]),
        ("version: 1\nitems: [a, b, a]", ['p.yaml:2: items: "a" is given twice: keep one']),
        (
            "version: 1\nresidency:\n  China: [CN]",
            ['p.yaml:3: residency.China: "China" does not fit: expected a country of two capital letters'],
        ),
        (
            "version: 1\neffective_at: 2026-03-01",
            ["p.yaml:2: effective_at: '2026-03-01' is not a time with its zone: write it like"],
        ),
        ("version: 1\nversion: 2", ["p.yaml:2: version: given twice, first on line 1: keep one"]),
        ("version: 1\nitems: [", ["p.yaml:2: not readable as YAML: "]),
        ("version: 1\n\titems: 1", ["p.yaml:2: "]),
        ("version: 1\n---\nversion: 2", ["p.yaml:2: a second document begins here"]),
        ("version: !!python/object:os.system 1", ["p.yaml:1: version: the tag"]),
        ("a: &a {version: 1}\n<<: *a", ["p.yaml:2: merge keys (`<<`) are not read here"]),
        ("version: &a [*a]", ["p.yaml:1: version[0]: an alias"]),
        ("? [1]\n: 2", ["p.yaml:1: a key must be plain text"]),
        ("", ["p.yaml:1: expected keys with values at the top: it is empty"]),
        ("- 1", ["p.yaml:1: expected keys with values at the top: found a list"]),
    ],
)
def test_a_problem_names_line_key_and_remedy(text: str, expected: list[str]) -> None:
    found = problems(text)
    assert len(found) == len(expected)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


def test_all_problems_are_told_at_once_in_the_order_of_their_lines() -> None:
    found = problems("version: 0\nkind: x\n\nclause: 7\nother: 1\n")
    assert [line.split(":")[1] for line in found] == ["1", "2", "4", "5"]


def test_plain_values_mean_what_they_say() -> None:
    schema = {"type": "object"}
    text = "NO: NO\nyes: on\n1: 007\nat: 2026-03-01T08:00:00Z\ntime: 12:30\nhalf: 0.5\nnone: ~\nt: true\nq: '1'"
    assert load_document(text, schema) == {
        "NO": "NO",
        "yes": "on",
        "1": "007",
        "at": "2026-03-01T08:00:00Z",
        "time": "12:30",
        "half": 0.5,
        "none": None,
        "t": True,
        "q": "1",
    }


def test_a_file_is_named_by_its_path_and_must_be_utf8(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"version: 1\nclause: \xff\n")
    with pytest.raises(DocumentError, match=r"policy\.yaml:2: not UTF-8"):
        load_document(path, SCHEMA)
    path.write_text("version: 3\n", encoding="utf-8")
    document = load_document(path, SCHEMA)
    assert document == {"version": 3}
    assert document.name == str(path)


def test_later_checks_find_the_line_of_a_key_or_of_the_nearest_one_above() -> None:
    document = load_document("version: 1\nresidency:\n  CN:\n    - CN\n    - HK\n", SCHEMA)
    assert isinstance(document, Document)
    assert document.problem(("residency", "CN", 1), "no").line == 5
    assert document.problem(("residency", "XX"), "no").line == 2
    assert document.problem(("clauses",), "no").line == 1


@given(st.integers(min_value=-62_135_596_800_000, max_value=253_402_300_799_999))
def test_instants_come_back(ms: int) -> None:
    assert parse_instant(format_instant(ms)) == ms


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-03-01T08:00:00+08:00", "2026-03-01T00:00:00.000Z"),
        ("2026-03-01 08:00Z", "2026-03-01T08:00:00.000Z"),
        ("2026-03-01T08:00:00.1239Z", "2026-03-01T08:00:00.123Z"),
        ("1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"),
    ],
)
def test_instants_with_offsets_and_fractions(text: str, same: str) -> None:
    assert format_instant(parse_instant(text)) == same


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T08:00:00",
        "2026-03-01",
        "20260301T080000Z",
        "2026-02-30T00:00:00Z",
        "now",
        "",
        "1",
        "٢026-03-01T08:00:00Z",
    ],
)
def test_what_is_no_instant_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 2026-03-01T08:00:00Z"):
        parse_instant(text)
