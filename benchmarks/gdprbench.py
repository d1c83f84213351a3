"""The mixes of GDPRbench's roles, and what each of its queries is here. Data only; asks nothing.

Proportions and distributions: github.com/GDPRbench/GDPRbench, src/workloads/gdpr_controller, gdpr_customer and
gdpr_processor at commit 94d399c, gdpr_regulator at 1716696. That last file has the 46% of metadata reads only; the
shares of logs and verification are those that the paper is known for (Shastri et al., PVLDB 13(7), 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

CREATE = "create-record"
DELETE = "delete-record"
UPDATE = "update-data"
UPDATE_BY_PURPOSE = "update-metadata-by-PUR"
UPDATE_BY_USER = "update-metadata-by-USR"
READ = "read-data-by-USR"
READ_BY_KEY = "read-data-by-KEY"
PURPOSE_OF_USER = "read-metadata-by-PUR, own"
BY_PURPOSE = "read-metadata-by-PUR"
BY_USER = "read-metadata-by-USR"
LOGS = "get-system-logs"
VERIFY = "verify-deletion"

# What a query of GDPRbench asks of this system (docs/benchmarks.md says why).
CALLS: Mapping[str, str] = {
    CREATE: "Kafka: an event of the producer client",
    DELETE: "POST /opendsr/2.0/requests",
    UPDATE: "Kafka: an event of the producer client",
    UPDATE_BY_PURPOSE: "Kafka: a consent for a purpose",
    UPDATE_BY_USER: "Kafka: an acceptance of the policy",
    READ: "POST /subjects/access-report",
    READ_BY_KEY: "GET /events/{id}",
    PURPOSE_OF_USER: "POST /subjects/accounting",
    BY_PURPOSE: "GET /events?purpose=",
    BY_USER: "POST /subjects/lineage",
    LOGS: "GET /looks",
    VERIFY: "GET /requests/{id}",
}


@dataclass(frozen=True)
class Mix:
    """What a role asks: query → per cent; and of whom: everybody as often (uniform), or few people mostly (zipfian)."""

    distribution: Literal["uniform", "zipfian"]
    queries: Mapping[str, int]


ROLES: Mapping[str, Mix] = {
    "controller": Mix("uniform", {CREATE: 25, DELETE: 25, UPDATE_BY_PURPOSE: 25, UPDATE_BY_USER: 25}),
    "customer": Mix(
        "zipfian",
        {
            READ: 20,
            PURPOSE_OF_USER: 10,
            BY_USER: 10,
            UPDATE: 20,
            UPDATE_BY_PURPOSE: 10,
            UPDATE_BY_USER: 10,
            DELETE: 20,
        },
    ),
    "processor": Mix("uniform", {READ_BY_KEY: 20, BY_PURPOSE: 40, BY_USER: 40}),
    "regulator": Mix("zipfian", {BY_USER: 46, LOGS: 31, VERIFY: 23}),
}
