"""The key and certificate with which a local stack signs as an OpenDSR processor, issued by an authority of its own.

OpenDSR forbids self-signed certificates. The authority's key is thrown away: it issues this one and no other.
Nobody trusts it unless told to; who serves others needs a certificate of an authority that they trust.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

LOCAL_DOMAIN = "localhost"
_BITS = 3072
_LIFE = timedelta(days=3650)

_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def issue_certificate(domain: str = LOCAL_DOMAIN) -> tuple[bytes, bytes, bytes]:
    """As PEM: (private key, PKCS 8 unencrypted; certificate for the domain; certificate of its authority)."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, _BITS)
    authority = _name("Local OpenDSR authority")
    signs_certificates = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    signs_data = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    names: list[x509.GeneralName] = [x509.DNSName(domain)]
    if domain == LOCAL_DOMAIN:
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    authority_certificate = (
        _builder(authority, authority, authority_key, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(signs_certificates, critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        _builder(_name(domain[:64]), authority, key, authority_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(signs_data, critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return (
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate.public_bytes(pem),
        authority_certificate.public_bytes(pem),
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: _Key, issuing_key: _Key) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing_key.public_key()), critical=False)
    )
