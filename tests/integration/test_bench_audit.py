"""`lineage bench audit`, small, on real parts. It fails by itself when a query is not answered as it should be."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.gdprbench import CALLS, ROLES
from infra.cli.main import lineage

SIZES = ["--rows", "6000", "--people", "120", "--seconds", "1"]


@pytest.mark.kafka
@pytest.mark.clickhouse
@pytest.mark.timeout(300)
def test_every_query_of_every_role_is_answered_and_a_folder_is_used_again(tmp_path: Path) -> None:
    answer = measured(*SIZES, "--folder", str(tmp_path))
    asked = {(found["system"], found["query"]): found for found in answer["results"] if "query" in found}
    assert asked.keys() == {(role, query) for role, mix in ROLES.items() for query in mix.queries}
    for found in asked.values():
        assert found["errors"] == 0
        assert not found["asked"] or 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    for found in answer["results"]:
        assert found["errors"] == 0
        assert found["asked"] or "query" in found
    assert next(iter(answer["ratios"].values())) > 0

    other = CliRunner().invoke(
        lineage, ["bench", "audit", "--rows", "7000", "--people", "120", "--folder", str(tmp_path)]
    )
    assert other.exit_code == 1
    assert "6,000 events of 120 people" in other.output


def measured(*sizes: str) -> Any:
    done = CliRunner().invoke(lineage, ["bench", "audit", "--json", *sizes])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_every_mix_is_whole_and_every_query_has_a_call() -> None:
    for mix in ROLES.values():
        assert sum(mix.queries.values()) == 100
    assert {query for mix in ROLES.values() for query in mix.queries} == CALLS.keys()
