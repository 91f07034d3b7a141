"""Keeps all that a validation reads, so that it can be done again without bucket and server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from opentrail.core.errors import UsageError
from opentrail.validation.chains import DigestFile
from opentrail.validation.folder import SIGNATURES
from opentrail.validation.keys import PublicKeys

#: Named as what prints it: `aws cloudtrail list-public-keys`.
KEYS = "public-keys.json"


class Export:
    """A folder: objects by bucket and key, digests' signatures, public keys.

    Raises:
        UsageError: there is something in the folder already, or it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._making = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise UsageError(f"--export {folder}: the folder is not empty")
        except OSError as error:
            raise UsageError(f"--export {folder}: {error.strerror}") from error

    def keep(self, bucket: str, key: str) -> tuple[Callable[[bytes], object], Callable[[], None]]:
        """Returns what takes an object's bytes, and what is to be called behind the last."""
        file = self._opened(bucket, key)
        return file.write, file.close

    def write_digest(self, file: DigestFile) -> None:
        """Keeps a digest file."""
        if file.digest is not None:
            write, done = self.keep(*file.place)
            write(file.digest.packed)
            done()

    def finish(self, files: Iterable[DigestFile], keys: PublicKeys) -> None:
        """Writes the signatures and the keys."""
        with (self._folder / SIGNATURES).open("w", encoding="utf-8") as lines:
            for file in files:
                if file.proof is not None:
                    bucket, key = file.place
                    told = {"bucket": bucket, "key": key, "signature": file.proof}
                    lines.write(json.dumps(told) + "\n")
        (self._folder / KEYS).write_text(json.dumps(keys.as_json(), indent=1) + "\n")

    def _opened(self, bucket: str, key: str) -> BinaryIO:
        parts = [bucket, *key.split("/")]
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise UsageError(f"--export: s3://{bucket}/{key} cannot be the name of a file")
        path = self._folder.joinpath(*parts)
        try:
            with self._making:
                path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("xb")
        except OSError as error:
            raise UsageError(f"--export {path}: {error.strerror}") from error
