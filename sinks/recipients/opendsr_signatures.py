"""Signatures of OpenDSR 2.0 and the certificates behind them (specification, sections 3 and 10).

A processor signs the raw bytes of what it says with the key of an X.509 certificate that an authority has issued for
its domain; a controller verifies them before it parses anything. FIPS 186-4: RSASSA-PKCS1-v1_5 or ECDSA, over SHA-256.
A self-signed certificate is no evidence.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import ssl
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import verification

LEAST_RSA_BITS = 2048
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


class SignatureError(Exception):
    """A signature or certificate that proves nothing; the text says why, and quotes no content."""


def sign(private_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, body: bytes) -> str:
    """The base64 signature for the header X-OpenDSR-Signature over the raw body."""
    if isinstance(private_key, rsa.RSAPrivateKey):
        signature = private_key.sign(body, padding.PKCS1v15(), hashes.SHA256())
    else:
        signature = private_key.sign(body, ec.ECDSA(hashes.SHA256()))
    return base64.b64encode(signature).decode("ascii")


def verify(body: bytes, signature: str, certificate: x509.Certificate) -> None:
    """Raises `SignatureError` unless `signature` (base64; line breaks and blanks are passed over) was made over the raw
    body with the certificate's key."""
    try:
        raw = base64.b64decode("".join(signature.split()), validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError("the signature is not base64") from None
    try:
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey):
            if key.key_size < LEAST_RSA_BITS:
                raise SignatureError(f"an RSA key of {key.key_size} bits is too short")
            key.verify(raw, body, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(raw, body, ec.ECDSA(hashes.SHA256()))
        else:
            raise SignatureError("the certificate's key is neither RSA nor ECDSA")
    except (UnsupportedAlgorithm, ValueError):
        raise SignatureError("the certificate's key is of a kind that is not known here") from None
    except InvalidSignature:
        raise SignatureError("the signature is not that of the certificate's key over this body") from None


def trusted_certificate(
    pem: bytes, domain: str, authorities: Sequence[x509.Certificate] | None, at: datetime
) -> x509.Certificate:
    """The certificate at the head of a PEM chain, if an authority issued it for `domain` and it is valid at `at`.

    `authorities`: those to trust; None: the system's. Raises `SignatureError`.
    """
    try:
        chain = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise SignatureError("the processor's certificate is no PEM certificate") from None
    leaf, *between = chain
    store = verification.Store(list(authorities) if authorities is not None else system_authorities())
    verifier = (
        verification.PolicyBuilder().store(store).time(at.astimezone(UTC)).build_server_verifier(certified_name(domain))
    )
    try:
        if leaf.issuer == leaf.subject:
            raise SignatureError("the processor's certificate is self-signed")
        verifier.verify(leaf, between)
    except (UnsupportedAlgorithm, ValueError):
        raise SignatureError("the processor's certificate is malformed") from None
    except verification.VerificationError as error:
        raise SignatureError(f"the processor's certificate is not to be trusted for {domain}: {error}") from None
    return leaf


def load_authorities(pem: bytes) -> list[x509.Certificate]:
    """Raises `ValueError` when the PEM holds no certificate."""
    return x509.load_pem_x509_certificates(pem)


@cache
def system_authorities() -> list[x509.Certificate]:
    """What the system trusts."""
    certificates = []
    for der in ssl.create_default_context().get_ca_certs(binary_form=True):
        try:
            # Old authorities have encodings that are warned of, or refused by now.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                certificates.append(x509.load_der_x509_certificate(der))
        except ValueError:
            continue
    if not certificates:
        raise SignatureError("the system knows no certificate authorities: name one with `ca`")
    return certificates


def certified_name(domain: str) -> x509.DNSName | x509.IPAddress:
    """A domain as a certificate names it. Raises `ValueError` for what is neither a host name nor an address."""
    try:
        return x509.IPAddress(ipaddress.ip_address(domain))
    except ValueError:
        if len(domain) > 253 or not all(_LABEL.fullmatch(label) for label in domain.split(".")):
            raise ValueError(f"{domain!r} is no domain that a certificate can name") from None
        return x509.DNSName(domain)
