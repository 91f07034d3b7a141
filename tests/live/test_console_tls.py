"""TLS on the console's port, for browsers and commands; replaced certificates."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from opentrail.capture.in_process.shipping import ServerShipper
from tests.certificates import Issuer, issue, write
from tests.factories import ACCOUNT, a_record
from tests.live.processes import Opentrail, eventually, opentrail_server, run_opentrail
from tests.stub_upstream import StubUpstream

pytestmark = [pytest.mark.live, pytest.mark.campaign]


class Files:
    """Files of a certificate, which can be replaced."""

    def __init__(self, folder: Path) -> None:
        self.pem, self.key = folder / "certificate.pem", folder / "key.pem"
        self.replace()

    def replace(self) -> Issuer:
        """Writes a new certificate for 127.0.0.1."""
        made = issue("opentrail.example", "127.0.0.1")
        write(made, self.pem, self.key)
        return made

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--tls-certificate", str(self.pem), "--tls-key", str(self.key))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def connection(url: str, trusted: Path) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(trusted))
    host, port = url.removeprefix("https://").split(":")
    return http.client.HTTPSConnection(host, int(port), timeout=30, context=context)


def ask(
    to: http.client.HTTPSConnection, method: str, path: str, given: Any = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, Any]:
    usual = {"Content-Type": "application/json", "X-OT-CSRF": "1"}
    to.request(method, path, json.dumps(given or {}), {**usual, **headers})
    answer = to.getresponse()
    body = answer.read()
    return answer.status, answer.headers, json.loads(body) if body else None


def test_all_clients_use_the_console_over_tls(tmp_path: Path, files: Files) -> None:
    with (
        StubUpstream() as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream.url, *files.flags) as server,
    ):
        assert server.console.startswith("https://")
        made = server.opentrail("users", "create", "ann", "--role", "viewer", "--json")
        assert made.returncode == 0, made.stderr
        once = json.loads(made.stdout)["password"]
        eventually(lambda: server.opentrail("status").returncode == 0, "status: ok")
        link = server.opentrail("console").stdout
        assert link.startswith(f"{server.console}/console/#t=")
        ServerShipper.of_data_dir(server.data_dir).ship(json.dumps(a_record()).encode())

        browser = connection(server.console, files.pem)
        own = "correct horse battery"
        given = {"name": "ann", "password": once, "newPassword": own}
        status, headers, _ = ask(browser, "POST", "/api/v1/login", given)
        cookie = headers["set-cookie"].partition(";")[0]
        assert (status, cookie.partition("=")[0]) == (204, "__Host-ot")
        _, _, session = ask(browser, "GET", "/api/v1/session", cookie=cookie)
        assert (session["user"], session["role"]) == ("ann", "viewer")
        assert ask(browser, "GET", "/api/v1/trails", cookie=cookie)[0] == 403
        login, recorded = server.records("NOT source=console.opentrail.internal")
        assert login["userIdentity"]["userName"] == "ann"
        assert login["additionalEventData"]["LoginTo"] == f"{server.console}/console/"
        assert recorded["eventName"] == a_record()["eventName"]

        assert server.opentrail("users", "disable", "ann").stdout == "ann is disabled\n"
        assert ask(browser, "GET", "/api/v1/session", cookie=cookie)[0] == 401
        forged = {"x-forwarded-for": "192.0.2.9", "x-forwarded-proto": "http"}
        ask(browser, "POST", "/api/v1/login", {"name": "ann", "password": own}, **forged)
        assert server.records()[0]["sourceIPAddress"] == "127.0.0.1"


def test_commands_refuse_a_server_with_another_certificate(tmp_path: Path, files: Files) -> None:
    with opentrail_server(
        tmp_path / "data", "--upstream", "http://127.0.0.1:9", *files.flags
    ) as server:
        files.replace()
        refused = server.opentrail("users", "list")
        assert refused.returncode == 1
        assert "certificate" in refused.stderr.lower()
        # Nor, by its address alone, to a server with an unsigned certificate.
        named = run_opentrail(
            *("users", "list", "--endpoint", server.console), OPENTRAIL_TOKEN=server.token
        )
        assert (named.returncode, "certificate" in named.stderr.lower()) == (1, True)
        trusting = run_opentrail(
            *("users", "list", "--endpoint", server.console),
            OPENTRAIL_TOKEN=server.token,
            SSL_CERT_FILE=str(files.pem),
        )
        assert trusting.returncode == 1


@pytest.mark.parametrize(
    ("accounts", "count"), [("111111111111", 0), (f"111111111111,{ACCOUNT}", 1)]
)
def test_a_user_sees_only_events_of_its_accounts(
    tmp_path: Path, files: Files, accounts: str, count: int
) -> None:
    with (
        StubUpstream() as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream.url, *files.flags) as server,
    ):
        flags = ("--role", "auditor", "--accounts", accounts, "--json")
        once = json.loads(server.opentrail("users", "create", "bob", *flags).stdout)["password"]
        ServerShipper.of_data_dir(server.data_dir).ship(json.dumps(a_record()).encode())
        browser = connection(server.console, files.pem)
        given = {"name": "bob", "password": once, "newPassword": "correct horse battery"}
        _, headers, _ = ask(browser, "POST", "/api/v1/login", given)
        cookie = headers["set-cookie"].partition(";")[0]

        def found(path: str) -> Any:
            return ask(browser, "GET", f"/api/v1/{path}", cookie=cookie)[2]

        # Neither sign-ins nor changes of users.
        search = "categories=all&expression=source%3Diam.amazonaws.com"
        assert len(found(f"events?{search}")["events"]) == count
        assert found(f"events/count?{search}")["value"] == count
        assert sum(each["ok"] for each in found(f"events/histogram?{search}")["buckets"]) == count
        assert len(found(f"values?field=eventName&{search}")["values"]) == count
        assert len(found("events?account=222222222222")["events"]) == 0


def serial_of(url: str) -> int:
    """Returns the serial number of a port's certificate."""
    host, port = url.removeprefix("https://").split(":")
    pem = ssl.get_server_certificate((host, int(port)), timeout=30)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


