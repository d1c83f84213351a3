"""What of a range of Kafka offsets stands in `lineage`: the loader's way to learn the fate of an insert.

Reads only. Rows are found by their Kafka coordinates; a deduplication token proves nothing (a kill between the
token's record and the part's rename leaves a token without rows).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from clickhouse_driver import Client

from sinks.clickhouse.client import execute
from sinks.clickhouse.queries import COUNT_OFFSETS, PRESENT_OFFSETS


def count_offsets(client: Client, partition: int, start: int, end: int) -> int:
    """How many of the offsets from `start` to `end`, both included, have a row. Raises ClickHouseError."""
    [(count,)] = execute(client, COUNT_OFFSETS, _range(partition, start, end))
    return int(count)


def present_offsets(client: Client, partition: int, start: int, end: int) -> npt.NDArray[np.int64]:
    """The offsets from `start` to `end`, both included, that have a row, ascending, each as often as it has one.

    Raises ClickHouseError.
    """
    rows = execute(client, PRESENT_OFFSETS, _range(partition, start, end))
    return np.fromiter((offset for (offset,) in rows), dtype=np.int64, count=len(rows))


def _range(partition: int, start: int, end: int) -> dict[str, int]:
    return {"partition": partition, "start": start, "end": end}
