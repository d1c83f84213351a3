"""A person's real identifiers, sealed at the edge to the erasure controller's key (design §5).

Producers seal and can never open; only the controller holds the private key. HPKE (RFC 9180) in base mode with
DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-128-GCM. The alias is bound through `info`, because the library's
single-shot interface has no associated data: sealed identifiers moved to another alias do not open.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

# OpenDSR 2.0, sections 5.1 and 5.2.
IDENTITY_TYPES = (
    "controller_customer_id",
    "android_advertising_id",
    "android_id",
    "email",
    "fire_advertising_id",
    "ios_advertising_id",
    "ios_vendor_id",
    "microsoft_advertising_id",
    "microsoft_publisher_id",
    "roku_publisher_id",
    "roku_advertising_id",
)
IDENTITY_FORMATS = ("raw", "sha1", "md5", "sha256")

_INFO = b"lineage identities v1"


class Identity(NamedTuple):
    """One identifier in OpenDSR's words, e.g. `Identity("email", "raw", "a@example.org")`."""

    identity_type: str
    identity_format: str
    identity_value: str


class SealError(Exception):
    """Sealed identifiers cannot be opened: another key, another alias, or damaged bytes."""


def user_identity(user_id: str) -> Identity:
    """The app's own user id as an identity."""
    return Identity("controller_customer_id", "raw", user_id)


def check_identity(kind: str, form: str, value: str) -> Identity:
    """Raises `ValueError` when OpenDSR knows no such type or format, or the value is empty."""
    if kind not in IDENTITY_TYPES:
        raise ValueError(f"unknown identity type: OpenDSR has {', '.join(IDENTITY_TYPES)}")
    if form not in IDENTITY_FORMATS:
        raise ValueError(f"unknown identity format: OpenDSR has {', '.join(IDENTITY_FORMATS)}")
    if not isinstance(value, str) or not value.strip():
        raise ValueError("an identity must have a value")
    return Identity(kind, form, value)


def names_nobody(value: str) -> bool:
    """Whether an identifier is the all-zero stand-in that devices give when tracking is off."""
    return not value.strip("0-")


def generate_controller_keys() -> tuple[bytes, bytes]:
    """A new key pair as PEM: (private key, PKCS 8 unencrypted; public key, SubjectPublicKeyInfo)."""
    private = X25519PrivateKey.generate()
    return (
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )


def load_public_key(pem: bytes) -> X25519PublicKey:
    """Raises `ValueError` when the PEM holds no X25519 public key."""
    key = serialization.load_pem_public_key(pem)
    if not isinstance(key, X25519PublicKey):
        raise ValueError(f"the controller's public key is a {type(key).__name__}: an X25519 key is needed")
    return key


def load_private_key(pem: bytes) -> X25519PrivateKey:
    """Raises `ValueError` when the PEM holds no X25519 private key."""
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, X25519PrivateKey):
        raise ValueError(f"the controller's private key is a {type(key).__name__}: an X25519 key is needed")
    return key


def key_id(public_key: X25519PublicKey) -> str:
    """First 16 hex digits of SHA-256 of the public key's 32 raw bytes."""
    return hashlib.sha256(public_key.public_bytes_raw()).hexdigest()[:16]


def plain_identities(identities: Iterable[Identity]) -> bytes:
    """A JSON list of OpenDSR objects, the same for the same identities: what is sealed."""
    return orjson.dumps([identity._asdict() for identity in sorted(identities)])


def seal(public_key: X25519PublicKey, alias: bytes, identities: Iterable[Identity]) -> bytes:
    """Encapsulated key (32 bytes) and ciphertext of `plain_identities`.

    Randomised: sealing the same twice gives different bytes.
    """
    return _suite().encrypt(plain_identities(identities), public_key, _INFO + alias)


def open_sealed(private_key: X25519PrivateKey, alias: bytes, sealed: bytes) -> list[dict[str, str]]:
    """The identities of one alias: `identity_type`, `identity_format`, `identity_value`. Raises `SealError`."""
    try:
        identities: list[dict[str, str]] = orjson.loads(_suite().decrypt(sealed, private_key, _INFO + alias))
    except (InvalidTag, ValueError) as error:
        raise SealError("cannot be opened with this key for this alias") from error
    return identities


def _suite() -> Suite:
    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)


class SeenIdentities:
    """Which identities this process has sealed already, for the last `capacity` people it saw.

    What was sealed longer ago than `seconds` counts no more: the person may have been erased since then, and their
    sealed identities with them; if they are back, recipients must be asked by them once more. That, and an overflow,
    cost a record written again, under the same key.
    """

    def __init__(self, capacity: int, seconds: float) -> None:
        self._capacity = capacity
        self._kept_ms = seconds * 1000
        # alias → identities, and when they were sealed first
        self._known: OrderedDict[bytes, tuple[tuple[Identity, ...], int]] = OrderedDict()

    def grown(
        self, alias: bytes, user_id: str, identities: Sequence[Identity], now: int
    ) -> tuple[Identity, ...] | None:
        """All identities to seal now (ms), or None when nothing is new about this person."""
        found = self._known.get(alias)
        if found is not None and now - found[1] < self._kept_ms:
            self._known.move_to_end(alias)
            known, sealed_at = found
            new = [identity for identity in identities if identity not in known] if identities else ()
            if not new:
                return None
        else:
            known, sealed_at = (user_identity(user_id),), now
            new = [identity for identity in identities if identity not in known]
        grown = tuple(dict.fromkeys((*known, *new)))
        self._known[alias] = grown, sealed_at
        self._known.move_to_end(alias)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return grown
