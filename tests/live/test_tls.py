"""TLS on both sides: the endpoint's own certificate, and upstreams checked by given authorities."""

from __future__ import annotations

import datetime
import ipaddress
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

from opentrail.sandbox import ADMIN_KEY_ID
from tests.decoding.stub_upstream import StubUpstream
from tests.live.processes import opentrail_server, run_opentrail

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
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


def test_tls_is_spoken_and_told_in_records(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
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


def test_an_upstream_is_checked_by_the_given_authorities(
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


def test_a_certificate_that_is_none_is_wrong_use(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    pem, key = certificate
    serve = ("serve", "--data-dir", str(tmp_path / "data"), "--upstream", "http://127.0.0.1:9")
    listen = ("--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0")
    swapped = run_opentrail(*serve, *listen, "--tls-certificate", str(key), "--tls-key", str(pem))
    assert swapped.returncode == 2
    assert "--tls-certificate and --tls-key cannot be used" in swapped.stderr
    alone = run_opentrail(*serve, "--tls-certificate", str(pem))
    assert alone.returncode == 2
    assert "belong together" in alone.stderr
