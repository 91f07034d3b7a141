"""Names of sealed files: what is sealed is what they say (guarantee D12).

`<first>-<last>-<hash>.duckdb` holds these positions of the journal, `import-…` these imported
events, `<first>-<last>.expired` says that the positions were kept long enough. The hash is the
beginning of the file's SHA-256.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"^(import-)?(\d{20})-(\d{20})(?:-([0-9a-f]{16}))?\.(duckdb|expired)$")
_HASHED_AT_ONCE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A file that stands for a range of positions, or of imported events."""

    path: Path
    first: int
    last: int
    is_import: bool
    digest: str | None
    is_expired: bool

    @property
    def records(self) -> int:
        """How many records it stands for."""
        return self.last - self.first + 1


def stem_of(first: int, last: int, is_import: bool = False) -> str:
    """Returns the name of a file without its hash."""
    return f"{'import-' if is_import else ''}{first:020d}-{last:020d}"


def read_name(path: Path) -> SealedFile | None:
    """Returns what a file's name says; None for other files."""
    match = _NAME.match(path.name)
    if match is None:
        return None
    mark, first, last, digest, ending = match.groups()
    return SealedFile(path, int(first), int(last), bool(mark), digest, ending == "expired")


def sealed_files(folder: Path) -> list[SealedFile]:
    """Returns the files that count, in order of their ranges.

    A file whose range lies in that of another is left over from a merging and does not count.
    """
    files = _all(folder)
    return [file for file in files if not _is_left_over(file, files)]


def left_over(folder: Path) -> list[Path]:
    """Returns what a sealing, merging or expiry that was cut short has left."""
    files = _all(folder)
    old = [file.path for file in files if _is_left_over(file, files)]
    return [*folder.glob("*.tmp*"), *old]


def remove(paths: Iterable[Path]) -> None:
    """Removes files, and folders in which DuckDB swapped."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _all(folder: Path) -> list[SealedFile]:
    found = [file for path in folder.iterdir() if (file := read_name(path)) is not None]
    return sorted(found, key=lambda file: (file.is_import, file.first, file.last, file.path.name))


def _is_left_over(file: SealedFile, files: list[SealedFile]) -> bool:
    return any(
        other.is_import == file.is_import
        and other.first <= file.first
        and file.last <= other.last
        and _rank(other) > _rank(file)
        for other in files
    )


def _rank(file: SealedFile) -> tuple[int, bool, str]:
    """Orders files of which one lies in the other: the wider counts, then the expired one."""
    return file.records, file.is_expired, file.path.name


def attaching(path: Path, name: str, options: str = " (READ_ONLY)") -> str:
    """Returns the statement that attaches a file to a DuckDB connection."""
    quoted = str(path).replace("'", "''")
    return f"ATTACH '{quoted}' AS {name}{options}"


def digest_of(path: Path) -> str:
    """Returns the hash that a file's name must hold."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while part := file.read(_HASHED_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()[:16]


def is_whole(file: SealedFile) -> bool:
    """Returns whether a file's content is what its name says."""
    return file.digest is None or digest_of(file.path) == file.digest
