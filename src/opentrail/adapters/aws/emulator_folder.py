"""Keys and certificate of an AWS Emulator on this machine.

Each start makes new ones and writes them to `~/.aws/emulator/PORT/` (AWS Emulator User Guide,
"Pointing your AWS SDK at AWS Emulator").
"""

from __future__ import annotations

import configparser
import ssl
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from opentrail.wire.resign import UpstreamCredentials

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: Maximum keys of earlier runs in memory: clients may still sign with them after a restart.
_MAX_RUNS = 1_000
_Stamp = tuple[int, int, int] | None


class EmulatorFolder:
    """The folder of one emulator; rereads changed files.

    While the emulator rewrites a file, the previous content applies.
    """

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        self.config = folder / "config"
        self.credentials = folder / "emulator_credentials"
        self._key: UpstreamCredentials | None = None
        self._read_at: _Stamp = None
        self._runs: dict[str, None] = {}
        self._context: ssl.SSLContext | None = None
        self._trusted_at: _Stamp = None

    @property
    def is_there(self) -> bool:
        """Whether an emulator has started on this port."""
        return self.ca.exists()

    def key(self) -> UpstreamCredentials | None:
        """Returns the key of the current run; None if the emulator verifies no signatures."""
        stamp = _stamp(self.credentials)
        if stamp is not None and stamp != self._read_at and (key := _read(self.credentials)):
            self._key, self._read_at = key, stamp
            self._runs[key.access_key_id] = None
            if len(self._runs) > _MAX_RUNS:
                del self._runs[next(iter(self._runs))]
        return self._key

    def key_for(self, access_key_id: str) -> UpstreamCredentials | None:
        """Returns the credentials to re-sign a call with; None to pass its signature on.

        Exchanges only keys made by the emulator, in this run or an earlier one: a web page in a
        browser cannot know them.
        """
        key = self.key()
        return key if access_key_id in self._runs else None

    def context(self) -> ssl.SSLContext:
        """Returns the context of a TLS connection, which trusts the certificate in the folder.

        Without one, it trusts the authorities of this machine.
        """
        stamp = _stamp(self.ca)
        if self._context is None or (stamp is not None and stamp != self._trusted_at):
            try:
                context = ssl.create_default_context(cafile=self.ca if stamp else None)
            except (OSError, ValueError):
                if self._context is None:
                    return ssl.create_default_context()
                return self._context
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            self._context, self._trusted_at = context, stamp
        return self._context


@lru_cache(64)
def folder_of(url: str) -> EmulatorFolder | None:
    """Returns the folder of a possible emulator at a URL; None if there can be none."""
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.hostname not in _LOOPBACK:
        return None
    return EmulatorFolder(Path.home() / ".aws" / "emulator" / str(parts.port or 443))


def _stamp(file: Path) -> _Stamp:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _read(file: Path) -> UpstreamCredentials | None:
    """Returns the key in a credentials file, from the profile `default` if there are several."""
    profiles = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        profiles.read(file)
        name = "default" if profiles.has_section("default") else profiles.sections()[0]
        profile = profiles[name]
        return UpstreamCredentials(
            profile["aws_access_key_id"],
            profile["aws_secret_access_key"],
            profile.get("aws_session_token"),
        )
    except (OSError, KeyError, IndexError, configparser.Error, UnicodeDecodeError):
        return None
