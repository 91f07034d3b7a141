"""Names of sealed files, which give their contents (guarantee D12).

`<first>-<last>-<hash>.duckdb` holds these positions of the journal, `import-<first>-…` these
imported events. `<first>-<last>.expired` is empty and marks a deleted range. In the folder of an
event data store, `<first>-<last>-<hash>.parquet` holds the selected events of these positions, and
a mark may also cover positions without any. The hash is the
beginning of the file's SHA-256. The name of a merged file of imported events ends with a hash of
its parts, which distinguishes it from an import that has the same numbers.
"""

from __future__ import annotations

import functools
import operator
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from opentrail.adapters.data_directory.files import sha256_of
from opentrail.ports.event_store import Snapshot

#: The URL scheme under which DuckDB opens files in S3, through the cache.
SCHEME = "shared"
#: The folder in S3 with the folders of event data stores.
STORES = "stores/"
#: Maximum bytes of a file, unless the disk or the size of event history is small.
MAX_FILE_BYTES = 2**40
_NAME = re.compile(
    r"^(import-)?(\d{20})-(\d{20})(?:-([0-9a-f]{16})(?:-([0-9a-f]{16}))?)?\.(duckdb|parquet|expired)\Z"
)


class Series(Enum):
    """The unit that the numbers in a file's name count; the value is the name's prefix."""

    JOURNAL = ""
    IMPORTED = "import-"

    @property
    def sign(self) -> str:
        """The sign of the numbers in the column `position`."""
        return "-" if self is Series.IMPORTED else ""

    def last_in(self, snapshot: Snapshot) -> int:
        """Returns the last number in a snapshot."""
        return snapshot.imported if self is Series.IMPORTED else snapshot.recorded


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A file with a range of one series, or the mark of an expired range."""

    path: Path
    series: Series
    first: int
    last: int
    digest: str | None
    is_expired: bool
    #: Of a merged file of imported events: its parts; see `parts_of`.
    parts: str | None = None

    @property
    def records(self) -> int:
        """The number of records in the range."""
        return self.last - self.first + 1


def stem_of(series: Series, first: int, last: int) -> str:
    """Returns the name of a file without its hash."""
    return f"{series.value}{first:020d}-{last:020d}"


def expired_name(series: Series, first: int, last: int) -> str:
    """Returns the name of the empty file that marks a range as expired."""
    return f"{stem_of(series, first, last)}.expired"


def read_name(path: Path) -> SealedFile | None:
    """Parses a file's name; None for other files."""
    match = _NAME.match(path.name)
    if match is None:
        return None
    prefix, first, last, digest, parts, ending = match.groups()
    series = Series(prefix or "")
    return SealedFile(path, series, int(first), int(last), digest, ending == "expired", parts)


def parts_of(files: Iterable[SealedFile]) -> str:
    """Parses the name of a merged file into its parts, whichever was merged first."""
    hashes = (int(file.parts or file.digest or "0", 16) for file in files)
    return f"{functools.reduce(operator.xor, hashes, 0):016x}"


def sealed_files(folder: Path, series: Series) -> list[SealedFile]:
    """Returns the files of a series in order of their ranges.

    Skips a file whose range lies within another file's: a merge left it behind.
    """
    files = _all(folder, series)
    return [file for file in files if not _is_left_over(file, files)]


def left_over(folder: Path) -> list[Path]:
    """Returns the leftovers of an interrupted seal, merge or expiry."""
    obsolete = [
        file.path
        for series in Series
        for files in (_all(folder, series),)
        for file in files
        if _is_left_over(file, files)
    ]
    return [*folder.glob("*.tmp*"), *folder.glob("*.thin"), *folder.glob("*.index"), *obsolete]


def remove(paths: Iterable[Path]) -> None:
    """Removes files, and DuckDB's swap folders."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _all(folder: Path, series: Series) -> list[SealedFile]:
    all_files = map(read_name, folder.iterdir())
    files = [file for file in all_files if file is not None and file.series is series]
    return sorted(files, key=lambda file: (file.first, file.last, file.path.name))


def _is_left_over(file: SealedFile, files: list[SealedFile]) -> bool:
    return any(
        other.first <= file.first and file.last <= other.last and _rank(other) > _rank(file)
        for other in files
    )


def _rank(file: SealedFile) -> tuple[int, bool, str]:
    """Orders overlapping files, one within the other: the wider first, then the expired."""
    return file.records, file.is_expired, file.path.name


def cached_path(cache: Path, name: str) -> Path:
    """Returns the folder with the blocks of a file in S3, which may be in a folder there."""
    return cache / name.replace("/", "_")


def index_path(cache: Path, name: str) -> Path:
    """Returns the index of a file in S3."""
    return cached_path(cache, name).with_suffix(".index")


def attaching(path: Path | str, name: str, options: str = " (READ_ONLY)") -> str:
    """Returns the statement that attaches a file to a DuckDB connection."""
    quoted = str(path).replace("'", "''")
    return f"ATTACH '{quoted}' AS {name}{options}"


def digest_of(path: Path) -> str:
    """Returns the hash that a file's name must contain."""
    return sha256_of(path)[:16]


def is_whole(file: SealedFile) -> bool:
    """Returns whether a file's content has the hash in its name."""
    return file.digest is None or digest_of(file.path) == file.digest


def is_intact(file: SealedFile) -> bool:
    """Returns whether a file is readable and matches the hash in its name."""
    try:
        return file.digest is not None and is_whole(file)
    except OSError:
        return False
