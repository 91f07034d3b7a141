"""The gate and the server behind it see the same caller, however loosely the server reads."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from moto.core.request import Request as MotoRequest
from moto.core.responses import BaseResponse
from werkzeug.exceptions import HTTPException

from opentrail.capture.record.exchange import Signature
from opentrail.wire.signature_errors import SignatureRefused
from tests.capture.proxy.test_gate import admitted
from tests.wire.signed_requests import KEY, LONG_TERM, SECRETS, TEMPORARY_KEY, Made, made

DIGITS = "0f" * 32
KEYS = (KEY, TEMPORARY_KEY, "test", "AKIAUNKNOWNUNKNOWN00", f"x{KEY}", f"{KEY}x", KEY.lower())
SCHEMES = ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256", "AWS", "aws4-hmac-sha256", "Bearer", "AWS5", "")
SPACES = ("", "", "", " ", "  ", "\t")
NAMES = ("Credential", "Credential", "credential", "SignedHeaders", "Signature", "AWSAccessKeyId")
QUERY_NAMES = ("X-Amz-Credential", "X-Amz-Signature", "AWSAccessKeyId", "Signature", "Action", "a")
TYPES = (
    "application/x-www-form-urlencoded",
    "Application/X-WWW-Form-Urlencoded; charset=utf-8",
    "multipart/form-data; boundary=XX",
    "application/x-www-form-urlencoded; a=multipart/form-data",
    "application/json",
    "text/plain",
)


def of_moto(request: Made) -> str | None:
    """Returns the caller's key according to moto; None if moto refuses to read."""
    headers = {name.decode("latin-1"): text for name, text in request.request.headers}
    target = request.request.target.decode("latin-1")
    response = BaseResponse("iam")
    # moto only reads the body here; it calls no operation.
    try:
        response.setup_class(
            MotoRequest.from_primitives(
                request.request.method, f"http://localhost{target}", headers, request.body
            )
        )
    except (HTTPException, ValueError, OSError, EOFError, zlib.error, IndexError):
        return None
    return str(response.access_key)


def scope(choose: random.Random) -> str:
    parts = [choose.choice(KEYS), "20260101", "eu-west-1", "iam", "aws4_request"]
    if choose.random() < 0.2:
        parts[choose.randrange(5)] = choose.choice(KEYS)
    if choose.random() < 0.1:
        parts.insert(choose.randrange(6), choose.choice(KEYS))
    return "/".join(parts)


def authorization(choose: random.Random) -> str:
    """Returns a header, mostly of three parts, with errors anywhere."""
    if choose.random() < 0.1:
        return f"AWS {choose.choice(KEYS)}:{choose.choice([*KEYS, 'c2ln'])}{choose.choice('/=:')}"
    parts = [("Credential", scope(choose)), ("SignedHeaders", "host"), ("Signature", DIGITS)]
    while choose.random() < 0.3:
        value = choose.choice([scope(choose), choose.choice(KEYS), DIGITS, "00"])
        parts.insert(choose.randrange(len(parts) + 1), (choose.choice(NAMES), value))
    if choose.random() < 0.2:
        parts.pop(choose.randrange(len(parts)))
    glue = choose.choice((", ", ", ", ",", ";", " "))
    text = glue.join(f"{name}{choose.choice(SPACES)}={value}" for name, value in parts)
    return f"{choose.choice(SCHEMES)}{choose.choice((' ', ' ', '  ', ''))}{text}"


def fields(choose: random.Random) -> str:
    pairs = []
    for _ in range(choose.randrange(1, 4)):
        name = choose.choice(QUERY_NAMES)
        if choose.random() < 0.2:
            name = "".join(f"%{ord(c):02x}" if choose.random() < 0.3 else c for c in name)
        if choose.random() < 0.1:
            name = name.swapcase()
        value = choose.choice([choose.choice(KEYS), scope(choose), DIGITS, "GetUser"])
        pairs.append(f"{name}={value}")
    return "&".join(pairs)


def spelled(choose: random.Random, name: str) -> str:
    """Returns the name of a part in one of werkzeug's accepted spellings."""
    ways = (f'name="{name}"', f"name={name}", f"name*=UTF-8''{name}", f'name="\\{name}"')
    return choose.choice((*ways, f'name*0="{name[:3]}"; name*1="{name[3:]}"'))


def body(choose: random.Random, content_type: str | None) -> bytes:
    if content_type is not None and content_type.startswith("multipart"):
        end = choose.choice(("\r\n", "\r\n", "\n", "\r"))
        parts = [field.partition("=")[::2] for field in fields(choose).split("&")]
        text = "".join(
            f"--XX{end}Content-Disposition: form-data; {spelled(choose, name)}{end}"
            f"{f'X-A: 1{end}' * choose.choice((0, 0, 7))}{end}{value}{end}"
            for name, value in parts
        )
        return f"{text}--XX--{end}".encode()
    return (choose.choice(("", "", "{}&", "a=b&")) + fields(choose)).encode()


def generated(choose: random.Random) -> Made:
    """Returns a request with keys in several places."""
    method = choose.choice(("GET", "POST", "POST", "PUT"))
    target = "/" + (f"?{fields(choose)}" if choose.random() < 0.3 else "")
    headers = [(b"Host", b"localhost")]
    content_type = choose.choice((None, *TYPES))
    if content_type is not None:
        headers.append((b"Content-Type", content_type.encode()))
    content = body(choose, content_type) if choose.random() < 0.6 else b""
    if content and choose.random() < 0.1:
        headers.append((b"Content-Encoding", b"gzip"))
        content = gzip.compress(content) if choose.random() < 0.8 else content
    if choose.random() < 0.3:
        # A valid signature, by a caller who tries to be another.
        asked = AWSRequest(method, f"http://localhost{target}", {}, content)
        asked.headers["Host"] = "localhost"
        SigV4Auth(LONG_TERM, choose.choice(("iam", "iam", TEMPORARY_KEY)), "eu-west-1").add_auth(
            asked
        )
        signed = {"X-Amz-Date", "Authorization"}
        headers += [(n.encode(), v.encode()) for n, v in asked.headers.items() if n in signed]
    elif choose.random() < 0.7:
        headers.append((b"Authorization", authorization(choose).encode()))
    return made(method, target.encode(), headers, content)


def check(seed: int, count: int) -> None:
    choose = random.Random(seed)
    outcomes = {Signature.VERIFIED: 0, Signature.UNVERIFIED: 0}
    for number in range(count):
        request = generated(choose)
        try:
            admission = admitted(request)
        except SignatureRefused:
            continue
        outcomes[admission.signature] += 1
        caller = admission.caller.access_key_id if admission.caller else None
        read = of_moto(request)
        assert read == caller or read not in SECRETS, (number, caller, read, request)
    # Enough of each kind reached the server.
    assert min(outcomes.values()) > count / 50, outcomes


@pytest.mark.slow
def test_moto_does_not_read_an_unverified_key() -> None:
    check(1, 4_000)


@pytest.mark.campaign
def test_moto_reads_no_unverified_key_in_40000_requests() -> None:
    check(2, 40_000)
