"""The command without its parts: help, errors, settings, and what needs neither Kafka nor ClickHouse."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import click
import orjson
import pytest

from infra.cli.main import COMMANDS, lineage, main
from infra.local.state import PartState, StackState, read_state
from infra.settings import SettingsError, settings
from processors.erasure_certificate import load_signing_key, load_verifying_key
from schemas import schema_dir
from streams.documents import parse_instant
from streams.identities import Identity, load_private_key, load_public_key, open_sealed, seal


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def every_command() -> list[list[str]]:
    found = []
    for name in COMMANDS:
        command = lineage.get_command(click.Context(lineage), name)
        found.append([name])
        if isinstance(command, click.Group):
            found += [[name, part] for part in command.commands]
    return found


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_every_command_has_help_with_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *command, "--help")
    assert code == 0
    assert "Example" in out
    assert f"lineage {' '.join(command[:1])}" in out


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_every_command_answers_in_json(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, *command, "--help")
    # A worker answers nothing, a contract is JSON anyway, and groups only hold others.
    if command[0] not in ("worker",) and command != ["schemas", "show"] and "Commands:" not in out:
        assert "--json" in out


def test_help_names_every_command_and_loads_none() -> None:
    program = "import sys; from infra.cli.main import main\ntry:\n main(['--help'])\nfinally:\n print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"polars", "confluent_kafka", "clickhouse_driver", "chdb", "numpy"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["totals"], "lineage up"),
        (["ingest", "nothing.jsonl", "--mapping", "nosuch"], "one that ships: "),
        (["policy", "lint", "nothing.yaml"], "nothing.yaml"),
        (["schemas", "show", "Nothing"], "DataShared"),
        (["status"], "lineage up"),
        (["wait"], "lineage up"),
        (["simulate", "--out", "x.jsonl", "--start", "yesterday"], "yesterday"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("LINEAGE_DATA", "LINEAGE_KAFKA", "LINEAGE_CLICKHOUSE"):
        monkeypatch.delenv(name, raising=False)
    code, out, err = run(capsys, *arguments)
    assert code == 1
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert says in err


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LINEAGE_DATA", str(tmp_path))
    monkeypatch.delenv("LINEAGE_KAFKA", raising=False)
    with pytest.raises(SettingsError):
        main(["wait", "--debug"])


def test_judge_gives_the_expected_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = {
        "version": 1,
        "effective_at": "2026-01-01T00:00:00.000Z",
        "purposes": {
            "service": {"clause": "2.1", "basis": "policy_acceptance", "needs": ["*"], "retention_days": None}
        },
        "categories": ["user.device"],
        "events": {"view": "service"},
        "fields": {"ip": "user.device.ip_address"},
        "residency": {},
        "retention": {},
    }
    collection = {
        "subject": "s",
        "event_type": "view",
        "purpose": None,
        "categories": [],
        "fields": ["ip"],
        "region": None,
        "storage_country": None,
    }
    history = {
        "name": "before and after",
        "policies": [policy],
        "recipients": [],
        "erased": [],
        "consents": [
            {
                "event_id": "c",
                "subject": "s",
                "occurred_at": "2026-02-01T00:00:00.000Z",
                "action": "accept",
                "version": 1,
            }
        ],
        "events": [
            {"event_id": "before", "occurred_at": "2026-01-31T00:00:00.000Z", **collection},
            {"event_id": "after", "occurred_at": "2026-02-02T00:00:00.000Z", **collection},
        ],
    }
    file = tmp_path / "cases.ndjson"
    file.write_bytes(orjson.dumps(history) + b"\n")
    code, out, _ = run(capsys, "judge", str(file))
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(a["name"], a["event_id"], a["verdict"], a["clauses"], a["legal_basis"]) for a in answers] == [
        ("before and after", "before", "violation", ["7"], "none"),
        ("before and after", "after", "lawful", ["2.1"], "policy_acceptance"),
    ]


def test_judge_names_the_line_that_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cases.ndjson"
    file.write_text('\n{"name": "x"}\n')
    code, _, err = run(capsys, "judge", str(file))
    assert code == 1
    assert "line 2" in err


def test_simulation_is_repeatable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file in files:
        code, out, _ = run(
            capsys, "simulate", "--people", "20", "--months", "1", "--seed", "3", "--out", str(file), "--json"
        )
        assert code == 0
        assert json.loads(out)["events"] == len(file.read_bytes().splitlines()) > 100
    assert files[0].read_bytes() == files[1].read_bytes()


def test_shipped_policies_pass_the_lint(capsys: pytest.CaptureFixture[str]) -> None:
    folder = schema_dir() / "policies"
    code, out, _ = run(
        capsys, "policy", "lint", str(folder / "aoxun.yaml"), str(folder / "examples" / "aoxun-v2.yaml"), "--json"
    )
    assert code == 0
    assert json.loads(out)["valid"] is True


# --- settings


def test_an_option_goes_before_the_environment(tmp_path: Path) -> None:
    env = {"LINEAGE_DATA": str(tmp_path / "env"), "LINEAGE_KAFKA": "env:1", "LINEAGE_CLICKHOUSE": "clickhouse://env"}
    found = settings(env, data=tmp_path / "option", kafka="option:2")
    assert found.data == tmp_path / "option"
    assert found.kafka().bootstrap == "option:2"
    assert found.clickhouse() == "clickhouse://env"


def test_what_is_nowhere_is_said(tmp_path: Path) -> None:
    found = settings({"LINEAGE_DATA": str(tmp_path)})
    with pytest.raises(SettingsError, match="LINEAGE_KAFKA"):
        found.kafka()
    with pytest.raises(SettingsError, match="LINEAGE_CLICKHOUSE"):
        found.clickhouse()
    with pytest.raises(SettingsError, match="LINEAGE_PEPPER_FILE"):
        found.pepper()


def test_kafka_settings_come_from_a_file(tmp_path: Path) -> None:
    lines = tmp_path / "kafka.properties"
    lines.write_text("# ours\nsecurity.protocol=SASL_SSL\nsasl.password = a=b \n")
    expected = {"security.protocol": "SASL_SSL", "sasl.password": "a=b"}
    assert settings({"LINEAGE_KAFKA_CONFIG": str(lines)}).kafka_config == expected
    as_json = tmp_path / "kafka.json"
    as_json.write_text(json.dumps(expected))
    assert settings({"LINEAGE_KAFKA_CONFIG": str(as_json)}).kafka_config == expected
    lines.write_text("security.protocol\n")
    with pytest.raises(SettingsError, match=":1: expected name=value"):
        settings({"LINEAGE_KAFKA_CONFIG": str(lines)})


def test_secrets_are_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    found = settings({}, data=tmp_path / "data")
    assert found.make_secrets() == ["pepper", "controller keys", "certificate keys", "seal keys", "OpenDSR certificate"]
    pepper, public, private = found.pepper(), found.controller_public_key(), found.controller_private_key()
    assert len(pepper) == 32
    sealed = seal(load_public_key(public), b"a" * 16, [Identity("email", "raw", "a@example.org")])
    assert open_sealed(load_private_key(private), b"a" * 16, sealed)[0]["identity_value"] == "a@example.org"
    certified = load_signing_key(found.certificate_key()).public_key()
    assert certified.public_bytes_raw() == load_verifying_key(found.certificate_public_key()).public_bytes_raw()
    for file in (tmp_path / "data" / "secrets").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert found.make_secrets() == []
    assert found.pepper() == pepper


def test_given_secrets_are_used_and_not_made(tmp_path: Path) -> None:
    (tmp_path / "pepper").write_bytes(b"p" * 32)
    found = settings({"LINEAGE_PEPPER_FILE": str(tmp_path / "pepper")}, data=tmp_path / "data")
    assert found.make_secrets() == ["controller keys", "certificate keys", "seal keys", "OpenDSR certificate"]
    assert found.pepper() == b"p" * 32


def test_a_stack_file_without_a_living_stack_is_nothing(tmp_path: Path) -> None:
    StackState(pid=1, kafka="127.0.0.1:1", parts={"kafka": PartState("running", 2)}).write(tmp_path)
    assert read_state(tmp_path) is None
    with pytest.raises(SettingsError):
        settings({}, data=tmp_path).kafka()


def test_times_need_a_zone() -> None:
    with pytest.raises(ValueError, match="2026-03-01"):
        parse_instant("2026-03-01")
