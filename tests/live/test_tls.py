"""TLS on both sides: the endpoint's own certificate, and upstreams checked by given authorities."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from opentrail.commands.sandbox import ADMIN_KEY_ID
from tests.capture.proxy.wires import TIMEOUT_SECONDS, Wire, scope
from tests.live.processes import moto_server, opentrail_server, run_opentrail
from tests.stub_upstream import StubUpstream

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "opentrail test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "certificate.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = folder / "key.pem"
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem, secret


def client(service: str, url: str, verify: Path) -> Any:
    session = boto3.session.Session(ADMIN_KEY_ID, "secret", region_name="us-east-1")
    config = Config(retries={"total_max_attempts": 1})
    return session.client(service, endpoint_url=url, verify=str(verify), config=config)


def test_calls_over_tls_are_recorded(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    pem, key = certificate
    tls = ("--tls-certificate", str(pem), "--tls-key", str(key))
    with (
        StubUpstream() as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream.url, *tls) as server,
    ):
        assert server.url.startswith("https://")
        client("iam", server.url, pem).create_user(UserName="Mary")
        client("s3", server.url, pem).create_bucket(Bucket="bucket")
        bucket, user = server.records()
        details = user["tlsDetails"]
        assert details["tlsVersion"] == "TLSv1.3"
        assert details["cipherSuite"].startswith("TLS_")
        assert details["clientProvidedHostHeader"] == server.url.removeprefix("https://")
        assert list(user)[-1] == "tlsDetails"
        assert bucket["additionalEventData"]["CipherSuite"] == details["cipherSuite"]


@pytest.mark.campaign
def test_configured_authorities_verify_an_upstream(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    pem, key = certificate
    tls = ("--tls-certificate", str(pem), "--tls-key", str(key))
    with (
        StubUpstream() as stub,
        opentrail_server(tmp_path / "inner", "--upstream", stub.url, *tls) as inner,
    ):
        known = ("--upstream", inner.url, "--upstream-ca", str(pem))
        with opentrail_server(tmp_path / "outer", *known) as outer:
            outer.boto("iam").create_user(UserName="Mary")
            assert stub.count == 1
            assert len(outer.records()) == len(inner.records()) == 1
        with opentrail_server(tmp_path / "wary", "--upstream", inner.url) as wary:
            with pytest.raises(botocore.exceptions.ClientError, match="BadGateway"):
                wary.boto("iam").create_user(UserName="Mary")
            assert stub.count == 1
            assert wary.records()[0]["errorCode"] == "BadGateway"


@pytest.mark.campaign
def test_an_invalid_certificate_is_wrong_use(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    pem, key = certificate
    serve = ("serve", "--data-dir", str(tmp_path / "data"), "--upstream", "http://127.0.0.1:9")
    listen = ("--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0")
    swapped = run_opentrail(*serve, *listen, "--tls-certificate", str(key), "--tls-key", str(pem))
    assert swapped.returncode == 2
    assert "--tls-certificate and --tls-key must be PEM files" in swapped.stderr
    alone = run_opentrail(*serve, "--tls-certificate", str(pem))
    assert alone.returncode == 2
    assert "belong together" in alone.stderr


def flags_of(certificate: tuple[Path, Path]) -> tuple[str, ...]:
    return ("--tls-certificate", str(certificate[0]), "--tls-key", str(certificate[1]))


@pytest.mark.campaign
def test_urls_in_answers_have_the_clients_scheme(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    """moto makes URLs of the Host header and its own scheme, even behind a proxy."""
    flags = flags_of(certificate)
    with (
        moto_server() as moto,
        opentrail_server(tmp_path / "data", "--upstream", moto, *flags) as server,
    ):
        sqs = client("sqs", server.url, certificate[0])
        url = sqs.create_queue(QueueName="jobs")["QueueUrl"]
        assert url.startswith(f"{server.url}/")
        assert sqs.get_queue_url(QueueName="jobs")["QueueUrl"] == url
        assert sqs.list_queues()["QueueUrls"] == [url]
        # Message bodies stay unchanged, even if they look like a URL of the endpoint.
        text = f"see {server.url.replace('https:', 'http:')}/jobs"
        sqs.send_message(QueueUrl=url, MessageBody=text)
        (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
        assert message["Body"] == text
        created = server.records("name=CreateQueue")[0]
        assert created["responseElements"]["queueUrl"] == url


@pytest.mark.campaign
def test_an_upstream_gets_the_clients_scheme_and_host(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    with (
        StubUpstream(keep=True) as stub,
        opentrail_server(
            tmp_path / "data", "--upstream", stub.url, *flags_of(certificate)
        ) as server,
    ):
        authority = server.url.removeprefix("https://")
        host, port = authority.split(":")
        forged = (
            "X-Forwarded-Proto: gopher\r\nX-Forwarded-Host: evil\r\nX-Forwarded-For: 6.6.6.6\r\n"
            "Forwarded: for=6.6.6.6\r\nx-forwarded-port: 1\r\n"
        )
        signed = scope("s3").replace("SignedHeaders=host", "SignedHeaders=host;x-forwarded-host")
        for signature in (scope("s3"), signed):
            with socket.create_connection((host, int(port)), TIMEOUT_SECONDS) as raw:
                wire = Wire(context.wrap_socket(raw, server_hostname=host))
                wire.send(
                    f"GET /b/k HTTP/1.1\r\nHost: {authority}\r\n{forged}"
                    f"Authorization: {signature}\r\n\r\n"
                )
                assert wire.answer()[0] == 200
        plain, with_signed = stub.requests
    ours = {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": authority,
        "x-forwarded-proto": "https",
        "forwarded": f'for=127.0.0.1;host="{authority}";proto=https',
    }
    assert speaking(plain.headers) == ours
    assert speaking(with_signed.headers) == {**ours, "x-forwarded-host": "evil"}


@pytest.mark.campaign
def test_headers_of_trusted_proxy_pass_unchanged(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    flags = (*flags_of(certificate), "--trusted-proxies", "127.0.0.0/8")
    with (
        StubUpstream(keep=True) as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url, *flags) as server,
    ):
        host, port = server.url.removeprefix("https://").split(":")
        with socket.create_connection((host, int(port)), TIMEOUT_SECONDS) as raw:
            wire = Wire(context.wrap_socket(raw, server_hostname=host))
            said = "X-Forwarded-Proto: http\r\nX-Forwarded-For: 192.0.2.7\r\n"
            wire.send(f"GET /b/k HTTP/1.1\r\nHost: h\r\n{said}Authorization: {scope('s3')}\r\n\r\n")
            assert wire.answer()[0] == 200
        (request,) = stub.requests
    assert speaking(request.headers) == {
        "x-forwarded-proto": "http",
        "x-forwarded-for": "192.0.2.7",
    }


def speaking(headers: list[tuple[str, str]]) -> dict[str, str]:
    found = [one for one in headers if one[0] == "forwarded" or one[0].startswith("x-forwarded")]
    assert len(found) == len(dict(found)), "each comes once"
    return dict(found)


@pytest.mark.campaign
@pytest.mark.parametrize("recorders", ["1", "2"])
def test_the_tls_port_answers_plain_http(
    tmp_path: Path, certificate: tuple[Path, Path], recorders: str
) -> None:
    flags = (*flags_of(certificate), "--upstream", "http://127.0.0.1:9", "--recorders", recorders)
    with opentrail_server(tmp_path / "data", *flags) as server:
        wire = Wire.to(server.url.replace("https://", "http://"))
        status, headers, body = wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").answer()
        assert (status, headers["connection"]) == (400, "close")
        assert b"https://" in body
        wire.close()
        # Other bytes get no answer, and TLS still works.
        assert Wire.to(server.url.replace("https://", "http://")).send(b"\x00\x01junk").rest() in (
            b"",
            *ALERTS,
        )
        assert client("sts", server.url, certificate[0]).meta.endpoint_url == server.url
        with pytest.raises(botocore.exceptions.ClientError, match="BadGateway"):
            client("sts", server.url, certificate[0]).get_caller_identity()


#: OpenSSL may send these before it hangs up.
ALERTS = (b"\x15\x03\x01\x00\x02\x02F", b"\x15\x03\x03\x00\x02\x02F")
