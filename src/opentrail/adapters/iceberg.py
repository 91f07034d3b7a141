"""An Apache Iceberg table of the files of an event data store, for Trino, DuckDB and others.

    python -m opentrail.adapters.iceberg LOCATION FAMILY FILE...

The table has exactly these Parquet files. LOCATION and FILE are addresses: `file:///…` or
`s3://BUCKET/…`, and FAMILY is `EventDataStore.family`. The metadata is named as in a Hadoop table,
so no catalog is needed: `metadata/v3.metadata.json`, with the number in
`metadata/version-hint.text`. The file `metadata/sha256.json` has the hashes. Damaged
metadata is replaced, and so is a copy of another table's.

In the files, the members of rows have numbers instead of names: `schema.name-mapping.default` has
both.

It runs in a child of low priority, because PyIceberg and PyArrow need 150 MB. The variable
`ACCESS` has PyIceberg's properties for S3, in JSON.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import orjson
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO, parquet_files_to_data_files
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.serializers import FromInputFile, ToOutputFile
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import TableRequirement, TableUpdate, update_table_metadata
from pyiceberg.types import (
    BooleanType,
    IcebergType,
    ListType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
)

from opentrail.adapters.data_directory.files import sync_file, sync_folder, write_durably
from opentrail.adapters.duckdb.store_folders import ACCESS
from opentrail.adapters.ipc.child import arm_in_child
from opentrail.adapters.ipc.parent import end_with_parent
from opentrail.adapters.table_hashes import HASHES, HINT, TableHashes, read_hashes
from opentrail.core.faults import crash_point
from opentrail.lake.dialect.record_members import lowered
from opentrail.lake.dialect.types import Type
from opentrail.lake.event_history import schema

#: Time for which former snapshots, and the files of their metadata, can be read: as long as the
#: data files that were replaced.
KEPT = timedelta(seconds=3_900)
#: Number of former metadata files that the metadata lists: more than are written in `KEPT`.
_FORMER = "50"
#: The column that statements compute, which files lack.
_COMPUTED = "eventJsonChecksum"
_PRIMITIVES: Mapping[str, IcebergType] = {
    "boolean": BooleanType(),
    "timestamp": TimestampType(),
    "varchar": StringType(),
}
_NAME_MAPPING = "schema.name-mapping.default"


class _Folder(NoopCatalog):
    """Commits to one table by writing the next metadata file, its hash, and then its number."""

    def __init__(self, io: FileIO, location: str) -> None:
        super().__init__("opentrail")
        self._io = io
        self._location = location
        #: Of the newest metadata; 0 before the first.
        self.version = 0
        self._hashes = TableHashes()

    def commit_table(
        self,
        table: Table,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> CommitTableResponse:
        """Writes the metadata after `updates`."""
        for requirement in requirements:
            requirement.validate(table.metadata)
        metadata = update_table_metadata(
            table.metadata, updates, metadata_location=table.metadata_location
        )
        written = {"metadata": metadata, "metadata-location": self.write(metadata)}
        return CommitTableResponse.model_validate(written)

    def write(self, metadata: TableMetadata) -> str:
        """Writes the next metadata file, and returns its location."""
        self.version += 1
        location = self._path(f"v{self.version}.metadata.json")
        ToOutputFile.table_metadata(metadata, self._io.new_output(location), overwrite=True)
        for path in {location, *_metadata_files(self._io, metadata.snapshots)}:
            name = _name(path)
            if path == location or name not in self._hashes.files:
                self._hashes.files[name] = self._hash(path)
                if local := _local(path):
                    sync_file(local)
        if folder := _local(self._path()):
            for created in (folder, folder.parent, folder.parent.parent):
                sync_folder(created)
        self._write(HASHES, msgspec.json.encode(self._hashes))
        crash_point("iceberg.written")
        self._write(HINT, str(self.version).encode())
        self._hashes.version = self.version
        self._write(HASHES, msgspec.json.encode(self._hashes))
        return location

    def opened(self) -> Table:
        """Returns the table, once its newest metadata is known to be whole.

        Raises:
            Exception: it is not, or cannot be read.
        """
        hint = self._read(self._path(HINT))
        self.version = int(hint)
        self._hashes = read_hashes(self._read(self._path(HASHES)))
        path = self._path(self._hashes.newest(hint))
        for name in self._hashes.files if _local(path) else [_name(path)]:
            self._require_whole(self._path(name))
        metadata = FromInputFile.table_metadata(self._io.new_input(path))
        if metadata.location != self._location:
            raise ValueError(f"the table is in {metadata.location}")
        if snapshot := metadata.current_snapshot():
            self._require_whole(snapshot.manifest_list)
            for manifest in snapshot.manifests(self._io):
                self._require_whole(manifest.manifest_path)
        return Table(("opentrail",), metadata, path, self._io, self)

    def delete(self, locations: Iterable[str]) -> None:
        """Deletes files of metadata, and before that their hashes."""
        paths = [*locations]
        for path in paths:
            self._hashes.files.pop(_name(path), None)
        if paths:
            self._write(HASHES, msgspec.json.encode(self._hashes))
        for path in paths:
            with suppress(OSError):
                self._io.delete(path)

    def _require_whole(self, path: str) -> None:
        if self._hashes.files[_name(path)] != self._hash(path):
            raise ValueError(f"{path} is damaged")

    def _hash(self, path: str) -> str:
        return hashlib.sha256(self._read(path)).hexdigest()

    def _path(self, name: str = "") -> str:
        return f"{self._location}/metadata/{name}"

    def _read(self, path: str) -> bytes:
        with self._io.new_input(path).open() as stream:
            return stream.read()

    def _write(self, name: str, content: bytes) -> None:
        path = self._path(name)
        if local := _local(path):
            write_durably(local, content)
        else:
            with self._io.new_output(path).create(overwrite=True) as stream:
                stream.write(content)


def publish(io: FileIO, location: str, family: str, files: Sequence[str], now: datetime) -> int:
    """Gives a table exactly these data files; returns the version of its metadata.

    Args:
        io: reads and writes files.
        location: of the table.
        family: of the store's events, which decides on the columns.
        files: the data files.
        now: the time by which former snapshots are old.

    Returns:
        0 if there is no table, because it never had a file.
    """
    table, folder = _opened(io, location)
    present = {} if table is None else {each.file_path: each for each in _data_files(table)}
    added = [file for file in files if file not in present]
    removed = [each for path, each in present.items() if path not in {*files}]
    if table is None:
        if not files:
            return 0
        metadata = _new_metadata(location, family)
        table = Table(("opentrail",), metadata, folder.write(metadata), io, folder)
    if added or removed:
        former = _former_metadata(table)
        with table.transaction() as transaction:
            if added:
                with transaction.update_schema() as update:
                    update.union_by_name(_schema(family))
            stored = _as_stored(transaction.table_metadata.schema(), family)
            mapping = {_NAME_MAPPING: stored.name_mapping.model_dump_json()}
            transaction.set_properties(mapping)
            with transaction.update_snapshot().overwrite() as overwrite:
                for each in removed:
                    overwrite.delete_data_file(each)
                metadata = transaction.table_metadata.model_copy(update={"schemas": [stored]})
                for each in parquet_files_to_data_files(io, metadata, iter(added)):
                    overwrite.append_data_file(each)
        folder.delete(former - _former_metadata(table) - {table.metadata_location})
        _expire(io, folder, table, now - KEPT)
    return folder.version


def _opened(io: FileIO, location: str) -> tuple[Table | None, _Folder]:
    """Returns the table, None if it must be rewritten, and its folder."""
    folder = _Folder(io, location)
    try:
        return folder.opened(), folder
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise  # it is not damaged, but away
        new = _Folder(io, location)
        if local := _local(location):  # readers may look for higher numbers
            shutil.rmtree(local, ignore_errors=True)
        else:
            new.version = folder.version
        return None, new


def _new_metadata(location: str, family: str) -> TableMetadata:
    properties = {"format-version": "2", "write.metadata.previous-versions-max": _FORMER}
    order = UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER
    return new_table_metadata(_schema(family), *order, location, properties)


def _schema(family: str) -> Schema:
    """Returns the columns that the files of a store have."""
    columns = [(name, kind) for name, kind in schema(family).items() if name != _COMPUTED]
    fields = [
        NestedField(0, name.lower(), _iceberg(lowered(kind)), required=False)
        for name, kind in columns
    ]
    return assign_fresh_schema_ids(Schema(*fields))


def _iceberg(kind: Type) -> IcebergType:
    if kind.name == "row":
        members = zip(kind.fields, kind.args, strict=True)
        return StructType(
            *(NestedField(0, str(name), _iceberg(each), required=False) for name, each in members)
        )
    if kind.name == "map":
        key, value = map(_iceberg, kind.args)
        return MapType(0, key, 0, value, value_required=False)
    if kind.name == "array":
        return ListType(0, _iceberg(kind.args[0]), element_required=False)
    return _PRIMITIVES[kind.name]


def _as_stored(table: Schema, family: str) -> Schema:
    """Returns a table's schema with the names of the files, where members of rows have numbers."""
    kinds = {name.lower(): lowered(kind) for name, kind in schema(family).items()}
    fields = [
        each.model_copy(update={"field_type": _stored(each.field_type, kinds[each.name])})
        for each in table.fields
        if each.name in kinds
    ]
    return Schema(*fields, schema_id=table.schema_id)


