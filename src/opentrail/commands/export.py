"""The command itself: a streamed search goes into files, part by part."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from opentrail.commands.client import find
from opentrail.commands.export_files import KINDS, Parts
from opentrail.commands.progress import Progress
from opentrail.core.errors import OpentrailError
from opentrail.core.text import printable

PATH = "/api/v1/events/stream"


def run(options: argparse.Namespace, conditions: Mapping[str, str | None]) -> int:
    """Writes what fits into files, tells how much it was, and returns the exit code.

    Raises:
        UsageError: the folder is not empty, no server is found, or the search makes no sense.
        OpentrailError: not all was written; the files that are there are whole.
    """
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
                raise _stopped(error, parts) from error
            finally:
                parts.abandon()
    finally:
        progress.end()
    if options.json:
        told = {"events": count, "folder": str(parts.folder), "files": parts.names}
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        files = "1 file" if len(parts.names) == 1 else f"{len(parts.names):,} files"
        folder = printable(str(parts.folder))
        sys.stdout.write(
            f"{count:,} {'event' if count == 1 else 'events'} in {files} of {folder}\n"
        )
    return 0


def _export(answer: Iterator[list[dict[str, Any]]], parts: Parts, progress: Progress) -> int:
    """Writes all events of an answer, and returns how many its last line says there are."""
    count = 0
    for lines in answer:
        events = [line for line in lines if "EventId" in line]
        parts.add(events)
        count += len(events)
        if len(events) < len(lines):
            return _checked(lines[-1], count)
        progress.advance(sum(len(event["CloudTrailEvent"]) for event in events), len(events))
    raise OpentrailError("the server's answer was cut")


def _checked(end: dict[str, Any], count: int) -> int:
    if "error" in end:
        raise OpentrailError(printable(str(end["error"])))
    if end.get("events") != count:
        raise OpentrailError(f"the server counts {end.get('events')} events, {count} came")
    return count


def _stopped(error: OpentrailError, parts: Parts) -> OpentrailError:
    """Returns the error with how far the export came."""
    stopped = OpentrailError(
        f"{error}; {parts.whole:,} events are in {len(parts.names):,} whole files of"
        f" {printable(str(parts.folder))}. Run the same command with --overwrite to start anew"
    )
    stopped.exit_code = error.exit_code
    return stopped
