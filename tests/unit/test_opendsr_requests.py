"""Reading OpenDSR requests: what is taken, what is refused, and that a refusal quotes nothing."""

import json
from typing import Any

import pytest

from streams.identities import Identity
from streams.opendsr.requests import BadRequest, Order, private_host, read_request, request_id_of

ID = "5a1f6c2e-7d1b-4f6e-9c0a-0b6f2b1f7c11"
USER = {"identity_type": "controller_customer_id", "identity_format": "raw", "identity_value": "u-1"}
EMAIL = {"identity_type": "email", "identity_format": "raw", "identity_value": "secret@example.org"}


def body(**changes: Any) -> dict[str, Any]:
    """A request that is right; a change to None leaves the field out."""
    given: dict[str, Any] = {
        "regulation": "gdpr",
        "subject_request_id": ID,
        "subject_request_type": "erasure",
        "submitted_time": "2026-03-01T08:00:00Z",
        "subject_identities": [USER, EMAIL],
        "api_version": "2.0",
        "status_callback_urls": ["https://shop.example.org/callbacks"],
    }
    return {name: value for name, value in (given | changes).items() if value is not None}


def read(**changes: Any) -> Order:
    return read_request(json.dumps(body(**changes)).encode(), domain="us.example")


def refused(**changes: Any) -> list[tuple[str, str]]:
    with pytest.raises(BadRequest) as told:
        read(**changes)
    assert "secret" not in repr(told.value) + str(told.value) + repr(told.value.problems)
    return [tuple(problem) for problem in told.value.problems]  # type: ignore[misc]


def test_a_request_is_read_whole_and_hides_who_it_is_about() -> None:
    order = read()
    assert str(order.request_id) == ID
    assert order.user_id == "u-1"
    assert order.identities == (Identity("email", "raw", "secret@example.org"),)
    assert order.callback_urls == ("https://shop.example.org/callbacks",)
    assert order.regulation == "gdpr"
    assert "secret" not in repr(order)
    assert "u-1" not in repr(order)


def test_unknown_fields_and_others_extensions_are_ignored() -> None:
    plain = read()
    more = read(invented=[1], extensions={"other.example": {"identities": "anything"}, "another.example": 5})
    assert more == plain


def test_our_own_extension_gives_identities() -> None:
    order = read(subject_identities=None, extensions={"us.example": {"identities": [USER, EMAIL]}})
    assert (order.user_id, len(order.identities)) == ("u-1", 1)
    assert refused(extensions={"us.example": {"identities": [USER | {"identity_type": "shoe"}]}})[0][0] == "invalid"


def test_the_digest_tells_contents_apart_and_not_their_order() -> None:
    assert read().digest == read(subject_identities=[EMAIL, USER]).digest
    others: list[dict[str, Any]] = [
        {"subject_identities": [USER]},
        {"subject_identities": [USER | {"identity_value": "u-2"}, EMAIL]},
        {"regulation": "ccpa"},
        {"submitted_time": "2026-03-01T08:00:01Z"},
        {"status_callback_urls": None},
    ]
    assert len({read(**change).digest for change in [{}, *others]}) == len(others) + 1


@pytest.mark.parametrize(
    "name", ["regulation", "subject_request_id", "subject_request_type", "submitted_time", "subject_identities"]
)
def test_what_the_specification_requires_is_required(name: str) -> None:
    assert refused(**{name: None}) == [("missing", f"{name} field is required")]


def test_all_problems_are_told_at_once() -> None:
    told = refused(regulation=None, subject_request_id="1", submitted_time="yesterday", subject_identities=[EMAIL])
    assert [reason for reason, _ in told] == ["invalid", "invalid", "missing", "unsupported"]
    assert "controller_customer_id" in told[-1][1]


