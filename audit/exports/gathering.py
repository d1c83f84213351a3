"""What an export needs beside the lineage, asked of ClickHouse: the person's erasure requests.

Reads only. What was published arrives as arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from clickhouse_driver import Client

from audit.exports.background import Background, Operator, Record
from sinks.clickhouse.erasures import erasure_request, open_request_of


def background_of(
    client: Client,
    alias: bytes,
    lineage: Mapping[str, Any],
    policies: Sequence[Record],
    recipients: Sequence[Record],
    operator: Operator,
    exported_at: int,
    as_of: int | None = None,
) -> Background:
    """The background of a lineage. exported_at, as_of: ms. Raises ClickHouseError.

    A request as it stands now says more than was known at `as_of`: one that went on after it is left out.
    """
    found: dict[str, Record] = {}
    named = {e["request_id"] for e in lineage["events"] if e["activity"] == "erase" and e["request_id"]}
    for request_id in sorted(named):
        request = erasure_request(client, UUID(request_id))
        if request is not None:
            found[request_id] = request
    if (asked := open_request_of(client, alias)) is not None:
        found[asked["request_id"]] = asked
    requests = [request for request in found.values() if as_of is None or _last_change(request) <= as_of]
    requests.sort(key=lambda request: (request["received_at"], request["request_id"]))
    return Background(policies, recipients, requests, operator, exported_at, as_of)


def _last_change(request: Record) -> int:
    moments: list[int] = [request["received_at"], *(moment["occurred_at"] for moment in request["history"])]
    return max(moments)
