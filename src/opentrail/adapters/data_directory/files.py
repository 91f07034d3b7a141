"""Durable writes (guarantee D10), and the lock on the data directory (guarantee D14)."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from opentrail.adapters.data_directory.system import sync
from opentrail.core.errors import DataDirectoryInUse, DataTooNew, StorageFailed
from opentrail.core.version import DATA_VERSION

#: Errors of file systems that cannot lock a folder, such as NFS.
_CANNOT_LOCK = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP)
#: Attempts to lock; a command that checks whether a server runs holds the lock briefly.
_TRIES = 5
#: Seconds between tries.
_PAUSE = 0.05
#: Minimum free bytes for opening a database.
_HARDLY_ANY = 256 * 1024


def write_durably(path: Path, content: bytes) -> None:
    """Writes a file readable only by its owner, atomically and durably.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            sync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sha256_of(file: Path) -> str:
    """Returns the SHA-256 of a file, in hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Makes created, renamed and removed names in `folder` durable."""
    _sync(folder, os.O_DIRECTORY)


def sync_file(file: Path) -> None:
    """Makes a file that others have written and closed durable."""
    _sync(file)


def _sync(path: Path, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


class DataDirectory:
    """The folder with all data of a server; one server at a time locks it (guarantee D14)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal = root / "journal"
        self.history = root / "history"
        self.keys = root / "keys"
        self.insights = root / "insights"
        self.state = root / "state.db"
        #: Gap files, one per recorder process.
        self.lost = root / "lost"
        #: Counts of excluded calls, one file per recorder process and hour.
        self.left_out = root / "left-out"
        #: Queries and their results.
        self.queries = root / "queries"
        #: Event data stores, a folder for each.
        self.stores = root / "stores"
        self.server_file = root / "server.json"
        self._folder = self._lock = -1

    def open(self) -> None:
        """Creates the folders, locks the directory, checks its version.

        Raises:
            DataDirectoryInUse: another server has the lock.
            DataTooNew: a newer version wrote it.
            StorageFailed: the directory cannot be created or written.
        """
        try:
            is_new = not self.root.exists()
            for folder in (self.root, self.journal, self.history, self.keys):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(self.root)
            if is_new:
                with suppress(PermissionError):  # it need not be readable
                    sync_folder(self.root.parent)
            self._lock_directory()
            self._check_version()
        except OSError as error:
            self.close()
            raise StorageFailed(f"data directory {self.root} cannot be used: {error}") from error
        except (DataTooNew, StorageFailed):
            self.close()
            raise

    def _lock_directory(self) -> None:
        """Locks the folder itself, which cannot be removed and recreated unnoticed.

        The file `lock` names the holder. It is also locked, for earlier versions and for file
        systems that cannot lock folders.
        """
        self._folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                _flock(self._folder)
            except OSError as error:
                if error.errno not in _CANNOT_LOCK:
                    raise
            self._lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            _flock(self._lock)
        except BlockingIOError as error:
            self.close()
            raise DataDirectoryInUse(
                f"data directory {self.root} is in use by the server with process id "
                f"{self._holder()}"
            ) from error
        os.ftruncate(self._lock, 0)
        os.write(self._lock, f"{os.getpid()}\n".encode())

    def _holder(self) -> str:
        try:
            text = (self.root / "lock").read_bytes()[:64].decode(errors="replace").strip()
        except OSError:
            text = ""
        return text or "unknown"

    @property
    def is_in_use(self) -> bool:
        """Whether a server has locked the directory; changes nothing."""
        return any(map(is_locked, (self.root, self.root / "lock")))

    @property
    def is_replaced(self) -> bool:
        """Whether another folder has taken the locked folder's name."""
        try:
            current, locked = self.root.stat(), os.fstat(self._folder)
        except OSError:
            return True
        return (current.st_dev, current.st_ino) != (locked.st_dev, locked.st_ino)

    def _check_version(self) -> None:
        marker = self.root / "version"
        if not marker.exists():
            write_durably(marker, f"{DATA_VERSION}\n".encode())
            return
        problem = self.version_problem
        if problem is not None:
            raise StorageFailed(f"data directory {self.root}: {problem}")
        version = int(marker.read_bytes())
        if version > DATA_VERSION:
            raise DataTooNew(
                f"data directory {self.root} has layout {version}; this version of opentrail "
                f"reads up to {DATA_VERSION}: upgrade opentrail"
            )
        if version < DATA_VERSION:
            # An older program must not read newer data from here on.
            write_durably(marker, f"{DATA_VERSION}\n".encode())

    @property
    def version_problem(self) -> str | None:
        """The error of the file `version`; None if it can be read, or is missing.

        A start recreates a missing file.
        """
        try:
            text = (self.root / "version").read_bytes().decode(errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"file version cannot be read: {error.strerror}"
        if text.isascii() and text.isdigit() and int(text) > 0:
            return None
        return f"file version does not hold a version number: {text[:40]!r}"

    @property
    def is_full(self) -> bool:
        """Whether its disk is nearly full: SQLite calls that an I/O error."""
        return shutil.disk_usage(self.root).free < _HARDLY_ANY

    def close(self) -> None:
        """Releases the lock."""
        for descriptor in (self._lock, self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self._folder = self._lock = -1


def _flock(descriptor: int) -> None:
    """Locks a file or folder.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    for _ in range(_TRIES - 1):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        else:
            return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(path: Path) -> bool:
    """Returns whether a process has locked a file or folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # this file system cannot lock it
    finally:
        os.close(descriptor)
    return False