@pytest.mark.parametrize(
    ("change", "reason", "word"),
    [
        ({"subject_request_id": ID.upper()}, "invalid", "lower case"),
        ({"subject_request_id": "5a1f6c2e-7d1b-1f6e-9c0a-0b6f2b1f7c11"}, "invalid", "version 4"),
        ({"subject_request_id": 5}, "invalid", "string"),
        ({"subject_request_type": "access"}, "unsupported", "erasure"),
        ({"subject_request_type": "oblivion"}, "invalid", "portability"),
        ({"submitted_time": "2026-03-01"}, "invalid", "RFC 3339"),
        ({"submitted_time": "2026-03-01T08:00:00"}, "invalid", "RFC 3339"),
        ({"submitted_time": "2026-02-30T08:00:00Z"}, "invalid", "RFC 3339"),
        ({"regulation": "hipaa"}, "invalid", "pipl"),
        ({"api_version": "1.0"}, "unsupported", "2.0"),
        ({"api_version": 2}, "invalid", "string"),
        ({"subject_identities": "u-1"}, "invalid", "array"),
        ({"subject_identities": [USER] * 51}, "invalid", "at most 50"),
        ({"subject_identities": [USER, USER | {"identity_value": "u-2"}]}, "invalid", "several"),
        ({"subject_identities": [USER | {"identity_format": "sha256"}]}, "unsupported", "raw"),
        ({"subject_identities": [USER | {"identity_value": " "}]}, "invalid", "identity_value"),
        ({"subject_identities": [USER | {"identity_value": "x" * 1025}]}, "invalid", "1024"),
        ({"subject_identities": [USER, {"identity_type": "email", "identity_value": "secret"}]}, "invalid", "format"),
        ({"extensions": []}, "invalid", "object"),
        ({"extensions": {"us.example": "x"}}, "invalid", "object"),
        ({"status_callback_urls": "https://shop.example.org"}, "invalid", "array"),
        ({"status_callback_urls": ["https://shop.example.org"] * 6}, "invalid", "at most 5"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], reason: str, word: str) -> None:
    [(found, message)] = refused(**change)
    assert found == reason
    assert word in message


@pytest.mark.parametrize(
    "time", ["2026-03-01t08:00:00z", "2026-03-01T08:00:00.123456789+05:30", "2026-06-30T23:59:60Z"]
)
def test_every_rfc_3339_time_is_taken(time: str) -> None:
    assert read(submitted_time=time).user_id == "u-1"


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'"x"', b"{", b'{"a": NaN}', b'{"x": "\\ud800"}'])
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(BadRequest, match="the body"):
        read_request(content, domain="us.example")


def test_zeros_in_place_of_an_advertising_id_name_nobody() -> None:
    zero = {
        "identity_type": "ios_advertising_id",
        "identity_format": "raw",
        "identity_value": "00000000-0000-0000-0000-000000000000",
    }
    assert read(subject_identities=[USER, zero]).identities == ()
    assert read(subject_identities=[USER | {"identity_value": "0"}]).user_id == "0"


def test_a_regulation_may_be_set_for_those_who_name_none() -> None:
    given = json.dumps(body(regulation=None)).encode()
    assert read_request(given, domain="us.example", regulation_default="ccpa").regulation == "ccpa"
    given = json.dumps(body(regulation="pipl")).encode()
    assert read_request(given, domain="us.example", regulation_default="ccpa").regulation == "pipl"


BAD_URLS = [
    "http://shop.example.org/",
    "ftp://shop.example.org/",
    "https:///path",
    "https://user:word@shop.example.org/",
    "https://shop.example.org/#part",
    "https://shop.example.org:99999/",
    "https://[::1/",
    "https://sh op.example.org/",
    "https://shop.example.org\\@10.0.0.1/",
    "https://localhost/",
    "https://db/",
    "https://db.internal./",
    "https://127.0.0.1:8443/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://10.1.2.3/",
    "https://169.254.169.254/latest/meta-data",
    "https://100.64.0.1/",
    "https://0.0.0.0/",
    "https://224.0.0.1/",
    "https://[::1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fd00::1]/",
    "https://" + "a" * 2050,
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_callbacks_lead_into_the_public_network_over_tls(url: str) -> None:
    [(reason, message)] = refused(status_callback_urls=["https://fine.example.org/", url])
    assert reason == "invalid"
    assert message.startswith("status_callback_urls[1] ")


def test_private_callbacks_are_taken_where_that_is_allowed() -> None:
    given = json.dumps(body(status_callback_urls=["http://127.0.0.1:8080/cb"])).encode()
    assert read_request(given, domain="us.example", allow_private=True).callback_urls == ("http://127.0.0.1:8080/cb",)


def test_public_hosts_are_public() -> None:
    assert not any(map(private_host, ["shop.example.org", "8.8.8.8", "2001:4860:4860::8888", "SHOP.EXAMPLE.ORG."]))


def test_ids_in_paths() -> None:
    assert str(request_id_of(ID)) == ID
    assert request_id_of(ID.upper()) is request_id_of("x") is request_id_of(None) is None
