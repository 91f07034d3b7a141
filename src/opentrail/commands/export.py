"""Exports events that match a search into files of limited size."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from opentrail.adapters.data_directory.files import sync_file, sync_folder
from opentrail.adapters.parquet import COLUMNS, OcsfParquetFile, ParquetFile
from opentrail.commands.arguments import add_client, add_conditions
from opentrail.commands.client import find
from opentrail.commands.conditions import conditions_of
from opentrail.commands.progress import Progress
from opentrail.commands.rendering import one_line, print_json, warn_of_missing
from opentrail.core.attributes import attributes_of
from opentrail.core.errors import OpentrailError, StorageFailed, UsageError
from opentrail.core.event import format_time
from opentrail.core.ocsf import ocsf_event
from opentrail.core.text import counted, csv_line, printable

if TYPE_CHECKING:
    from opentrail.who.shapes import StreamedEvent

PATH = "/api/v1/events/stream"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_conditions(parser)
    kinds = parser.add_mutually_exclusive_group(required=True)
    kinds.add_argument("--parquet", metavar="DIR", help="Parquet: typed columns and the record")
    kinds.add_argument("--ndjson", metavar="DIR", help="the exact records, one on each line")
    kinds.add_argument("--ocsf", metavar="DIR", help="OCSF 1.5 API Activity, one on each line")
    kinds.add_argument("--ocsf-parquet", metavar="DIR", help="the same as Parquet: nested columns")
    kinds.add_argument("--csv", metavar="DIR", help="CSV: the same columns as Parquet")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the files of an earlier export"
    )
    add_client(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Writes matching events into files, prints their number and returns the exit code.

    Raises:
        UsageError: the folder is not empty, no server is found, or the search is invalid.
        OpentrailError: the export is incomplete; its existing files are complete.
    """
    conditions = conditions_of(options)
    kind = next(kind for kind in KINDS if getattr(options, kind) is not None)
    parts = Parts(Path(getattr(options, kind)), kind, options.overwrite)
    parts.check()
    progress = Progress(sys.stderr)
    try:
        with find(options).lines(PATH, conditions) as answer:
            parts.begin()
            try:
                count = _export(answer, parts, progress)
                parts.finish()
            except OpentrailError as error:
                raise _stop_error(error, parts) from error
            finally:
                parts.abandon()
    finally:
        progress.end()
    if options.json:
        document = {"events": count, "folder": str(parts.folder), "files": parts.names}
        print_json(document)
    else:
        files, folder = counted(len(parts.names), "file"), printable(str(parts.folder))
        sys.stdout.write(f"{counted(count, 'event')} in {files} of {folder}\n")
    return 0


def _export(answer: Iterator[list[Any]], parts: Parts, progress: Progress) -> int:
    """Writes all events of an answer and returns their number, checked against its last line.

    Prints on standard error the ranges missing from the answer.
    """
    count = 0
    for lines in answer:
        events = [line for line in lines if "EventId" in line]
        parts.add(events)
        count += len(events)
        if len(events) < len(lines):
            checked = _check_count(lines[-1], count)
            progress.end()
            warn_of_missing(lines[-1])
            return checked
        progress.advance(sum(len(event["CloudTrailEvent"]) for event in events), len(events))
    raise OpentrailError("the server's answer was cut")


def _check_count(end: Mapping[str, Any], count: int) -> int:
    if "error" in end:
        raise OpentrailError(printable(str(end["error"])))
    if end.get("events") != count:
        raise OpentrailError(f"the server counts {end.get('events')} events, but sent {count}")
    return count


def _stop_error(error: OpentrailError, parts: Parts) -> OpentrailError:
    """Returns the error with the state of the folder."""
    folder = printable(str(parts.folder))
    if parts.replaces:
        stopped = OpentrailError(f"{error}; the earlier export in {folder} is unchanged")
    else:
        stopped = OpentrailError(
            f"{error}; {parts.whole:,} events are in {len(parts.names):,} whole files of {folder}."
            " Run the same command with --overwrite to start again"
        )
    stopped.exit_code = error.exit_code
    return stopped


Row = tuple[Any, ...]


def row_of(event: StreamedEvent) -> Row:
    """Returns the row of an event in the form of LookupEvents, in the order of `COLUMNS`."""
    record = event["CloudTrailEvent"]
    attributes = attributes_of(orjson.loads(record))
    return (
        event["position"],
        event["EventTime"],
        event["EventId"],
        event["EventName"],
        event["EventSource"],
        attributes.read_only,
        event.get("Username"),
        event.get("AccessKeyId"),
        attributes.account,
        attributes.region,
        attributes.category,
        attributes.source_ip,
        attributes.error_code,
        attributes.principal_arn,
        [resource.get("ResourceType") for resource in event["Resources"]],
        [resource["ResourceName"] for resource in event["Resources"]],
        record,
    )


def csv_row(event: StreamedEvent) -> str:
    """Returns an event as a line of CSV without formulas (guarantee N7)."""
    position, seconds, *values, record = row_of(event)
    moment = format_time(datetime.fromtimestamp(seconds, UTC))
    return csv_line([position, moment, *map(_text, values)], unchanged=[record])


def record_line(event: StreamedEvent) -> str:
    return one_line(event["CloudTrailEvent"]) + "\n"


def ocsf_line(event: StreamedEvent) -> str:
    """Returns an event in the form of the Open Cybersecurity Schema Framework."""
    return orjson.dumps(ocsf_event(orjson.loads(event["CloudTrailEvent"]))).decode() + "\n"


