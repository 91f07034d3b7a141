"""Runs `seal.py` in child processes, for processes that do not load DuckDB."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from opentrail.adapters.data_directory.sealed_file_names import SealedFile, read_name
from opentrail.adapters.ipc.child import read_output
from opentrail.core.errors import JournalDamaged

log = logging.getLogger(__name__)

#: Exit status of a child that found the journal damaged.
JOURNAL_DAMAGED = 65
#: The module of most children.
SEAL = "opentrail.adapters.duckdb.seal"
_CHILD_SECONDS = 1_800.0
#: Calls and lookups have priority over child processes.
_CHILD_NICENESS = 5
_NOTHING: Mapping[str, str] = MappingProxyType({})


async def files_of_child(
    work: str, *arguments: object, environment: Mapping[str, str] = _NOTHING
) -> list[SealedFile]:
    """Returns the files that a child wrote, in order; see `seal.py` for its work.

    `environment` has additional variables for the child.

    Raises:
        JournalDamaged: the journal must be repaired first.
        RuntimeError: the child failed.
    """
    paths = await run_child(work, *arguments, environment=environment)
    files = [file for path in paths if (file := read_name(path)) is not None]
    if len(files) != len(paths):
        raise RuntimeError(f"child wrote {paths}")
    return sorted(files, key=lambda file: file.first)


async def run_child(
    work: str,
    *arguments: object,
    environment: Mapping[str, str] = _NOTHING,
    module: str = SEAL,
) -> Sequence[Path]:
    """Runs a child and returns the paths that it prints."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *("nice", "-n", str(_CHILD_NICENESS), sys.executable, "-m", module),
        *map(str, (work, *arguments)),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
    )
    try:
        async with asyncio.timeout(_CHILD_SECONDS):
            output, errors = await read_output(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == JOURNAL_DAMAGED:
        raise JournalDamaged(errors.decode(errors="replace").strip(), 0)
    if process.returncode:
        text = errors.decode(errors="replace").strip()
        log.error("a child process failed", extra={"program": module, "errors": text[-2_000:]})
        last = text.rpartition("\n")[2][:300]
        raise RuntimeError(f"child ended with {process.returncode}: {last}")
    return [Path(line) for line in output.decode().splitlines()]
