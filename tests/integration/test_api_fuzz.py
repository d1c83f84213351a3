"""The audit API asked whatever its own OpenAPI description allows, and what it forbids, by schemathesis: as a process
on real Kafka and ClickHouse, with the token of each role.

No answer is a 5xx; every status, header, content type and body is a described one; what is not as described is refused,
what is as described is not refused for its shape; nobody gets in without a token. LINEAGE_FUZZ_EXAMPLES asks for more
examples an operation than the few of every run, LINEAGE_FUZZ_SEED for others.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from audit.api.permissions import OPERATIONS
from processors.api_clients import ROLES
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect
from streams.kafka import Kafka
from streams.publishing import publish_policies, publish_recipients
from streams.topics import apply, plan
from tests import audit_world as world
from tests.api_process import ApiProcess, api_process
from tests.kafka_fixture import KafkaForTests

EXAMPLES = os.environ.get("LINEAGE_FUZZ_EXAMPLES", "4")
SEED = os.environ.get("LINEAGE_FUZZ_SEED", "7")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "valid_data_accepted",  # tests/fuzz_checks.py
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
)


@pytest.fixture(scope="module")
def api(kafka: KafkaForTests, clickhouse: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    apply(admin, [change for change in plan(admin, partitions=4) if change.action == "create"])
    publish_policies(Kafka(kafka.bootstrap), world.policies())
    publish_recipients(Kafka(kafka.bootstrap), world.recipients())
    url = clickhouse.database().url
    client = connect(url)
    migrate.apply(client)
    folder = tmp_path_factory.mktemp("api")
    with api_process(folder, kafka.bootstrap, url, LINEAGE_API_RATE="1e6") as running:
        world.fill(client, running.settings.pepper())
        client.disconnect()
        yield running


def fuzz(api: ApiProcess, report: Path, *options: str, token: str | None) -> list[dict[str, Any]]:
    """Runs schemathesis; what it did, as it tells it. Fails with its words when it finds a fault."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{api.url}/api/v1/openapi.json", *options]
    command += ["--url", f"{api.url}/api/v1", "--checks", ",".join(CHECKS), "--seed", SEED, "--workers", "2"]
    command += ["--generation-database", "none", "--continue-on-failure", "--no-color", "--request-timeout", "60"]
    command += ["--report", "ndjson", "--report-ndjson-path", str(report)]
    if token is not None:
        command += ["--header", f"Authorization: Bearer {token}"]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.fuzz_checks", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command,
        cwd=report.parent,
        env={**os.environ, **hooks},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in report.read_text("utf-8").splitlines()]


def statuses(told: list[dict[str, Any]]) -> dict[str, Counter[int]]:
    """Operation (`POST /subjects/lineage`) → how often it was answered with which status."""
    found: dict[str, Counter[int]] = {}
    for scenario in (entry["ScenarioFinished"]["recorder"] for entry in told if "ScenarioFinished" in entry):
        for case_id, exchange in scenario.get("interactions", {}).items():
            case = scenario["cases"][case_id]["value"]
            answers = found.setdefault(f"{case['method']} {case['path']}", Counter())
            answers[exchange["response"]["status_code"]] += 1
    return found


def test_whatever_is_asked_the_answer_is_a_described_one(api: ApiProcess, tmp_path: Path) -> None:
    """By a client that may do everything, so that every operation is reached; each boundary of the description, drawn
    values, and answers led on to the next question."""
    told = fuzz(api, tmp_path / "told.ndjson", "--max-examples", EXAMPLES, token=api.token("all", *ROLES))
    found = statuses(told)
    print(f"{sum(sum(answers.values()) for answers in found.values()):,} requests")
    for operation in OPERATIONS.values():
        answers = found[f"{operation.method} {operation.path}"]
        assert answers[200], (operation.id, answers)
        assert answers[401], "asked without a token as well"
    assert "the audit API failed" not in api.log.read_text("utf-8")


@pytest.mark.parametrize("role", ROLES)
def test_no_role_gets_what_the_matrix_denies_it(api: ApiProcess, tmp_path: Path, role: str) -> None:
    found = statuses(
        fuzz(
            api,
            tmp_path / "told.ndjson",
            "--max-examples",
            "3",
            "--phases",
            "examples,fuzzing",
            token=api.token(role, role),
        )
    )
    for operation in OPERATIONS.values():
        answers = found[f"{operation.method} {operation.path}"]
        if role in operation.roles:
            assert not answers[403], (operation.id, answers)
        else:
            assert set(answers) <= {401, 403}, (operation.id, answers)


def test_nobody_gets_in_without_a_token(api: ApiProcess, tmp_path: Path) -> None:
    """Nor learns by how the question is refused whether it was well asked."""
    for token in (None, "lineage_nobody"):
        found = statuses(
            fuzz(api, tmp_path / "told.ndjson", "--max-examples", "2", "--phases", "examples,fuzzing", token=token)
        )
        for operation in OPERATIONS.values():
            answers = found[f"{operation.method} {operation.path}"]
            assert set(answers) == {401}, (operation.id, answers)
