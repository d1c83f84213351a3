"""Our signature under what we say as an OpenDSR processor: the headers that go with a body. Keeps the private key."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from sinks.recipients.opendsr_signatures import sign
from streams.opendsr.answers import DOMAIN_HEADER, SIGNATURE_HEADER


class SignerError(ValueError):
    """Key, certificate and domain do not belong together; the text says which to change."""


class Signer:
    """Signs bodies for a domain.

    `certificate`: PEM, the one issued to the domain first, then those between it and its authority. `private_key`:
    PEM, PKCS 8, RSA or ECDSA. Raises `SignerError`.
    """

    def __init__(self, domain: str, certificate: bytes, private_key: bytes) -> None:
        self.domain = domain
        self.certificate = certificate
        self._key = _load(domain, certificate, private_key)

    def headers(self, body: bytes) -> dict[str, str]:
        """What the specification wants beside a body (section 8.3)."""
        return {DOMAIN_HEADER: self.domain, SIGNATURE_HEADER: sign(self._key, body)}


def _load(domain: str, certificate: bytes, private_key: bytes) -> RSAPrivateKey | EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(private_key, password=None)
        leaf = x509.load_pem_x509_certificates(certificate)[0]
    except (ValueError, TypeError) as error:
        # Their texts tell formats, never content.
        raise SignerError(f"the OpenDSR key or certificate cannot be read: {error}") from None
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
        raise SignerError("the OpenDSR key is neither RSA nor ECDSA")
    if key.public_key() != leaf.public_key():
        raise SignerError("the OpenDSR certificate was issued for another key")
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise SignerError("the OpenDSR certificate names no domain (subject alternative name)") from None
    domains = names.get_values_for_type(x509.DNSName) + [
        str(address) for address in names.get_values_for_type(x509.IPAddress)
    ]
    if domain not in domains:
        raise SignerError(f"the OpenDSR certificate is for {', '.join(domains)}, and not for {domain}")
    if leaf.issuer == leaf.subject:
        raise SignerError("the OpenDSR certificate is self-signed, which OpenDSR forbids: have one issued")
    return key
