"""Two servers behind a load balancer are restarted one after the other while clients call."""

from __future__ import annotations

import http.client
import itertools
import os
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.live.load import call
from tests.live.processes import (
    TIMEOUT_SECONDS,
    Opentrail,
    clean_environment,
    eventually,
    until_well,
)
from tests.live.test_cluster import Cluster, cluster_in, users_in_history

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/howto/use-terraform.md"
CLIENTS = 3
#: Seconds for a server to answer `/health`.
HEALTH_SECONDS = 30.0


@dataclass(eq=False)
class Connection:
    """A connection of a client to a server."""

    server: Opentrail
    awaits_answer: bool = True


class LoadBalancer:
    """Passes each connection to one of the servers that answer `/health`, in turn."""

    def __init__(self, servers: Sequence[Opentrail]) -> None:
        self._servers = deque(servers)
        self._out: Opentrail | None = None
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def without(self, server: Opentrail) -> Iterator[None]:
        """Passes no new connection to a server, once it has answered all calls so far."""
        with self._lock:
            self._out = server
        eventually(lambda: not self._awaited_of(server), "all calls are answered")
        yield
        with self._lock:
            self._out = None

    def _awaited_of(self, server: Opentrail) -> list[Connection]:
        with self._lock:
            return [one for one in self._connections if one.server is server and one.awaits_answer]

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _candidates(self) -> Iterator[Connection]:
        """Yields a connection to each server, which counts the calls on it."""
        with self._lock:
            self._servers.rotate()
            servers = list(self._servers)
        for server in servers:
            connection = Connection(server)
            with self._lock:
                if server is self._out:
                    continue
                self._connections.add(connection)
            try:
                yield connection
            finally:
                with self._lock:
                    self._connections.discard(connection)

    def _pass_on(self, client: socket.socket) -> None:
        with client, suppress(OSError, http.client.HTTPException):
            for connection in self._candidates():
                if upstream := _connect(connection.server):
                    with upstream:
                        self._relay(connection, client, upstream)
                    return

    def _relay(
        self, connection: Connection, client: socket.socket, upstream: socket.socket
    ) -> None:
        def copy(source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):
                while piece := source.recv(65_536):
                    connection.awaits_answer = source is client
                    target.sendall(piece)
            with suppress(OSError):
                target.shutdown(socket.SHUT_WR)

        threading.Thread(target=copy, args=(client, upstream), daemon=True).start()
        copy(upstream, client)


def _connect(server: Opentrail) -> socket.socket | None:
    """Returns a connection to a healthy server, else None."""
    with suppress(OSError, http.client.HTTPException):
        with urllib.request.urlopen(f"{server.console}/health", timeout=HEALTH_SECONDS):  # noqa: S310
            pass
        address = urlsplit(server.url)
        return socket.create_connection((address.hostname, address.port))
    return None


class Callers:
    """Clients that create users, each call on its own connection and without retry."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._is_over = threading.Event()
        self.answered: list[str] = []
        self.failed: list[str] = []
        self._threads = [
            threading.Thread(target=self._call, args=(number,)) for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def _call(self, client: int) -> None:
        for number in itertools.count():
            if self._is_over.is_set():
                return
            name = f"caller-{client}-{number}-user"
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                is_good = call(connection, name, "AKIDEXAMPLE")
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(f"{name}: {error!r}")
            else:
                (self.answered if is_good else self.failed).append(name)
            finally:
                connection.close()

    def wait_for_more(self) -> None:
        """Returns once clients have received more answers."""
        before = len(self.answered)
        eventually(lambda: len(self.answered) > before + 20, "calls are answered")

    def stop(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with cluster_in(tmp_path) as made:
        yield made


@contextmanager
def calls_through(balancer: LoadBalancer) -> Iterator[Callers]:
    callers = Callers(balancer.port)
    try:
        yield callers
    finally:
        callers.stop()
        balancer.close()


def restart(cluster: Cluster, balancer: LoadBalancer, server: Opentrail) -> None:
    """Restarts a server, as for a new version; returns once it is in the cluster again."""
    with balancer.without(server):
        assert server.stop() == 0
        server.start(**cluster.environment)
        until_well(server)


def test_a_rolling_restart_refuses_no_call(cluster: Cluster) -> None:
    servers = cluster.add("one", "two")
    balancer = LoadBalancer(servers)
    with calls_through(balancer) as callers:
        for server in servers:
            callers.wait_for_more()
            restart(cluster, balancer, server)
        callers.wait_for_more()
    assert callers.failed == []
    for server in servers:
        assert Counter(users_in_history(server)) == Counter(callers.answered)


class Terraform:
    """The configuration on the Terraform page, applied through a load balancer."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        text = PAGE.read_text()
        (folder / "main.tf").write_text(text.partition("```hcl\n")[2].partition("```")[0])
        self._environment = clean_environment(
            AWS_ENDPOINT_URL=url,
            AWS_ACCESS_KEY_ID="testing",
            AWS_SECRET_ACCESS_KEY="testing",
            AWS_DEFAULT_REGION="us-east-1",
            AWS_CONFIG_FILE=os.devnull,
            AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        )
        if self._run("init").returncode:
            pytest.skip("Terraform's AWS provider is missing")

    def apply(self) -> str:
        done = self._run("apply", "-auto-approve")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def shows_no_changes(self) -> bool:
        done = self._run("plan", "-detailed-exitcode")
        return done.returncode == 0 and "No changes" in done.stdout

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["terraform", *arguments, "-no-color"],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS * 3,
            check=False,
        )


@pytest.mark.skipif(shutil.which("terraform") is None, reason="Terraform is missing")
def test_terraform_applies_twice_during_a_rolling_restart(cluster: Cluster, tmp_path: Path) -> None:
    servers = cluster.add("one", "two")
    balancer = LoadBalancer(servers)
    folder = tmp_path / "terraform"
    folder.mkdir()
    terraform = Terraform(folder, balancer.url)
    are_restarted, is_over = threading.Event(), threading.Event()

    def restart_all() -> None:
        while not is_over.is_set():
            for server in servers:
                restart(cluster, balancer, server)
            are_restarted.set()

    with calls_through(balancer) as callers, ThreadPoolExecutor(1) as threads:
        restarting = threads.submit(restart_all)
        try:
            assert "3 added, 0 changed, 0 destroyed" in terraform.apply()
            assert "0 added, 0 changed, 0 destroyed" in terraform.apply()
            assert are_restarted.wait(TIMEOUT_SECONDS)
            assert terraform.shows_no_changes()
        finally:
            is_over.set()
        restarting.result()
    assert callers.failed == []
