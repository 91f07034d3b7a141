"""SHA-256 hashes of the metadata files of an Iceberg table, in another file.

A publication adds the hashes of new files, writes the number of the newest metadata to
`version-hint.text`, and then to `TableHashes.version`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from opentrail.adapters.data_directory.files import sha256_of

HASHES = "sha256.json"
HINT = "version-hint.text"


class TableHashes(msgspec.Struct, forbid_unknown_fields=True):
    """The number of the newest metadata before the last step, and the hash of each file."""

    version: int = 0
    files: dict[str, str] = {}

    def newest(self, hint: bytes) -> str:
        """Returns the name of the newest metadata, by the content of `version-hint.text`.

        Raises:
            ValueError: no publication leaves this number.
        """
        number = int(hint)
        name = f"v{number}.metadata.json"
        if number not in (self.version, self.version + 1) or name not in self.files:
            raise ValueError(f"{HINT} names {number} instead of {self.version}")
        return name


def read_hashes(content: bytes) -> TableHashes:
    """Returns the hashes in a file.

    Raises:
        ValueError: it has none.
    """
    return msgspec.json.decode(content, type=TableHashes)


def damaged_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields the names of missing and damaged files in a folder of metadata, and the problems."""
    hint = folder / HINT
    if not hint.exists() and not (folder / HASHES).exists():
        return  # it is not published yet
    try:
        hashes = read_hashes((folder / HASHES).read_bytes())
    except (OSError, ValueError) as error:
        yield HASHES, f"cannot be read: {error}"
        return
    try:
        if hashes.version or hint.exists():
            hashes.newest(hint.read_bytes())
    except (OSError, ValueError) as error:
        yield HINT, str(error)
    for name, digest in hashes.files.items():
        try:
            if sha256_of(folder / name) != digest:
                yield name, "its content differs from its hash"
        except OSError as error:
            yield name, f"cannot be read: {error}"
