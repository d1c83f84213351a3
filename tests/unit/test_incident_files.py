"""The list of an incident as files: whole, readable by other programs, and no formula for a spreadsheet."""

import csv
import io
import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from audit.pages.certificates import shown_certificate
from audit.pages.incident_files import csv_file, json_file

TEXTS = st.text(max_size=12) | st.sampled_from(["=1+1", "+1", "-1", "@x", "\t=1", 'a";=1', "＝1", "'", ";", "a,=b\r\n"])
PEOPLE = st.lists(
    st.fixed_dictionaries(
        {
            "subject": TEXTS,
            "alias": st.none() | TEXTS,
            "disclosures": st.integers(1, 9),
            "direct": st.booleans(),
            "onward": st.booleans(),
            "through": st.lists(TEXTS, max_size=3),
            "during": st.integers(0, 9),
            "categories": st.lists(TEXTS, max_size=3),
            "purposes": st.lists(TEXTS, max_size=3),
            "first_at": st.just("2026-03-01T08:00:00.000Z"),
            "last_at": st.none(),
        }
    ),
    max_size=5,
)


@given(PEOPLE)
def test_the_table_has_a_line_for_everybody_and_no_formula(people: list[dict[str, Any]]) -> None:
    text = b"".join(csv_file(people)).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [(row["disclosures"], row["direct"]) for row in rows] == [
        (str(one["disclosures"]), str(one["direct"]).lower()) for one in people
    ]
    for row in rows:
        for cell in row.values():
            assert not re.match(r"[=+\-@\t\r＝＋－＠]", cell)
            assert not re.search(r"[;,|\t\r\n\"]\s*[=+\-@＝＋－＠]", cell)


@given(PEOPLE)
def test_the_report_is_one_document(people: list[dict[str, Any]]) -> None:
    summary = {"people": len(people), "explanation": ["why"]}
    content = b"".join(json_file(summary, people))
    assert json.loads(content) == {"summary": summary, "people": people}
    # The head, a line for each person, and the end: so that the page can count them.
    assert content.count(b"\n") == max(len(people), 1) + 2


@given(
    st.none() | st.dictionaries(TEXTS, st.none() | TEXTS | st.lists(st.none() | TEXTS | st.dictionaries(TEXTS, TEXTS)))
)
def test_what_is_no_certificate_is_not_shown_as_one(claims: dict[str, Any] | None) -> None:
    assert shown_certificate(claims) is None
