"""The keys and certificates of simulated recipients, in a folder: made when they are asked for first, kept for later
runs.

A certification authority of its own, known to nobody, issues them: whoever talks to the simulator must be told to
trust it. Never a key for anything but tests.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID

from streams.identities import generate_controller_keys, load_private_key

# Small, so that a dozen recipients start within a second or two.
_BITS = 2048
_LIFE = timedelta(days=365)
WRONG_DOMAIN = "elsewhere.invalid"


class Certificates:
    """A folder with `ca.pem`, `ca.key`, and for each recipient a key and the certificates that it shows.

    `host`: the name (or IP address) that certificates are issued to.
    """

    def __init__(self, folder: Path, host: str) -> None:
        (folder / "recipients").mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._host = host
        self._keys: dict[Path, RSAPrivateKey] = {}

    def authority(self) -> Path:
        """The certificate to trust (PEM)."""
        path = self._folder / "ca.pem"
        if not path.exists():
            key = self._key(self._folder / "ca.key")
            name = _name("Simulated certification authority")
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            made = (
                _builder(name, name, key, key)
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(usage, critical=True)
                .sign(key, hashes.SHA256())
            )
            _write(path, made.public_bytes(serialization.Encoding.PEM))
        return path

    def signing_key(self, recipient: str) -> RSAPrivateKey:
        """A recipient's RSA key."""
        return self._key(self._path(recipient, "key"))

    def certificate(self, recipient: str) -> bytes:
        """PEM, issued by the authority to the host."""
        return self._issued(recipient, "pem", self._host)

    def wrong_domain(self, recipient: str) -> bytes:
        """PEM, issued by the authority to somebody else."""
        return self._issued(recipient, "wrong-domain.pem", WRONG_DOMAIN)

    def self_signed(self, recipient: str) -> bytes:
        """PEM for the host, issued by the recipient itself."""
        path = self._path(recipient, "self-signed.pem")
        if not path.exists():
            name = _name(f"Simulated recipient {recipient}"[:64])
            _write(path, self._issue(name, self.signing_key(recipient), self._host, by_itself=True))
        return path.read_bytes()

    def requester_key(self) -> bytes:
        """The private key (PEM) with which the controller that talks to the simulator signs DDRF requests."""
        path = self._folder / "requester.key"
        self._key(path)
        return path.read_bytes()

    def server(self) -> ssl.SSLContext:
        """What a server of the host shows."""
        path = self._folder / "server.pem"
        if not path.exists():
            key_path = self._folder / "server.key"
            _write(path, self._issue(_name("Simulated server"), self._key(key_path), self._host))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path, self._folder / "server.key")
        return context

    def opening_key(self, recipient: str) -> X25519PrivateKey:
        """What commands over Kafka are opened with."""
        self.sealing_key(recipient)
        return load_private_key(self._path(recipient, "kafka.key").read_bytes())

    def sealing_key(self, recipient: str) -> Path:
        """The public key that commands over Kafka are sealed to (PEM)."""
        path = self._path(recipient, "kafka.pem")
        if not path.exists():
            private, public = generate_controller_keys()
            _write(self._path(recipient, "kafka.key"), private)
            _write(path, public)
        return path

    def _path(self, recipient: str, ending: str) -> Path:
        return self._folder / "recipients" / f"{quote(recipient, safe='')}.{ending}"

    def _key(self, path: Path) -> RSAPrivateKey:
        if path not in self._keys:
            if not path.exists():
                _write(path, _pem(generate_private_key(65537, _BITS)))
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
            assert isinstance(key, RSAPrivateKey)
            self._keys[path] = key
        return self._keys[path]

    def _issued(self, recipient: str, ending: str, host: str) -> bytes:
        path = self._path(recipient, ending)
        if not path.exists():
            _write(path, self._issue(_name(f"Simulated recipient {recipient}"[:64]), self.signing_key(recipient), host))
        return path.read_bytes()

    def _issue(self, subject: x509.Name, key: RSAPrivateKey, host: str, by_itself: bool = False) -> bytes:
        issuer, issuing_key = subject, key
        if not by_itself:
            issuer = x509.load_pem_x509_certificate(self.authority().read_bytes()).subject
            issuing_key = self._key(self._folder / "ca.key")
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        made = (
            _builder(subject, issuer, key, issuing_key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
            .sign(issuing_key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM)


def _names(host: str) -> list[x509.GeneralName]:
    try:
        return [x509.IPAddress(ipaddress.ip_address(host))]
    except ValueError:
        pass
    if host == "localhost":
        return [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return [x509.DNSName(host)]


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: RSAPrivateKey, issuing_key: RSAPrivateKey
) -> x509.CertificateBuilder:
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


def _pem(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and for nobody else to read."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    draft.rename(path)
