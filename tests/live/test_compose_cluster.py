"""`compose.cluster.yaml` as network namespaces: an application, HAProxy, three servers and moto."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from opentrail.cli import parser
from tests.live.processes import BIN, TIMEOUT_SECONDS, Opentrail, clean_environment, eventually
from tests.live.test_cluster import MASTER_KEY
from tests.live.test_compose import Network, moto_in, network_of
from tests.postgres import shared_server

ROOT = Path(__file__).parents[2]
FILE = ROOT / "compose.cluster.yaml"
BALANCER = ROOT / "packaging/haproxy/opentrail.cfg"
SERVERS = ("one", "two", "three")

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]


@pytest.fixture(scope="module")
def document() -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load(FILE.read_text())
    return found


def test_the_file_is_consistent(document: Mapping[str, Any]) -> None:
    services = document["services"]
    servers = [services[name] for name in SERVERS]
    for own in ("ports", "volumes"):
        assert len({str(server[own]) for server in servers}) == len(SERVERS)
    assert all(
        {**server, "ports": 0, "volumes": 0} == {**servers[0], "ports": 0, "volumes": 0}
        for server in servers
    )

    # Its services, volumes, files, and the command's flags and variables exist.
    (flags,) = {tuple(server["command"]) for server in servers}
    parser("serve").parse_args(list(flags))
    page = (ROOT / "docs/howto/run-several-servers.md").read_text()
    for name in servers[0]["environment"]:
        assert f"export {name}=" in page
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (ROOT / source).is_file() if "/" in source else source in document["volumes"]
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
    assert (ROOT / servers[0]["build"]["dockerfile"]).is_file()

    # The balancer has each server, and each server trusts the balancer as proxy.
    config = BALANCER.read_text()
    assert tuple(re.findall(r"^ +server (\w+) \1:4747$", config, re.M)) == SERVERS
    address = services["balancer"]["networks"]["default"]["ipv4_address"]
    assert f"--trusted-proxies={address}/32" in flags
    url = services["app"]["environment"]["AWS_ENDPOINT_URL"]
    assert url == "http://balancer:4747"


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with network_of(FILE, (*SERVERS, "moto", "balancer", "app")) as made:
        yield made


@contextmanager
def servers_in(
    network: Network, document: Mapping[str, Any], folder: Path
) -> Iterator[dict[str, Opentrail]]:
    """Runs the three servers of the file, with another address of PostgreSQL."""
    url = shared_server().new_database()
    servers = {}
    for name in SERVERS:
        command, *flags = map(network.resolved, document["services"][name]["command"])
        servers[name] = Opentrail(folder / name, *flags, command=command)
        servers[name].prefix = network.inside(name)
    given = document["services"]["one"]["environment"]
    environment = dict.fromkeys(given, url) | {"OPENTRAIL_MASTER_KEY": MASTER_KEY}
    try:
        with ThreadPoolExecutor(len(servers)) as threads:
            list(threads.map(lambda server: server.start(**environment), servers.values()))
        yield servers
    finally:
        for server in servers.values():
            server.close()


@contextmanager
def balancer_in(network: Network, folder: Path) -> Iterator[None]:
    """Runs HAProxy with the configuration of the file, and addresses instead of names."""
    text = BALANCER.read_text()
    for name in SERVERS:
        text = text.replace(f" {name}:4747", f" {network.address_of(name)}:4747")
    config = folder / "haproxy.cfg"
    config.write_text(text)
    balancer = subprocess.Popen(
        [*network.inside("balancer"), "haproxy", "-db", "-f", str(config)],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        balancer.terminate()
        balancer.wait(TIMEOUT_SECONDS)


def found_on(server: Opentrail, *conditions: str) -> str:
    """Returns a server's event history as JSON."""
    asked = (*server.prefix, sys.executable, "-m", "opentrail", "lookup", *conditions, "--json")
    found = subprocess.run(
        [*asked, "--endpoint", server.console],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(OPENTRAIL_TOKEN=server.token),
    )
    return found.stdout


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy is missing")
def test_application_calls_while_two_of_three_servers_stop(
    network: Network, document: Mapping[str, Any], tmp_path: Path
) -> None:
    given = document["services"]["app"]["environment"]
    environment = {name: network.resolved(text) for name, text in given.items()}

    def create(name: str) -> bool:
        command = ("iam", "create-user", "--user-name", name)
        done = network.attempt("app", str(BIN / "aws"), *command, **environment)
        return done.returncode == 0

    with (
        moto_in(network),
        servers_in(network, document, tmp_path) as servers,
        balancer_in(network, tmp_path),
    ):
        eventually(lambda: create("first"), "the balancer finds the servers")
        assert create("mary")
        for name in SERVERS[:2]:
            assert servers[name].stop() == 0
            assert create(f"without-{name}")
        found = found_on(servers["three"], "name=CreateUser")
        for user in ("first", "mary", "without-one", "without-two"):
            assert f'"{user}"' in found
        assert network.address_of("app") in found
        assert network.address_of("balancer") not in found
