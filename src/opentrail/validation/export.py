"""Copies all that a validation reads, so that it can be repeated offline."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from opentrail.core.errors import UsageError
from opentrail.validation.chains import DigestFile
from opentrail.validation.folder import SIGNATURES
from opentrail.validation.keys import PublicKeys

#: The output of `aws cloudtrail list-public-keys`.
KEYS = "public-keys.json"


class Export:
    """A folder with objects by bucket and key, signatures of digests, and public keys.

    Raises:
        UsageError: the folder is not empty, or cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._making_folders = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise UsageError(f"--export {folder}: the folder is not empty")
        except OSError as error:
            raise UsageError(f"--export {folder}: {error.strerror}") from error

    def write_digest(self, file: DigestFile) -> None:
        if file.digest is not None:
            with self.open_copy(*file.place) as copy:
                copy.write(file.digest.packed)

    def finish(self, files: Iterable[DigestFile], keys: PublicKeys) -> None:
        """Writes signatures and public keys."""
        with (self._folder / SIGNATURES).open("w", encoding="utf-8") as lines:
            for file in files:
                if file.proof is not None:
                    bucket, key = file.place
                    line = {"bucket": bucket, "key": key, "signature": file.proof}
                    lines.write(json.dumps(line) + "\n")
        (self._folder / KEYS).write_text(json.dumps(keys.as_json(), indent=1) + "\n")

    def open_copy(self, bucket: str, key: str) -> BinaryIO:
        """Returns a new file for the copy of an object.

        Raises:
            UsageError: it cannot be created.
        """
        parts = [bucket, *key.split("/")]
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise UsageError(f"--export: s3://{bucket}/{key} cannot be the name of a file")
        path = self._folder.joinpath(*parts)
        try:
            with self._making_folders:
                path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("xb")
        except OSError as error:
            raise UsageError(f"--export {path}: {error.strerror}") from error
