"""The index of a sealed file in S3, which answers questions without reading the file.

`<name>.index` has a header in msgpack, with its length in four bytes before it. One list follows
for each attribute of LookupEvents but ReadOnly: the sorted 32-bit hashes of the values of the
file's events.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from opentrail.adapters.data_directory.files import write_durably
from opentrail.adapters.duckdb.index import HASH, hash_of
from opentrail.adapters.duckdb.schema import FORMAT
from opentrail.core.errors import StorageFailed

#: Attribute key of LookupEvents → its values in a table of events.
COLUMNS = {
    "EventName": "event_name",
    "EventSource": "event_source",
    "Username": "username",
    "AccessKeyId": "access_key_id",
    "ResourceType": "unnest(resource_types)",
}
#: An attribute with more pairs of value and category than this is omitted.
MAX_VALUES = 5_000
#: One row per value and category, and one with NULL for each listed attribute.
VALUES = "CREATE TABLE made.held (attribute VARCHAR, value VARCHAR, category VARCHAR)"


def fill_values(connection: duckdb.DuckDBPyConnection) -> None:
    """Lists the values in `made.events`."""
    for attribute, values in COLUMNS.items():
        rows = connection.execute(
            "SELECT DISTINCT * FROM"  # noqa: S608 - ours
            f" (SELECT {values} AS value, category FROM made.events) WHERE value IS NOT NULL"
            " LIMIT ?",
            [MAX_VALUES + 1],
        ).fetchall()
        if len(rows) <= MAX_VALUES:
            with_mark = [*rows, (None, None)]
            connection.execute(
                "INSERT INTO made.held SELECT ?, unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
                [attribute, *map(list, zip(*with_mark, strict=True))],
            )


class ValueFilter:
    """The values of a file, as sorted hashes of eight bytes.

    Args:
        rows: attribute, value and category, as in `VALUES`.
    """

    def __init__(self, rows: Iterable[tuple[str, str | None, str | None]]) -> None:
        hashes: dict[str, list[int]] = {}
        categories: set[str | None] = set()
        attributes: set[str] = set()
        for attribute, value, category in rows:
            if value is None:
                attributes.add(attribute)
            else:
                hashes.setdefault(attribute, []).append(hash((value, category)))
                categories.add(category)
        self._categories = tuple(categories)
        self._hashes = {
            attribute: array("q", sorted(hashes.get(attribute, ()))) for attribute in attributes
        }

    def may_contain(
        self, attribute: str, value: str, categories: Sequence[str] | None = None
    ) -> bool:
        """Returns False only if no event of these categories (None: of any) has this value."""
        hashes = self._hashes.get(attribute)
        if hashes is None:
            return True
        searched = self._categories if categories is None else categories
        return any(_holds(hashes, hash((value, category))) for category in searched)


def _holds(hashes: array[int], value: int) -> bool:
    place = bisect_left(hashes, value)
    return place < len(hashes) and hashes[place] == value


#: Bytes of a sealed file downloaded, verified and cached together, in new indexes.
BLOCK_BYTES = 512 * 1024
_BITS = 0xFFFF_FFFF
_HASHED = HASH.format("category || ' ' || value")
_LENGTH = struct.Struct("<I")
#: Hashed input: a category and a value, so that files with the value in other categories are not
#: read. Event ids are found in any category.
_VALUES = (
    f"SELECT DISTINCT CAST({_HASHED} & {_BITS} AS UINTEGER) AS h"  # noqa: S608
    " FROM (SELECT {} AS value, category FROM {}) WHERE value IS NOT NULL ORDER BY h"
)
_IDS = f"SELECT DISTINCT CAST(h & {_BITS} AS UINTEGER) AS h FROM ids ORDER BY h"  # noqa: S608
_ABOUT = ("format", "first", "last", "oldest", "newest", "newest_recorded", "chain_before")


#: The format of a Parquet file, whose index lists only the blocks.
_PARQUET = 0


class _Header(msgspec.Struct, frozen=True):
    #: Format of the sealed file.
    format: int
    first: int
    last: int
    oldest: int
    newest: int
    newest_recorded: int
    chain_before: bytes
    #: Bytes of the sealed file.
    size: int
    block_bytes: int
    #: SHA-256 of each of its blocks.
    blocks: tuple[bytes, ...]
    categories: tuple[str, ...]
    #: Attribute → the number of its hashes; their lists follow in this order.
    hashes: dict[str, int]


class FileIndex:
    """An index in memory; the lists of hashes stay on disk.

    `oldest` and `newest` are event times in seconds, `newest_recorded` is in microseconds.

    Raises:
        StorageFailed: this version does not read the file's format.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            (length,) = _LENGTH.unpack_from(content)
            place = _LENGTH.size + length
            header = msgspec.msgpack.decode(content[_LENGTH.size : place], type=_Header)
        except (ValueError, struct.error, msgspec.MsgspecError) as error:
            raise StorageFailed(f"history: the index {path.name} is damaged: {error}") from error
        if header.format not in (FORMAT, _PARQUET):
            name = path.with_suffix(".duckdb").name
            raise StorageFailed(
                f"history: {name} in S3 is of format {header.format}; this version "
                f"reads format {FORMAT}"
            )
        self.first, self.last = header.first, header.last
        self.oldest, self.newest = header.oldest, header.newest
        self.newest_recorded = header.newest_recorded
        self.chain_before = header.chain_before
        self.size, self.block_bytes = header.size, header.block_bytes
        self.blocks = header.blocks
        self._categories = header.categories
        self._hashes: dict[str, memoryview] = {}
        for attribute, count in header.hashes.items():
            self._hashes[attribute] = content[place : place + 4 * count].cast("I")
            place += 4 * count

    def may_contain(
        self, attribute: str, value: str, categories: Sequence[str] | None = None
    ) -> bool:
        """Returns False only if no event of these categories (None: of any) has this value."""
        hashes = self._hashes.get(attribute)
        if hashes is None:
            return True
        if attribute == "EventId":
            return _contains(hashes, value)
        searched = self._categories if categories is None else categories
        return any(_contains(hashes, f"{category} {value}") for category in searched)