@pytest.mark.parametrize("recorders", ["1", "2"])
def test_sighup_loads_a_new_certificate_without_closing_connections(
    tmp_path: Path, files: Files, recorders: str
) -> None:
    with (
        StubUpstream(keep=True) as upstream,
        opentrail_server(
            tmp_path / "data",
            *("--upstream", upstream.url, *files.flags, "--recorders", recorders),
        ) as server,
    ):
        old = serial_of(server.console)
        opened = [connection(url, files.pem) for url in (server.console, server.url)]

        def used() -> bool:
            """Uses both connections, since idle ones are closed after seconds."""
            for one in opened:
                one.request("GET", "/health")
                one.getresponse().read()
            return True

        used()
        sockets = [one.sock for one in opened]
        new = files.replace()[0].serial_number
        hang_up(server)
        for url in (server.console, server.url):
            # Recorder processes take turns: each must have it.
            eventually(
                lambda url=url: used() and all(serial_of(url) == new for _ in range(4)),  # type: ignore[misc]
                "the new certificate",
            )
        assert new != old
        used()
        assert [one.sock for one in opened] == sockets, "the connections are the same"
        eventually(lambda: server.opentrail("status").returncode == 0, "status: ok")


def test_an_unusable_certificate_leaves_the_old_one(tmp_path: Path, files: Files) -> None:
    with opentrail_server(
        tmp_path / "data", "--upstream", "http://127.0.0.1:9", *files.flags
    ) as server:
        old = serial_of(server.console)
        write(issue("other"), tmp_path / "other.pem", files.key)  # a key that does not match
        hang_up(server)
        assert server.process is not None
        assert server.process.stdout is not None
        for line in server.process.stdout:
            if "certificate not reloaded" in line:
                break
        assert serial_of(server.console) == serial_of(server.url) == old
        new = files.replace()[0].serial_number
        hang_up(server)
        eventually(lambda: serial_of(server.console) == new, "the new certificate")


def hang_up(server: Opentrail) -> None:
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGHUP)


def test_the_consoles_tls_port_answers_plain_http(tmp_path: Path, files: Files) -> None:
    with opentrail_server(
        tmp_path / "data", "--upstream", "http://127.0.0.1:9", *files.flags
    ) as server:
        host, port = server.console.removeprefix("https://").split(":")
        with socket.create_connection((host, int(port)), 30) as raw:
            raw.sendall(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
            assert b"https://" in raw.recv(4_096)
