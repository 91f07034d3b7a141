"""A server's certificate is trusted by its bytes, whatever its name and issuer are."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opentrail.wire.pinning import pinned
from tests.certificates import issue, write


@contextmanager
def tls_server(pem: Path, key: Path) -> Iterator[tuple[str, int]]:
    """Answers one handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)

    def serve() -> None:
        client, _ = listening.accept()
        with client:
            try:
                context.wrap_socket(client, server_side=True).close()
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[:2]
        thread.join()


def accepts(trusted: Path, pem: Path, key: Path) -> bool:
    """Returns whether a client that trusts one file accepts a server with another."""
    with tls_server(pem, key) as address, socket.create_connection(address, 10) as raw:
        try:
            pinned(trusted).wrap_socket(raw, server_hostname="whatever.example").close()
        except ssl.SSLCertVerificationError:
            return False
        return True


def test_a_certificate_is_accepted_of_any_issuer(tmp_path: Path) -> None:
    authority = issue("authority")
    made = {
        "self-signed": issue("a.example"),
        "leaf": issue("a.example", issuer=authority, is_authority=False),
        "self-signed leaf": issue("a.example", is_authority=False),
    }
    for name, certificate in made.items():
        pem, key = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        write(certificate, pem, key, authority[0])
        assert accepts(pem, pem, key), name


def test_another_certificate_of_the_issuer_is_refused(tmp_path: Path) -> None:
    authority = issue("authority")
    for number in (1, 2):
        made = issue("a.example", issuer=authority, is_authority=False)
        write(made, tmp_path / f"{number}.pem", tmp_path / f"{number}.key", authority[0])
    assert not accepts(tmp_path / "1.pem", tmp_path / "2.pem", tmp_path / "2.key")


def test_text_around_a_certificate_does_not_matter(tmp_path: Path) -> None:
    pem, key, described = tmp_path / "pem", tmp_path / "key", tmp_path / "described"
    write(issue("a.example"), pem, key)
    described.write_text(f"Zertifikat für a.example\n{pem.read_text()}trailing\n")
    assert accepts(described, pem, key)


@pytest.mark.parametrize("content", ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_without_a_certificate_is_an_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "pem"
    file.write_text(content)
    with pytest.raises(OSError, match="has no certificate"):
        pinned(file)
    with pytest.raises(OSError, match="No such file"):
        pinned(tmp_path / "absent")