def _contains(hashes: memoryview, value: str) -> bool:
    number = hash_of(value) & _BITS
    place = bisect_left(hashes, number)
    return place < len(hashes) and bool(hashes[place] == number)


def write_index(file: Path) -> Path:
    """Writes the index of a sealed file next to it, and returns its path.

    The index of an event data store's file has only its blocks.
    """
    if file.suffix == ".parquet":
        return _write(file, (_PARQUET, 0, 0, 0, 0, 0, b""), (), {})
    with duckdb.connect(str(file), read_only=True) as connection:
        about = connection.execute(f"SELECT {', '.join(_ABOUT)} FROM about").fetchall()[0]  # noqa: S608
        categories = connection.execute(
            "SELECT DISTINCT category FROM events ORDER BY 1"
        ).fetchall()
        statements = {"EventId": _IDS, "ResourceName": _VALUES.format("name", "resources")}
        for attribute, column in COLUMNS.items():
            statements[attribute] = _VALUES.format(column, "events")
        lists = {
            attribute: connection.execute(statement).fetchnumpy()["h"].astype("<u4").tobytes()
            for attribute, statement in statements.items()
        }
    return _write(file, about, tuple(category for (category,) in categories), lists)


def _write(
    file: Path, about: Sequence[Any], categories: tuple[str, ...], lists: dict[str, bytes]
) -> Path:
    with file.open("rb") as content:
        blocks = [hashlib.sha256(b).digest() for b in iter(partial(content.read, BLOCK_BYTES), b"")]
    more: dict[str, Any] = {
        "size": file.stat().st_size,
        "block_bytes": BLOCK_BYTES,
        "blocks": tuple(blocks),
        "categories": categories,
        "hashes": {attribute: len(hashes) // 4 for attribute, hashes in lists.items()},
    }
    header = msgspec.msgpack.encode(_Header(**dict(zip(_ABOUT, about, strict=True)), **more))
    path = file.with_suffix(".index")
    write_durably(path, b"".join((_LENGTH.pack(len(header)), header, *lists.values())))
    return path
