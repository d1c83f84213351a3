"""Which identifiers a recipient is told, and in which form."""

from __future__ import annotations

from sinks.recipients.identifiers import known_there
from tests.unit.recipient_server import COMMAND, EMAIL


def test_identifiers_are_hashed_as_they_are_wanted() -> None:
    wanted = known_there([EMAIL], [("email", "sha256"), ("email", "md5")])
    assert [one["identity_value"] for one in wanted] == [
        "b5fb79bc07fa24049f99f456f8f530af1cb9a13db14c4b02c83be7c1f0ceb968"
    ]
    assert wanted == known_there([EMAIL | {"identity_value": "john@example.org"}], [("email", "sha256")])
    hashed = {"identity_type": "email", "identity_format": "sha1", "identity_value": "0" * 40}
    assert known_there([hashed], [("email", "raw"), ("email", "sha256")]) == []
    assert "John" not in repr(COMMAND)


def test_each_once_and_raw_before_hashed() -> None:
    hashed = {"identity_type": "email", "identity_format": "sha256", "identity_value": "0" * 64}
    phone = {"identity_type": "phone", "identity_format": "raw", "identity_value": "1"}
    told = known_there([hashed, EMAIL, EMAIL, phone], [("email", "sha256"), ("email", "raw"), ("nonsense", "raw")])
    assert told == [EMAIL, hashed]
