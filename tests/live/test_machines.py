"""The command and the HAProxy file for servers on separate machines, as network namespaces."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.certificates import issue, write
from tests.live.processes import BIN, TIMEOUT_SECONDS, Opentrail, clean_environment, eventually
from tests.live.test_cluster import MASTER_KEY
from tests.live.test_compose import Network, moto_in, network_of
from tests.live.test_compose_cluster import FILE, ROOT, SERVERS
from tests.postgres import shared_server

PAGE = ROOT / "docs/howto/run-several-servers.md"
CONFIGURATION = ROOT / "packaging/haproxy/machines.cfg"
NAME = "opentrail.example.com"

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.campaign,
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy is missing"),
]


@pytest.fixture
def network() -> Iterator[Network]:
    with network_of(FILE, (*SERVERS, "moto", "balancer", "app")) as made:
        yield made


def flags_of_page(network: Network, folder: Path) -> list[str]:
    """Returns the flags of the page's command, with this test's addresses and files."""
    (block,) = re.findall(r"^```sh\n(opentrail serve .*?)^```", PAGE.read_text(), re.M | re.S)
    block = block.replace("https://s3.example.com", network.url("moto", 5000))
    block = block.replace("10.0.0.10", network.address_of("balancer"))
    flags = shlex.split(block.replace("\\\n", ""))[2:]
    files = {name: str(folder / name) for name in ("certificate.pem", "key.pem")}
    at = flags.index("--data-dir")
    return [files.get(flag, flag) for flag in (*flags[:at], *flags[at + 2 :])]


@contextmanager
def haproxy_in(network: Network, folder: Path) -> Iterator[None]:
    """Runs HAProxy with the file for separate machines."""
    text = CONFIGURATION.read_text().replace("/etc/haproxy/", f"{folder}/")
    for name in SERVERS:
        text = text.replace(f"{name}.example.com:", f"{network.address_of(name)}:")
    (folder / "haproxy.cfg").write_text(text)
    balancer = subprocess.Popen(
        [*network.inside("balancer"), "haproxy", "-db", "-f", str(folder / "haproxy.cfg")],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        balancer.terminate()
        balancer.wait(TIMEOUT_SECONDS)


@contextmanager
def servers_in(network: Network, folder: Path) -> Iterator[dict[str, Opentrail]]:
    """Runs the page's command on three machines."""
    url = shared_server().new_database()
    flags = flags_of_page(network, folder)
    variables = {
        "OPENTRAIL_JOURNAL": url,
        "OPENTRAIL_CONTROL_STORE": url,
        "OPENTRAIL_MASTER_KEY": MASTER_KEY,
    }
    assert all(f"export {name}=" in PAGE.read_text() for name in variables)
    servers = {name: Opentrail(folder / name, *flags) for name in SERVERS}
    with ExitStack() as stack:
        for name, server in servers.items():
            server.prefix = network.inside(name)
            stack.callback(server.close)
        with ThreadPoolExecutor(len(servers)) as threads:
            list(threads.map(lambda server: server.start(**variables), servers.values()))
        yield servers


def opentrail(network: Network, name: str, server: Opentrail, *arguments: str) -> str:
    """Runs a command on the machine of a server; returns its output."""
    command = (sys.executable, "-m", "opentrail", *arguments, "--data-dir", str(server.data_dir))
    done = subprocess.run(
        [*network.inside(name), *command],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_calls_continue_while_machines_are_lost(network: Network, tmp_path: Path) -> None:
    authority = issue("authority")
    made = issue(NAME, network.address_of("balancer"), authority, is_authority=False)
    write(made, tmp_path / "certificate.pem", tmp_path / "key.pem")
    write(authority, tmp_path / "ca.pem", tmp_path / "authority.key")
    both = (tmp_path / "certificate.pem").read_text() + (tmp_path / "key.pem").read_text()
    (tmp_path / "opentrail.pem").write_text(both)

    with (
        moto_in(network),
        servers_in(network, tmp_path) as servers,
        haproxy_in(network, tmp_path),
    ):
        key = json.loads(
            opentrail(network, "one", servers["one"], "keys", "create", "--user", "mary", "--json")
        )
        environment = {
            "AWS_ENDPOINT_URL": network.url("balancer", 4747).replace("http:", "https:"),
            "AWS_CA_BUNDLE": str(tmp_path / "ca.pem"),
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_DEFAULT_REGION": "us-east-1",
        }

        def create(name: str) -> bool:
            command = ("iam", "create-user", "--user-name", name)
            done = network.attempt("app", str(BIN / "aws"), *command, **environment)
            return done.returncode == 0

        eventually(lambda: create("first"), "the balancer finds the servers")
        network.run("host", "ip", "link", "set", "one", "down")  # its connections stay open
        assert create("without-one")
        assert servers["two"].stop() == 0
        assert create("without-two")
        found = opentrail(network, "three", servers["three"], "lookup", "name=CreateUser", "--json")
        records = [json.loads(line) for line in found.splitlines()]
        users = {record["requestParameters"]["userName"] for record in records}
        assert users == {"first", "without-one", "without-two"}
        assert {record["sourceIPAddress"] for record in records} == {network.address_of("app")}