def _stored(kind: IcebergType, typed: Type) -> IcebergType:
    if isinstance(kind, StructType):
        places = [(each, typed.field(each.name)) for each in kind.fields]
        return StructType(
            *(
                NestedField(
                    each.field_id,
                    f"f{place}",
                    _stored(each.field_type, typed.args[place]),
                    required=False,
                )
                for each, place in places
                if place is not None
            )
        )
    if isinstance(kind, ListType):
        element = _stored(kind.element_type, typed.args[0])
        return ListType(kind.element_id, element, element_required=False)
    return kind


def _data_files(table: Table) -> list[Any]:
    return [task.file for task in table.scan().plan_files()]


def _former_metadata(table: Table) -> set[str]:
    return {entry.metadata_file for entry in table.metadata.metadata_log}


def _expire(io: FileIO, folder: _Folder, table: Table, before: datetime) -> None:
    """Forgets old snapshots, and deletes the files of their metadata."""
    current = table.metadata.current_snapshot_id
    old = [
        each
        for each in table.snapshots()
        if each.snapshot_id != current and each.timestamp_ms < before.timestamp() * 1_000
    ]
    if not old:
        return
    expired = _metadata_files(io, old)
    with table.maintenance.expire_snapshots() as expiry:
        for each in old:
            expiry.by_id(each.snapshot_id)
    crash_point("iceberg.expired")
    folder.delete(expired - _metadata_files(io, table.snapshots()))


def _metadata_files(io: FileIO, snapshots: Iterable[Snapshot]) -> set[str]:
    """Returns the manifests of snapshots, and the lists of these."""
    found: set[str] = set()
    for snapshot in snapshots:
        found.add(snapshot.manifest_list)
        with suppress(OSError):
            found.update(each.manifest_path for each in snapshot.manifests(io))
    return found


def _local(address: str) -> Path | None:
    """Returns the path of a local address."""
    return Path(address.removeprefix("file://")) if address.startswith("file://") else None


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def main() -> None:
    """Brings a table up to date."""
    end_with_parent()
    os.umask(0o077)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent ignores it
    arm_in_child(("iceberg.written", "iceberg.expired"))
    location, family, *files = sys.argv[1:]
    io = PyArrowFileIO(orjson.loads(os.environ.get(ACCESS, "{}")))
    publish(io, location, family, files, datetime.now(UTC))


if __name__ == "__main__":
    main()
