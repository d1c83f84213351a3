"""Signatures of OpenDSR and the certificates that make them evidence."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from infra.simulator.recipients.certificates import Certificates
from sinks.recipients.opendsr_signatures import (
    SignatureError,
    certified_name,
    sign,
    system_authorities,
    trusted_certificate,
    verify,
)
from tests.unit.recipient_server import HOST


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("pki"), HOST)


@pytest.fixture(scope="module")
def authorities(pki: Certificates) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pki.authority().read_bytes())


def test_a_signature_holds_for_its_body_only(pki: Certificates, authorities: list[x509.Certificate]) -> None:
    signature = sign(pki.signing_key("lumen"), b"body")
    certificate = trusted_certificate(pki.certificate("lumen"), HOST, authorities, datetime.now(UTC))
    verify(b"body", signature, certificate)
    for body, given in ((b"bodY", signature), (b"body", sign(pki.signing_key("other"), b"body")), (b"body", "#")):
        with pytest.raises(SignatureError):
            verify(body, given, certificate)


@pytest.mark.parametrize("which", ["self_signed", "wrong_domain", "expired", "other_authority", "no_certificate"])
def test_certificates_that_prove_nothing(
    which: str, pki: Certificates, authorities: list[x509.Certificate], tmp_path: Path
) -> None:
    at, domain, trusted = datetime.now(UTC), HOST, authorities
    pem = pki.certificate("lumen")
    match which:
        case "self_signed":
            pem = pki.self_signed("lumen")
        case "wrong_domain":
            domain = "other.example"
        case "expired":
            at += timedelta(days=4000)
        case "other_authority":
            trusted = x509.load_pem_x509_certificates(Certificates(tmp_path, HOST).authority().read_bytes())
        case _:
            pem = b"-----BEGIN NOTHING-----"
    with pytest.raises(SignatureError):
        trusted_certificate(pem, domain, trusted, at)


def issued(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> x509.Certificate:
    """A certificate of a key, by nobody."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    now = datetime.now(UTC)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None)


def test_ecdsa_keys_sign_as_well() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    signature, certificate = sign(key, b"body"), issued(key)
    verify(b"body", signature, certificate)
    # As headers of several lines come.
    verify(b"body", f"{signature[:20]}\n {signature[20:]}", certificate)
    with pytest.raises(SignatureError):
        verify(b"body2", signature, certificate)


def test_other_keys_prove_nothing() -> None:
    with pytest.raises(SignatureError, match="neither"):
        verify(b"body", "c2lnbg==", issued(ed25519.Ed25519PrivateKey.generate()))


def test_a_certificate_cut_short_is_refused(pki: Certificates, authorities: list[x509.Certificate]) -> None:
    der = x509.load_pem_x509_certificates(pki.certificate("lumen"))[0].public_bytes(Encoding.DER)
    for spoilt in (der[:-40], der.replace(b"\x55\x04\x03", b"\x55\x04\xff"), der[:60] + b"\xff" + der[61:]):
        lines = base64.encodebytes(spoilt)
        pem = b"-----BEGIN CERTIFICATE-----\n" + lines + b"-----END CERTIFICATE-----\n"
        with pytest.raises(SignatureError):
            trusted_certificate(pem, HOST, authorities, datetime.now(UTC))


@pytest.mark.parametrize("domain", ["", "a..b", "caf\u00e9.example", "a/b"])
def test_what_is_no_domain(domain: str) -> None:
    with pytest.raises(ValueError, match="no domain"):
        certified_name(domain)


@pytest.mark.filterwarnings("error")
def test_the_system_trusts_somebody(pki: Certificates) -> None:
    assert system_authorities()
    with pytest.raises(SignatureError, match="not to be trusted"):
        trusted_certificate(pki.certificate("lumen"), HOST, None, datetime.now(UTC))