def ocsf_row(event: StreamedEvent) -> Row:
    return (ocsf_line(event),)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(item or "" for item in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


#: Maximum events in a file.
MAX_ROWS = 250_000
#: Maximum bytes of records in a file; Parquet needs a tenth of the bytes.
MAX_BYTES = 128_000_000
#: An empty file that marks a complete export for Spark and others.
SUCCESS = "_SUCCESS"
_OURS = re.compile(r"events-\d{5,}\.(parquet|ndjson|ocsf|csv)|_SUCCESS")
_UNFINISHED = re.compile(r"\.events-\d{5,}\.\w+\.tmp")


class PartFile(Protocol):
    """A file of rows."""

    def add(self, rows: Sequence[Any]) -> None: ...

    def finish(self) -> None:
        """Returns once the file is written, but not necessarily durable."""
        ...

    def close(self) -> None:
        """Abandons the file."""
        ...


class NdjsonFile:
    """The exact records, one on each line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")

    def add(self, rows: Sequence[str]) -> None:
        self._file.writelines(rows)

    def finish(self) -> None:
        self._file.close()

    def close(self) -> None:
        self._file.close()


class CsvFile(NdjsonFile):
    """A header, then a row for each event."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file.write(csv_line(COLUMNS))


#: Kind → suffix of the file name, the file's class, and the function that makes a row.
KINDS: dict[str, tuple[str, Callable[[Path], PartFile], Callable[[StreamedEvent], Any]]] = {
    "parquet": ("parquet", ParquetFile, row_of),
    "ndjson": ("ndjson", NdjsonFile, record_line),
    "ocsf": ("ocsf", NdjsonFile, ocsf_line),
    "ocsf_parquet": ("parquet", OcsfParquetFile, ocsf_row),
    "csv": ("csv", CsvFile, csv_row),
}


class Parts:
    """The files of one export in a folder.

    The files of an earlier export stay until `finish`, which replaces them.

    Raises:
        UsageError: the folder is not empty, and `overwrite` is false.
        StorageFailed: a file cannot be written.
    """

    def __init__(self, folder: Path, kind: str, overwrite: bool) -> None:
        self.folder = folder
        self.names: list[str] = []
        #: Events in complete files.
        self.whole = 0
        #: Whether the folder has the files of an earlier export.
        self.replaces = False
        self._suffix, self._make, self._form = KINDS[kind]
        self._overwrite = overwrite
        self._part: PartFile | None = None
        self._rows = self._bytes = 0

    def check(self) -> None:
        """Checks that the folder is missing, empty or may be overwritten."""
        try:
            holds = self.folder.is_dir() and any(self.folder.iterdir())
        except OSError as error:
            raise UsageError(f"{self.folder}: {error.strerror}") from error
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{self.folder} is not a folder")
        if holds and not self._overwrite:
            raise UsageError(
                f"{self.folder} is not empty; --overwrite replaces the files of an earlier export"
            )

    def begin(self) -> None:
        """Creates the folder, and removes unfinished files of a killed export."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for file in self._files(_UNFINISHED):
                file.unlink()
            self.replaces = bool(self._files(_OURS))
            self._open_part()
        except OSError as error:
            raise self._write_error(error) from error

    def add(self, events: Sequence[StreamedEvent]) -> None:
        """Adds events; finishes a full file and opens the next one."""
        rows = []
        try:
            for event in events:
                rows.append(self._form(event))
                self._rows += 1
                self._bytes += len(event["CloudTrailEvent"])
                if self._rows >= MAX_ROWS or self._bytes >= MAX_BYTES:
                    self._open_part().add(rows)
                    self._finish_part()
                    rows = []
            if rows:
                self._open_part().add(rows)
        except OSError as error:
            raise self._write_error(error) from error

    def finish(self) -> None:
        """Finishes the last file, empty if there are no events, and marks the export complete."""
        try:
            if self._part is not None:
                self._finish_part()
            if self.replaces:
                self._replace()
            (self.folder / SUCCESS).write_bytes(b"")
            sync_folder(self.folder)
        except OSError as error:
            raise self._write_error(error) from error

    def abandon(self) -> None:
        """Removes the unfinished file, and the finished ones that haven't replaced others."""
        if self._part is not None:
            self._part.close()
            self._part = None
            self._temporary(self._name).unlink(missing_ok=True)
        for name in self.names if self.replaces else ():
            self._temporary(name).unlink(missing_ok=True)

    def _replace(self) -> None:
        """Replaces an earlier export: a file of either is whole, also after a crash."""
        self.replaces = False
        (self.folder / SUCCESS).unlink(missing_ok=True)
        for name in self.names:
            self._temporary(name).replace(self.folder / name)
        for file in self._files(_OURS):
            if file.name not in self.names:
                file.unlink()
        sync_folder(self.folder)

    def _files(self, names: re.Pattern[str]) -> list[Path]:
        files = list(self.folder.iterdir())
        return [file for file in files if names.fullmatch(file.name) and file.is_file()]

    def _open_part(self) -> PartFile:
        if self._part is None:
            self._part = self._make(self._temporary(self._name))
        return self._part

    def _finish_part(self) -> None:
        part, name = self._open_part(), self._name
        part.finish()
        sync_file(self._temporary(name))
        if not self.replaces:
            self._temporary(name).rename(self.folder / name)
            sync_folder(self.folder)
        self.names.append(name)
        self.whole += self._rows
        self._part, self._rows, self._bytes = None, 0, 0

    @property
    def _name(self) -> str:
        return f"events-{len(self.names) + 1:05}.{self._suffix}"

    def _temporary(self, name: str) -> Path:
        return self.folder / f".{name}.tmp"

    def _write_error(self, error: OSError) -> StorageFailed:
        return StorageFailed(f"{self.folder} cannot be written: {error.strerror}")
