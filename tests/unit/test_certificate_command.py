"""`lineage certificate verify` and `key`: offline, with and without a key, and what is not valid."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.cli.main import main
from infra.settings import generate_signing_keys, settings
from processors.erasure_certificate import certificate, load_signing_key, sign, thumbprint
from tests.unit.test_erasure_certificate import PLACES, START, record


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with secrets; no stack runs on it."""
    for name in ("LINEAGE_KAFKA", "LINEAGE_CLICKHOUSE", "LINEAGE_CERTIFICATE_PUBLIC_KEY", "LINEAGE_CERTIFICATE_KEY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "data"
    settings({}, data=folder).make_secrets()
    return folder


@pytest.fixture
def file(data: Path) -> Path:
    key = load_signing_key((data / "secrets" / "certificate-signing.pem").read_bytes())
    path = data / "certificate.jws"
    path.write_text(sign(certificate(record(), PLACES, "aoxun.example", START), key) + "\n")
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def test_valid_and_trusted_by_the_key_of_the_data_directory(
    data: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "certificate", "verify", str(file), "--data", str(data), "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["valid"], told["trusted"], told["request_id"]) == (True, True, "0b9a8c7d-1111-4222-8333-444455556666")
    assert told["claims"]["issuer"] == "aoxun.example"
    code, out, _ = run(capsys, "certificate", "verify", str(file), "--data", str(data))
    assert code == 0
    assert out.startswith("valid: ")
    assert "Recipients (1)" in out


def test_without_any_key_the_fingerprint_is_for_people(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "certificate", "verify", str(file), "--data", str(tmp_path / "none"), "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["valid"], told["trusted"]) == (True, False)
    assert "fingerprint" in told["reason"]
    assert len(told["signed_by"]) == 43


def test_another_key_is_not_trusted(data: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, public = generate_signing_keys()
    other = data / "other.pem"
    other.write_bytes(public)
    code, out, _ = run(capsys, "certificate", "verify", str(file), "--key", str(other), "--json")
    told = json.loads(out)
    assert code == 1
    assert told["valid"] is False
    assert "another key" in told["reason"]
    code, _, _ = run(
        capsys,
        *("certificate", "verify", str(file), "--key", str(other)),
        *("--key", str(data / "secrets" / "certificate-public.pem")),
    )
    assert code == 0


def test_an_altered_byte_is_noticed(data: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = file.read_bytes()
    for at in (0, 100, len(content) // 2, len(content) - 2):
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        code, out, _ = run(capsys, "certificate", "verify", str(file), "--data", str(data))
        assert code == 1
        assert out.startswith("NOT VALID: ")
    file.write_bytes(b"\xff\xfe")
    assert run(capsys, "certificate", "verify", str(file), "--data", str(data))[0] == 1


@pytest.mark.parametrize("change", [{"recipients": 5}, {"state": "x"}, {"remains": [{}]}, {"issuer": "\x1b[2J"}])
def test_whatever_somebody_has_signed_is_told(
    data: Path, file: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object]
) -> None:
    key = load_signing_key((data / "secrets" / "certificate-signing.pem").read_bytes())
    file.write_text(sign(certificate(record(), PLACES, "aoxun.example", START) | change, key))
    code, out, err = run(capsys, "certificate", "verify", str(file), "--data", str(data))
    assert (code, err) == (0, "")
    assert "\x1b" not in out


def test_a_key_of_another_kind_is_an_error(data: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sealing = data / "secrets" / "controller-public.pem"
    code, _, err = run(capsys, "certificate", "verify", str(file), "--key", str(sealing))
    assert code == 1
    assert "Ed25519" in err
    assert len(err.strip().splitlines()) == 1


def test_the_key_and_its_fingerprint_are_shown(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "certificate", "key", "--data", str(data), "--json")
    key = load_signing_key((data / "secrets" / "certificate-signing.pem").read_bytes())
    assert code == 0
    assert json.loads(out)["fingerprint"] == thumbprint(key.public_key())
    code, out, err = run(capsys, "certificate", "key", "--data", str(data))
    assert out.encode() == (data / "secrets" / "certificate-public.pem").read_bytes()
    assert thumbprint(key.public_key()) in err


def test_checking_needs_no_kafka_and_no_clickhouse(data: Path, file: Path) -> None:
    """Where nothing is installed but what checks."""
    program = (
        "import sys\n"
        "for name in ('clickhouse_driver', 'chdb', 'polars', 'faust'):\n    sys.modules[name] = None\n"
        "from infra.cli.main import main\n"
        f"main(['certificate', 'verify', {str(file)!r}, '--data', {str(data)!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("valid: ")
