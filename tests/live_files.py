"""Files of folders that are in use: some go, folders too, while we look."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Kafka's index files are made long and empty: of the zeros at the end as many as an identifier may end with.
_ZEROS_KEPT = 64


def contents(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below the folders, with what is in it, but for Java's own."""
    for folder in folders:
        assert folder.is_dir(), f"there is no folder {folder}"
        # `walk` passes over what has gone; `Path.rglob` raises.
        for inside, _, names in os.walk(folder):
            for path in (Path(inside, name) for name in names):
                if path.suffix in {".jar", ".jsa"} or not path.is_file():
                    continue
                try:
                    content = path.read_bytes()
                except FileNotFoundError:
                    continue
                yield path, content[: len(content.rstrip(b"\0")) + _ZEROS_KEPT]
