"""Pseudonyms made at the edge: the alias of a user id, and event ids that a source does not give.

Both are keyed with the pepper, so that nobody without it can try user ids against them. Pure; keeps nothing.
"""

import hmac

ALIAS_SIZE = 16
EVENT_ID_SIZE = 16
MIN_PEPPER_SIZE = 16

# What is derived for one purpose must never equal what is derived for another, whatever a user is called.
_EVENT_ID_LABEL = b"lineage event id v1\x00"
_IDENTITIES_LABEL = b"lineage identities key v1\x00"


def check_pepper(pepper: bytes) -> bytes:
    """The pepper itself. Raises `ValueError` when it is too short to keep anybody from guessing."""
    if len(pepper) < MIN_PEPPER_SIZE:
        raise ValueError(f"the pepper has {len(pepper)} bytes: use {MIN_PEPPER_SIZE} random bytes or more")
    return pepper


def alias(pepper: bytes, user_id: str) -> bytes:
    """HMAC-SHA-256(pepper, user id in UTF-8), its first 16 bytes: the Kafka key of a person's input events.

    Raises `UnicodeEncodeError` when the user id is no valid Unicode text (lone surrogates).
    """
    return hmac.digest(pepper, user_id.encode(), "sha256")[:ALIAS_SIZE]


def identities_key(pepper: bytes, alias_: bytes, identities: bytes) -> bytes:
    """Key of a record of `identities`: the alias, then 8 bytes that are the same for the same identities.

    The topic is compacted, and a producer cannot read what another has sealed to add to it: with the alias alone for
    a key, a service that knows less of a person would overwrite what another knew.
    """
    return alias_ + hmac.digest(pepper, _IDENTITIES_LABEL + identities, "sha256")[:8]


def derive_event_id(pepper: bytes, content: bytes) -> bytes:
    """16 bytes that are always the same for the same content: a UUID of version 8 (RFC 9562, section 5.8).

    Keyed, because content holds the user id: a plain hash of a guessable row would give it away.
    """
    digest = bytearray(hmac.digest(pepper, _EVENT_ID_LABEL + content, "sha256")[:EVENT_ID_SIZE])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)
