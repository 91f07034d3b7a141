"""Files of event data stores in the data directory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from opentrail.adapters.data_directory.files import sync_folder
from opentrail.adapters.duckdb.children import run_child
from opentrail.core.errors import StorageFailed

#: A file's identity, size and times of changes.
_Stat = tuple[int, int, int, int]


class FolderFiles:
    """The files below a folder, whose names begin there.

    A file is compared with the hash in its name when it is first used after a start, and again
    after each change of it. Another local file costs a query half a millisecond.

    Args:
        root: the folder.
    """

    is_shared = False
    merged_files = 64
    merged_bytes = 256 << 20

    def __init__(self, root: Path) -> None:
        self._root = root
        #: Name → its state when it was whole.
        self._whole: dict[str, _Stat] = {}

    async def upload(self, path: Path, name: str) -> None:
        """Moves a synced file there."""
        await asyncio.to_thread(self._move, path, self._root / name)
        self._whole[name] = _stat(self._root / name)

    def _move(self, path: Path, target: Path) -> None:
        if path == target:
            return
        if not target.parent.is_dir():
            target.parent.mkdir(mode=0o700, parents=True)
            for parent in (target.parent.parent, target.parent.parent.parent):
                sync_folder(parent)
        path.replace(target)
        sync_folder(target.parent)

    async def upload_index(self, _path: Path, _name: str) -> None:
        """Returns None: files on the disk need no index."""

    async def local_copy(self, name: str, _folder: Path) -> Path:
        """Returns the file.

        Raises:
            StorageFailed: it is missing or damaged.
        """
        if await self.damaged([name]):
            raise StorageFailed(f"{name} is missing or damaged")
        return self._root / name

    async def present(self, folder: str = "") -> set[str]:
        """Returns the names of the files in a folder."""
        return await asyncio.to_thread(self._present, folder)

    def _present(self, folder: str) -> set[str]:
        place = self._root / folder
        found = place.iterdir() if place.is_dir() else ()
        return {f"{folder}{path.name}" for path in found if path.is_file()}

    async def damaged(self, names: Iterable[str]) -> set[str]:
        """Returns the names of missing files, and of files with another hash than in their name."""
        states = await asyncio.to_thread(lambda: {name: self._state(name) for name in names})
        present = {name: state for name, state in states.items() if state is not None}
        changed = {
            self._root / name: name for name in present if present[name] != self._whole.get(name)
        }
        found = await run_child("check", *sorted(changed)) if changed else ()
        damaged = {changed[path] for path in found}
        self._whole |= {name: present[name] for name in {*changed.values()} - damaged}
        return damaged | states.keys() - present.keys()

    def _state(self, name: str) -> _Stat | None:
        try:
            return _stat(self._root / name)
        except OSError:
            return None

    async def delete(self, name: str) -> None:
        """Deletes a file if it exists."""
        self._whole.pop(name, None)
        await asyncio.to_thread((self._root / name).unlink, missing_ok=True)

    def address_of(self, name: str) -> str:
        """Returns the address of a file."""
        return f"file://{(self._root / name).absolute()}"


def _stat(path: Path) -> _Stat:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
