"""What we say as an OpenDSR processor, beyond single answers of the API: callbacks, signatures, the short memory."""

from datetime import UTC, datetime
from threading import Thread
from uuid import UUID, uuid4

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from infra.local.opendsr_certificate import issue_certificate
from processors.erasure import DAY, Callback, Request, Target
from processors.erasure_commands import idempotency_key
from sinks.recipients.opendsr_signatures import SignatureError, load_authorities, trusted_certificate, verify
from streams.opendsr.accepted import Accepted, AcceptedRequests
from streams.opendsr.answers import callback_body
from streams.opendsr.callbacks import callback_url
from streams.opendsr.signing import Signer, SignerError

NOW = 1_760_000_000_000
KEY, CERTIFICATE, AUTHORITY = issue_certificate("erasure.example.org")


def test_a_callback_tells_the_status_of_now_and_nobodys_name() -> None:
    request = Request(
        UUID("5a1f6c2e-7d1b-4f6e-9c0a-0b6f2b1f7c11"),
        NOW,
        alias=b"a" * 16,
        subject=uuid4(),
        state="partially_completed",
        requester="shop",
        due_at=NOW + 30 * DAY,
        targets=(Target("lumen", state="exempt", grade="claimed", ground="tax law"),),
    )
    callback = Callback("https://shop.example.org/cb")
    body = callback_body(request, callback, expected_at=NOW + 30 * DAY, domain="erasure.example.org")
    assert orjson.loads(body) == {
        "controller_id": "shop",
        "expected_completion_time": "2025-11-08T08:53:20.000Z",
        "status_callback_url": "https://shop.example.org/cb",
        "subject_request_id": "5a1f6c2e-7d1b-4f6e-9c0a-0b6f2b1f7c11",
        "request_status": "completed",
        "extensions": {
            "erasure.example.org": {
                "state": "partially_completed",
                "targets": [{"target": "lumen", "state": "exempt", "grade": "claimed", "ground": "tax law"}],
            }
        },
    }


def test_a_callback_of_a_joined_request_keeps_its_own_id() -> None:
    request, joined = Request(uuid4(), NOW, state="awaiting", requester="shop"), uuid4()
    callback = Callback("https://b.example.org/cb", joined)
    told = orjson.loads(callback_body(request, callback, expected_at=NOW, domain="x", controller_id="other"))
    assert (told["subject_request_id"], told["controller_id"]) == (str(joined), "other")
    assert told["request_status"] == "in_progress"


def test_what_we_sign_is_verified_by_those_who_trust_our_authority() -> None:
    headers = Signer("erasure.example.org", CERTIFICATE, KEY).headers(b"{}")
    assert headers["X-OpenDSR-Processor-Domain"] == "erasure.example.org"
    now = datetime.now(UTC)
    certificate = trusted_certificate(CERTIFICATE, "erasure.example.org", load_authorities(AUTHORITY), now)
    verify(b"{}", headers["X-OpenDSR-Signature"], certificate)
    with pytest.raises(SignatureError):
        verify(b"{ }", headers["X-OpenDSR-Signature"], certificate)
    for domain, authority in (("example.org", AUTHORITY), ("erasure.example.org", issue_certificate()[2])):
        with pytest.raises(SignatureError):
            trusted_certificate(CERTIFICATE, domain, load_authorities(authority), now)


def test_key_certificate_and_domain_belong_together() -> None:
    other_key, _, _ = issue_certificate("erasure.example.org")
    edwards = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    wrong = [
        ("example.org", CERTIFICATE, KEY, "not for example.org"),
        ("erasure.example.org", CERTIFICATE, other_key, "another key"),
        ("erasure.example.org", CERTIFICATE, edwards, "neither RSA nor ECDSA"),
        ("erasure.example.org", b"nothing", KEY, "cannot be read"),
        ("erasure.example.org", CERTIFICATE, b"nothing", "cannot be read"),
        ("erasure.example.org", AUTHORITY, KEY, "another key"),
    ]
    for domain, certificate, key, told in wrong:
        with pytest.raises(SignerError, match=told):
            Signer(domain, certificate, key)


def test_the_local_certificate_is_for_the_local_host() -> None:
    names = x509.load_pem_x509_certificate(issue_certificate()[1]).extensions
    names_of = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names_of.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(each) for each in names_of.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_callback_urls_name_one_command() -> None:
    request_id = UUID("5a1f6c2e-7d1b-4f6e-9c0a-0b6f2b1f7c11")
    url = callback_url("https://erasure.example.org/", request_id, "a/b c")
    assert url == f"https://erasure.example.org/opendsr/callbacks/{request_id}/a%2Fb%20c"
    assert len({idempotency_key(request_id, target, round_) for target in "ab" for round_ in range(3)}) == 6


def test_the_memory_is_bounded_and_lets_one_in_at_a_time() -> None:
    memory = AcceptedRequests(capacity=2)
    ids = [uuid4() for _ in range(3)]
    for request_id in ids:
        memory.put(request_id, Accepted("shop", b"a" * 16, b"", NOW, False))
    assert [memory.get(each) is None for each in ids] == [True, False, False]
    inside: list[int] = []
    most: list[int] = []

    def visit() -> None:
        with memory.turn(ids[0]):
            inside.append(1)
            most.append(sum(inside))
            inside.append(-1)

    threads = [Thread(target=visit) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20
