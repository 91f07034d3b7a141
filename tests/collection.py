"""Records that AWS wrote, from several publishers.

The whole collection lies next to the checkout, on some machines; a part of it, which may be
redistributed, is in this repository (`data/SOURCES.md`). Checks run over the whole collection if it
exists, otherwise over the part.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

WHOLE = Path(__file__).parents[2] / "shared" / "data" / "cloudtrail"
PART = Path(__file__).parent / "data" / "collection"
IS_WHOLE = WHOLE.is_dir()

#: A check for which the part is too small.
needs_the_whole = pytest.mark.skipif(
    not IS_WHOLE, reason=f"the whole collection of records is not there: {WHOLE}"
)


def at_least(whole: int, part: int) -> int:
    """Returns the minimum number of cases of a check, over the whole or the part."""
    return whole if IS_WHOLE else part


def collected_files() -> list[Path]:
    """Returns the files of the collection, one for each source."""
    return sorted(WHOLE.glob("*.ndjson.gz") if IS_WHOLE else PART.glob("*.ndjson"))


def unpacked(file: Path) -> bytes:
    """Returns a file's records, one a line."""
    content = file.read_bytes()
    return gzip.decompress(content) if file.suffix == ".gz" else content


def collected_records() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields source and record, without envelopes of other services and answers of lookups."""
    for file in collected_files():
        source = file.name.partition(".")[0]
        if "envelopes" not in source and "lookup" not in source:
            for line in unpacked(file).splitlines():
                yield source, json.loads(line)


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields all scalars of a record with their paths; lists do not count as a step."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path, value
