"""`compose.yaml` as network namespaces: an application, opentrail and moto on a private network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from tests.live.processes import BIN, Opentrail, clean_environment, eventually

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

FILE = Path(__file__).parents[2] / "compose.yaml"
SERVICES = ("opentrail", "moto", "app")
#: A host of another private network, to which the host forwards.
STRANGER = "172.28.99.2"


class Network:
    """Network namespaces with a bridge between them.

    Args:
        stack: removes them in the end.
        subnet: the network in a file.
        services: the names of services, with addresses like an engine's.
        fixed: addresses in the file.
    """

    def __init__(
        self,
        stack: ExitStack,
        subnet: str,
        services: Sequence[str],
        fixed: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._stack = stack
        self._prefix = f"ot{os.getpid()}"
        base = subnet.rpartition(".")[0]
        # The bridge has the host's address.
        given = {name: f"{base}.{number}" for number, name in enumerate(("host", *services), 1)}
        self._addresses = {**given, **fixed}
        self._add("host")
        self._ip("host", "link", "add", "bridge", "type", "bridge")
        self._ip("host", "address", "add", f"{self.address_of('host')}/24", "dev", "bridge")
        self._ip("host", "link", "set", "bridge", "up")
        for name in services:
            self._add(name)
            self._connect(name, self.address_of(name), self.address_of("host"))
            self._ip("host", "link", "set", name, "master", "bridge")
        self._add("stranger")
        gateway = f"{STRANGER.rpartition('.')[0]}.1"
        self._connect("stranger", STRANGER, gateway)
        self._ip("host", "address", "add", f"{gateway}/24", "dev", "stranger")
        self.run("host", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def address_of(self, name: str) -> str:
        return self._addresses[name]

    def resolved(self, text: str) -> str:
        """Returns the content of a file with addresses in place of service names."""
        for name, address in self._addresses.items():
            text = text.replace(f"//{name}:", f"//{address}:")
        return text

    def url(self, name: str, port: int) -> str:
        return f"http://{self.address_of(name)}:{port}"

    def inside(self, name: str) -> tuple[str, ...]:
        """Returns the start of a command that runs in a namespace.

        `ip netns exec` would also mount a file system, which some machines forbid.
        """
        return ("nsenter", f"--net=/run/netns/{self._prefix}{name}")

    def run(self, name: str, *command: str, **environment: str) -> str:
        done = self.attempt(name, *command, **environment)
        done.check_returncode()
        return done.stdout

    def attempt(
        self, name: str, *command: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.inside(name), *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=clean_environment(**environment),
        )

    def _add(self, name: str) -> None:
        adding = ["ip", "netns", "add", self._prefix + name]
        subprocess.run(adding, check=True, capture_output=True, text=True)
        self._stack.callback(
            subprocess.run, ["ip", "netns", "delete", self._prefix + name], check=True
        )
        self._ip(name, "link", "set", "lo", "up")

    def _connect(self, name: str, address: str, gateway: str) -> None:
        """Connects a namespace with the host's, whose end of the cable has its name."""
        far_end = ("netns", self._prefix + name)
        self._ip("host", "link", "add", name, "type", "veth", "peer", "name", "eth0", *far_end)
        self._ip("host", "link", "set", name, "up")
        self._ip(name, "address", "add", f"{address}/24", "dev", "eth0")
        self._ip(name, "link", "set", "eth0", "up")
        self._ip(name, "route", "add", "default", "via", gateway)

    def _ip(self, name: str, *arguments: str) -> None:
        self.run(name, "ip", *arguments)


@pytest.fixture(scope="module")
def services() -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return found


@contextmanager
def network_of(file: Path, services: Sequence[str]) -> Iterator[Network]:
    """Makes the network of a file, or skips the test."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2")
    document = yaml.safe_load(file.read_text())
    (pool,) = document["networks"]["default"]["ipam"]["config"]
    fixed = {
        name: service["networks"]["default"]["ipv4_address"]
        for name, service in document["services"].items()
        if "networks" in service
    }
    with ExitStack() as stack:
        try:
            made = Network(stack, pool["subnet"], services, fixed)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine allows no network namespaces: {error.stderr.strip()}")
        yield made


@contextmanager
def moto_in(network: Network) -> Iterator[None]:
    """Runs moto as the service of that name."""
    moto = subprocess.Popen(
        [
            *network.inside("moto"),
            *(sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", "5000"),  # noqa: S104
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    asked = ("curl", "-s", f"{network.url('moto', 5000)}/moto-api/")
    try:
        eventually(lambda: network.attempt("host", *asked).returncode == 0, "moto answers")
        yield
    finally:
        moto.kill()
        moto.wait()


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with network_of(FILE, SERVICES) as made:
        yield made


@pytest.fixture(scope="module")
def server(
    network: Network, services: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opentrail]:
    command, *flags = map(network.resolved, services["opentrail"]["command"])
    assert command == "serve"
    found = Opentrail(tmp_path_factory.mktemp("compose"), *flags)
    found.prefix = network.inside("opentrail")
    try:
        with moto_in(network):
            yield found.start()
    finally:
        found.close()


def test_an_application_calls_through_opentrail_and_is_recorded(
    network: Network, server: Opentrail, services: Mapping[str, Any]
) -> None:
    given = services["app"]["environment"]
    environment = {name: network.resolved(text) for name, text in given.items()}
    create = ("iam", "create-user", "--user-name", "mary")
    network.run("app", str(BIN / "aws"), *create, **environment)
    endpoint = ("--endpoint", server.console)
    asked = (*server.prefix, sys.executable, "-m", "opentrail", "lookup", "mary", "--json")
    found = subprocess.run(
        [*asked, *endpoint],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(OPENTRAIL_TOKEN=server.token),
    )
    assert '"CreateUser"' in found.stdout
    assert network.address_of("app") in found.stdout


def test_console_opens_on_the_host_by_safe_names(network: Network, server: Opentrail) -> None:
    def status(host: str) -> str:
        page = f"{network.url('opentrail', 4748)}/console/"
        asked = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Host: {host}", page)
        return network.run("host", *asked)

    assert "INSECURE hosts in 172.28.47.0/24" in server.output
    assert "console  http://127.0.0.1:4748/console/#t=" in server.output
    assert [status("127.0.0.1:4748"), status("localhost:14748"), status("opentrail:4748")] == (
        ["200", "200", "200"]
    )
    assert status("rebound.example:4748") == "421"
    health = network.run("host", "curl", "-s", f"{network.url('opentrail', 4748)}/health")
    assert '"insecureTrustedNetworks":["172.28.47.0/24"]' in health


@pytest.mark.parametrize("port", [4747, 4748])
def test_a_host_of_another_network_cannot_connect(
    network: Network, server: Opentrail, port: int
) -> None:
    url = f"{network.url('opentrail', port)}/"
    assert network.attempt("app", "curl", "-s", url).returncode == 0
    refused = network.attempt("stranger", "curl", "-s", "-S", url)
    assert refused.returncode in (52, 56), refused.stderr  # empty reply, connection reset
    metrics = network.run("host", "curl", "-s", f"{network.url('opentrail', 4748)}/metrics")
    assert 'opentrail_refused_calls_total{reason="network"}' in metrics
