"""Records of the topic `lineage`, decoded a batch at a time into what the table is made of. Knows no consumer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from processors.coded import CodedRows
from streams.columnar import BatchDecoder
from streams.serdes import DecodeError

RECORDS = frozenset({"CollectionRecorded", "DisclosureRecorded", "ConsentRecorded", "ErasureRecorded"})
SUBJECT_SIZE = 16
Ints = npt.NDArray[np.int64]


def decode_records(
    decoder: BatchDecoder, keys: Sequence[bytes], values: Sequence[bytes], partitions: Ints, offsets: Ints
) -> tuple[list[tuple[str, CodedRows]], dict[int, DecodeError]]:
    """Pairs of record type and records, each with `subject`, `kafka_partition` and `kafka_offset`; and by position what
    cannot be read. Codes are void once the decoder forgets its tails."""
    joined = b"".join(keys)
    if set(map(len, keys)) - {SUBJECT_SIZE}:
        error = DecodeError("its key is no subject")
        wrong = {i: error for i, key in enumerate(keys) if len(key) != SUBJECT_SIZE}
        good = [i for i in range(len(keys)) if i not in wrong]
        parts, refused = decode_records(
            decoder, [keys[i] for i in good], [values[i] for i in good], partitions[good], offsets[good]
        )
        return parts, wrong | {good[i]: error for i, error in refused.items()}
    batches, refused = decoder.decode(values, RECORDS) if values else ([], {})
    subjects = np.frombuffer(joined, np.uint8).reshape(-1, SUBJECT_SIZE)
    parts = []
    for tails, batch in batches:
        columns: dict[str, npt.NDArray[Any]] = {
            **batch.columns,
            "subject": subjects[batch.index],
            "kafka_partition": partitions[batch.index],
            "kafka_offset": offsets[batch.index],
        }
        parts.append((batch.name, CodedRows(columns, batch.tail, tails.tails)))
    return parts, refused
