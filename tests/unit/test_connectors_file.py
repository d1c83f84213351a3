"""connectors.yaml: what is wrong is told with its place; what is right becomes the ways to recipients."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from infra.simulator.recipients import Profile, RecipientSimulator
from infra.simulator.recipients.certificates import Certificates
from sinks.recipients.checking import Finding, check
from sinks.recipients.configuration import (
    ConfigurationError,
    Connectors,
    ConnectorsFile,
    KafkaTarget,
    ManualTask,
    load_connectors,
)
from tests.unit.recipient_server import HOST

HEADERS = "recipients: {{a: {{protocol: ddrf, url: 'https://x.example', headers: {{A: '{}'}}}}}}"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("pki"), HOST)


def rsa_key(pki: Certificates) -> str:
    """A private key, PEM."""
    return (
        pki.signing_key("x")
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("recipients: {lumen: {protocol: opendsr, url: 'https://x.example'}}", "recipients.lumen"),
        ("recipients: {lumen: {protocol: carrier-pigeon}}", "carrier-pigeon"),
        ("recipients: {lumen: {protocol: manual, contct: a@b}}", "contct"),
        ("recipients: {lumen: {protocol: kafka, public_key: none.pem}}", "recipients.lumen"),
        ("recipients: {lumen: {protocol: ddrf, url: 'https://x.example/dsrdelete.json'}}", "key"),
        ("nonsense: 1", "nonsense"),
        ("recipients: [", "not YAML"),
        ("recipients:\n  a: {protocol: manual}\n  b: {protocol: manual}\n  a: {protocol: manual}", "a is given twice"),
        (
            "recipients:\n  a: {protocol: manual}\n  b:\n    protocol: manual\n    expire_days: 0",
            "line 5: recipients.b",
        ),
        ("recipients:\n  1: {protocol: manual}", "is not of type 'string'"),
        ("recipients: {a: {protocol: opendsr, url: 'http://x.example', domain: x.example}}", "not https"),
        ("recipients: {a: {protocol: opendsr, url: 'https://10.0.0.1', domain: x.example}}", "private network"),
        ("recipients: {a: {protocol: opendsr, url: 'https://x.example', domain: x..example}}", "line 1: recipients.a"),
        (HEADERS.format("${secrets:token}"), "secret:NAME"),
        (HEADERS.format("Bearer ${secret:broken}"), "line break"),
        ("recipients:\n\n  a: {protocol: kafka, public_key: rsa.pem}", "line 3: recipients.a: .*X25519"),
    ],
)
def test_what_is_wrong_in_connectors_yaml_is_told_with_its_place(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "connectors.yaml"
    path.write_text(text)
    rsa = Certificates(tmp_path / "pki", HOST).signing_key("x").public_key()
    pem = rsa.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "rsa.pem").write_bytes(pem)
    with pytest.raises(ConfigurationError, match=told):
        load_connectors(path, lambda name: f"{name}\n")


def test_connectors_yaml(tmp_path: Path, pki: Certificates) -> None:
    sealing = Path(pki.sealing_key("glacier")).read_bytes()
    (tmp_path / "glacier.pem").write_bytes(sealing)
    (tmp_path / "ca.pem").write_bytes(pki.authority().read_bytes())
    path = tmp_path / "connectors.yaml"
    path.write_text(
        """
public_url: https://erasure.example.org
recipients:
  lumen: {protocol: opendsr, url: https://o.example/v2, domain: o.example, ca: ca.pem, headers: {A: "B ${secret:t}"}}
  crash: {protocol: ddrf, url: https://c.example/dsrdelete.json, key: ddrf}
  glacier: {protocol: kafka, public_key: glacier.pem}
  agency: {protocol: manual, contact: a@agency.example, expire_days: 3}
"""
    )
    asked: list[str] = []

    def secret(name: str) -> str:
        asked.append(name)
        return rsa_key(pki) if name == "ddrf" else "token"

    connectors = load_connectors(path, secret)
    assert asked == ["t", "ddrf"]
    assert connectors.public_url == "https://erasure.example.org"
    assert not connectors.allow_private
    assert connectors.of("glacier") == KafkaTarget(sealing)
    assert connectors.of("agency") == ManualTask("a@agency.example", expire_days=3)
    assert [way.protocol for way in connectors.recipients.values()] == ["opendsr", "ddrf", "kafka", "manual"]
    assert connectors.of("nobody") is None
    assert load_connectors(None, secret).recipients == {}


def test_a_file_of_comments_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "connectors.yaml"
    path.write_text("# none yet\n")
    assert load_connectors(path, str) == Connectors()
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_connectors(path, str)


def test_an_unusable_edit_is_told_once_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "connectors.yaml"
    told: list[str] = []
    file = ConnectorsFile(path, str, told.append)
    assert file.current() == Connectors()
    for step, text in enumerate(["recipients: {a: {protocol: manual}}", "recipients: {a: {protocol: pigeon}}"]):
        path.write_text(text)
        os.utime(path, ns=(step, step))
        assert file.current().of("a") == ManualTask("")
        file.current()
    assert len(told) == 1
    assert "pigeon" in told[0]
    path.unlink()
    assert file.current().of("a") is None


def test_recipients_are_asked_what_they_announce(tmp_path: Path) -> None:
    async def play(connectors: Connectors) -> dict[str, Finding]:
        found = await check(connectors)
        await connectors.close()
        return {one.recipient: one for one in found}

    protocols = {"lumen": "opendsr", "crash": "ddrf", "bright": "http", "gone": "opendsr"}
    with RecipientSimulator(tmp_path, protocols, Profile(), tls=True) as simulator:
        path = tmp_path / "connectors.yaml"
        simulator.write_connectors(path, tmp_path / "secrets")
        path.write_text(path.read_text().replace("/r/gone/", "/r/nobody/") + "  agency: {protocol: manual}\n")
        connectors = load_connectors(path, lambda name: (tmp_path / "secrets" / name).read_text())
        found = asyncio.run(play(connectors))
        assert not any(truth["commands"] for truth in simulator.truth().values())
    usable = {name: one.usable for name, one in found.items()}
    assert usable == {"agency": None, "bright": None, "crash": True, "gone": False, "lumen": True}
    assert "email" in found["crash"].detail
    assert "certified until" in found["lumen"].detail
    assert "404" in found["gone"].detail


def test_the_guide_shows_a_file_that_is_one(tmp_path: Path, pki: Certificates) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "connectors.md").read_text(encoding="utf-8")
    path = tmp_path / "connectors.yaml"
    path.write_text(guide.partition("```yaml\n")[2].partition("```")[0])
    (tmp_path / "lumen-ca.pem").write_bytes(pki.authority().read_bytes())
    (tmp_path / "glacier.pem").write_bytes(Path(pki.sealing_key("glacier")).read_bytes())
    connectors = load_connectors(path, lambda name: rsa_key(pki) if name == "ddrf-key" else name)
    protocols = [way.protocol for way in connectors.recipients.values()]
    assert protocols == ["opendsr", "http", "ddrf", "kafka", "manual"]
