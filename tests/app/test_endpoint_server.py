"""The parts of one process's endpoint."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from opentrail.app.endpoint_server import (
    bind,
    connection_limit,
    names_of,
    tls_of_endpoint,
    upstreams_of,
)
from opentrail.core.errors import UsageError
from opentrail.settings import Address, Settings
from tests.certificates import issue, write


def test_socket_is_bound_to_its_address_without_blocking() -> None:
    for host in ("127.0.0.1", "::1"):
        with bind(Address(host, 0), "--listen") as bound:
            assert bound.getsockname()[0] == host
            assert bound.getsockname()[1] > 0
            assert not bound.getblocking()


def test_address_in_use_names_the_flag() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"127\.0\.0\.1:{port}.*--console-listen HOST:PORT"):
            bind(Address("127.0.0.1", port), "--console-listen")


def test_every_service_has_its_upstream_or_the_default() -> None:
    settings = Settings(upstream={"": "http://all:1", "s3": "https://store"})
    upstreams = upstreams_of(settings)
    assert upstreams.of("s3", None) == upstreams.by_service["s3"]
    assert upstreams.of("iam", None) == upstreams.default
    assert upstreams.by_service["s3"].url == "https://store:443"
    with pytest.raises(UsageError, match="ftp://x"):
        upstreams_of(Settings(upstream={"": "ftp://x"}))


def test_names_exclude_ip_addresses() -> None:
    names, domains = names_of(Settings(listen=Address("127.0.0.1", 1)))
    assert "localhost" in names
    assert "127.0.0.1" not in names
    assert not domains
    names, _ = names_of(Settings(listen=Address("trail.local", 1)))
    assert "trail.local" in names


def test_certificate_and_setting_name_domains(tmp_path: Path) -> None:
    pem, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    write(issue("trail.example"), pem, key)
    names, domains = names_of(Settings(tls_certificate=pem, domain=("other.example",)))
    assert ("trail.example" in names, domains) == (True, {"other.example"})
    write(issue("*.s3.example"), pem, key)
    assert names_of(Settings(tls_certificate=pem))[1] == {"s3.example"}


def test_an_invalid_certificate_is_wrong_use(tmp_path: Path) -> None:
    assert tls_of_endpoint(Settings()) is None
    file = tmp_path / "not.pem"
    file.write_text("not a certificate")
    with pytest.raises(UsageError, match="--tls-certificate"):
        tls_of_endpoint(Settings(tls_certificate=file, tls_key=file))


@pytest.mark.parametrize(
    ("descriptors", "connections"),
    [(65_536, 32_384), (4_096, 1_680), (1_024, 336), (100, 16)],
)
def test_the_connection_limit_follows_the_descriptor_limit(
    descriptors: int, connections: int
) -> None:
    assert connection_limit(descriptors) == connections
