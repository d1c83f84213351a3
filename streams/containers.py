"""Avro bodies of one schema, decoded all at once: a container file in memory, read by `polars.read_avro`.

`read_avro` is marked unstable in polars 2; it stands behind `read_container` and nowhere else. Maps and arrays of
records do not come this way (`read_avro` has no maps): our contracts that have them never come in volume.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from typing import Any

import polars as pl

from streams.contracts import Schema


def read_container(schema: Schema, bodies: Sequence[bytes]) -> pl.DataFrame | None:
    """Decodes bodies of one schema through one Avro container in memory; None if any of them is not right.

    A random nonce stands before each body and a sentinel after the last: where a body is too short or too long, the
    next nonce is not where it must be. The caller then decodes one by one. Columns and types: `frame_schema`.
    """
    nonce = os.urandom(8)
    sync = os.urandom(16)
    block = nonce + nonce.join(bodies)
    # The sentinel is the first body once more, between two nonces: only then is the last body's end checked.
    block += nonce + bodies[0]
    framed = {
        "type": "record",
        "name": "Framed",
        "fields": [
            {"name": "_nonce", "type": {"type": "fixed", "name": "Nonce", "size": 8}},
            *({"name": f["name"], "type": _for_polars(f["type"])} for f in schema["fields"]),
        ],
    }
    header = json.dumps(framed).encode()
    metadata = b"".join((_zigzag(1), _zigzag(11), b"avro.schema", _zigzag(len(header)), header, b"\x00"))
    container = b"".join((b"Obj\x01", metadata, sync, _zigzag(len(bodies) + 1), _zigzag(len(block)), block, sync))
    try:
        frame = pl.read_avro(io.BytesIO(container))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OverflowError):
        return None
    if len(frame) != len(bodies) + 1 or not frame.select((pl.col("_nonce") == pl.lit(nonce)).all()).item():
        return None
    wanted = frame_schema(schema)
    return frame.head(len(bodies)).select(pl.col(name).cast(kind) for name, kind in wanted.items())


def _zigzag(number: int) -> bytes:
    number <<= 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def frame_schema(schema: Schema) -> dict[str, Any]:
    """The polars type of each field: times are `Int64` milliseconds, enums `String`, fixed and bytes `Binary`."""
    return {f["name"]: _polars_type(f["type"]) for f in schema["fields"]}


_POLARS = {"string": pl.String, "long": pl.Int64, "int": pl.Int64, "boolean": pl.Boolean, "bytes": pl.Binary}


def _polars_type(node: Any) -> Any:
    if isinstance(node, list):
        return _polars_type(node[1])
    if isinstance(node, dict):
        match node["type"]:
            case "array":
                return pl.List(_polars_type(node["items"]))
            case "enum":
                return pl.String
            case "fixed":
                return pl.Binary
            case primitive:
                return _POLARS[primitive]
    return _POLARS[node]


def _for_polars(node: Any) -> Any:
    """The schema without logical types: integers of milliseconds, as everywhere in the code."""
    if isinstance(node, dict):
        return {key: _for_polars(value) for key, value in node.items() if key != "logicalType"}
    return [_for_polars(value) for value in node] if isinstance(node, list) else node
