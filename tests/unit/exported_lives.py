"""Lineages of invented people for the tests of exports: rows as the table has them, judged by the real processors under
the policy and the registry that ship.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from typing import Any
from uuid import UUID

from audit.exports.background import Background, Operator
from audit.exports.under_policy import under_policy
from audit.subject import events_for_json
from processors.knowledge import Knowledge, Policy, Recipient
from schemas import schema_dir
from streams.policies import load_policy, load_recipients, policy_record, recipient_records

SUBJECT = "6f6b1f4c-5a0e-4a5f-9a0b-0d3f5f6a7b8c"
REQUEST = "0b9a8c7d-1111-4222-8333-444455556666"
START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = round(datetime(2026, 7, 1, tzinfo=UTC).timestamp() * 1000)
OPERATOR = Operator(
    name="Aoxun <Photos> & Co",
    address="1 Harbour Road, Shenzhen",
    contact="privacy@aoxun.example",
    country="CN",
    jurisdiction="CN",
    storage_countries=("CN",),
    withdrawal="in the app: Settings, Privacy",
    requests="privacy@aoxun.example",
)
_COLLECTIONS = [
    ("app_open", ["ip", "device_id", "app_version"]),
    ("upload_photo", ["photo", "file_name"]),
    ("ad_impression", ["ad_id", "platform"]),
    ("purchase", ["amount", "payment_method"]),
]
_DISCLOSURES = [
    ("share", "self", "lumen-analytics", "development", ["user.device", "user.telemetry"]),
    ("share", "self", "brightlane-ads", "ad_recommendation", ["user.device", "user.telemetry"]),
    ("share", "brightlane-ads", "meridian-exchange", "ad_recommendation", ["user.device.device_id"]),
    ("share", "self", "nobody-knows", "service", ["user.payment"]),
    ("share", "self", "cyber-bureau", "security", ["user.account"]),
    ("publish", "self", None, None, ["user.content.private"]),
]


@cache
def reference() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The policies (versions 1 and 2) and the registry that ship, as records."""
    folder = schema_dir() / "policies"
    policies = [folder / "aoxun.yaml", folder / "examples" / "aoxun-v2.yaml"]
    return (
        [policy_record(load_policy(path)) for path in policies],
        recipient_records(load_recipients(folder / "recipients-example.yaml")),
    )


def background(operator: Operator = OPERATOR, **more: Any) -> Background:
    policies, recipients = reference()
    return Background(policies, recipients, operator=operator, exported_at=NOW, **more)


def lineage(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What `subject_lineage` gives of these rows, with real verdicts under policy version 1."""
    policies, recipients = reference()
    knowledge = Knowledge(map(Policy.from_record, policies), map(Recipient.from_record, recipients))
    rows = sorted(rows, key=lambda row: (row["occurred_at"], row["event_id"]))
    return under_policy({"subject": SUBJECT, "events": events_for_json(rows)}, knowledge, 1)


def life(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """A person who accepts, uses, agrees to things and withdraws, and asks for erasure at the end; `count` events."""
    draw = random.Random(seed)
    rows = [
        consent("accept", minutes=0, consent_version=1),
        consent("grant", 1, consent_activity="publish", purpose="*", data_categories=["user.content"]),
        consent("grant", 2, consent_activity="share", purpose="service", recipient="redpay", data_categories=["*"]),
        consent("withdraw", 3, consent_activity="use", purpose="ad_recommendation"),
        consent("withdraw", 100_000, consent_activity="share", purpose="*", recipient="*", data_categories=["*"]),
        row("erase", 240_000, erasure_phase="requested", request_id=UUID(REQUEST)),
    ]
    while len(rows) < count:
        minutes = 5 + draw.randrange(200_000)
        if draw.random() < 0.6:
            kind, fields = draw.choice(_COLLECTIONS)
            rows.append(row("collect", minutes, event_type=kind, fields=fields, region="CN", storage_country="CN"))
        else:
            activity, discloser, recipient, purpose, categories = draw.choice(_DISCLOSURES)
            rows.append(
                row(
                    activity,
                    minutes,
                    discloser=discloser,
                    recipient=recipient,
                    given_purpose=purpose,
                    given_categories=categories,
                    region="CN",
                    collected_at=START,
                    legal_order="order 17/2026" if recipient == "cyber-bureau" else None,
                )
            )
    return rows


def consent(action: str, minutes: int, **values: Any) -> dict[str, Any]:
    return row("consent", minutes, consent_action=action, verdict="none", **values)


# Ids in the order of the calls, whichever tests ran before.
_numbers = count(1)


def row(activity: str, minutes: int, **values: Any) -> dict[str, Any]:
    """A row of the table `lineage`, `minutes` after the start."""
    at = START + timedelta(minutes=minutes)
    return {
        "event_id": UUID(int=next(_numbers) << 80, version=4),
        "occurred_at": at,
        "activity": activity,
        "event_type": "",
        "discloser": "",
        "recipient": None,
        "recipient_kind": None,
        "recipient_effective_at": None,
        "purpose": None,
        "given_purpose": None,
        "data_categories": [],
        "given_categories": [],
        "fields": [],
        "region": None,
        "storage_country": None,
        "collected_at": None,
        "legal_order": None,
        "legal_basis": "none",
        "verdict": "none",
        "clauses": [],
        "findings": [],
        "policy_version": 0,
        "sensitive": False,
        "consent_action": "none",
        "consent_version": 0,
        "consent_activity": None,
        "age_band": None,
        "guardian_granted": None,
        "erasure_phase": "none",
        "request_id": UUID(int=0),
        "revision": 0,
        "judged_at": at,
        "source": "sdk",
        "kafka_partition": 0,
        "kafka_offset": 0,
        **values,
    }
