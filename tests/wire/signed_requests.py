"""Requests of botocore's clients and signers, and changes of their signed parts."""

from __future__ import annotations

import hashlib
import random
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from urllib.parse import quote, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from opentrail.wire.verification import SignedRequest, SigningSecret
from tests.conformance.generate import cases, sampled
from tests.conformance.send import Sender
from tests.wire.sigv4_by_hand import Headers, chunked

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TEMPORARY_KEY, TOKEN = "ASIAIOSFODNN7EXAMPLE", "IQoJb3JpZ2luX2VjEJr+/wEaCXVzLWVhc3Q="
LONG_TERM = Credentials(KEY, SECRET)
TEMPORARY = Credentials(TEMPORARY_KEY, SECRET, TOKEN)
SECRETS = {
    KEY: SigningSecret(SECRET),
    TEMPORARY_KEY: SigningSecret(SECRET, hashlib.sha256(TOKEN.encode()).digest()),
}
REGION = "eu-west-1"
_SERVICES = (
    *("dynamodb", "kms", "ssm", "logs", "sqs", "cloudtrail", "iam", "sts", "sns", "rds", "ec2"),
    *("lambda", "eks", "apigateway", "batch", "glacier", "iot", "guardduty", "ebs", "bedrock"),
    *("s3", "cloudfront", "route53", "s3control", "cloudwatch", "codebuild", "organizations"),
)
_SIGNED_BY_QUERY = ("sts", "polly", "rds", "execute-api")
_TEXT = string.ascii_letters + string.digits + " -_.~!*'();:@&=+$,/?#[]%äß€\U0001f600"


@dataclass(frozen=True, slots=True)
class Made:
    """A signed request, with its body."""

    request: SignedRequest
    body: bytes

    def header(self, name: str) -> str | None:
        for given, value in self.request.headers:
            if given.lower() == name.encode():
                return value.decode()
        return None

    def with_headers(self, headers: Headers) -> Made:
        return replace(self, request=replace(self.request, headers=headers))

    def with_body(self, body: bytes) -> Made:
        digest = hashlib.sha256(body).hexdigest()
        return Made(replace(self.request, body_sha256=digest), body)


def made(method: str, target: bytes, headers: Headers, body: bytes) -> Made:
    digest = hashlib.sha256(body).hexdigest()
    return Made(SignedRequest(method, target, headers, digest), body)


def of_clients(at_least: int) -> Iterator[Made]:
    """Yields requests of botocore's clients of many services."""
    sender = Sender("http://127.0.0.1:4747", KEY, SECRET)
    for service in _SERVICES:
        for case in cases(service, sampled(service, at_least // len(_SERVICES))):
            raw = sender.bytes_of(case)
            head, _, body = raw.partition(b"\r\n\r\n")
            first, *lines = head.split(b"\r\n")
            method, target, _ = first.split(b" ")
            pairs = [line.partition(b": ")[::2] for line in lines]
            if any(name == b"Authorization" for name, _ in pairs):
                yield made(method.decode(), target, pairs, body)


class _S3Signer(S3SigV4Auth):  # type: ignore[misc]
    """Signs a request's own marker, which botocore's signer would replace."""

    def payload(self, request: AWSRequest) -> str:
        stated = request.headers.get("x-amz-content-sha256")
        return str(stated or super().payload(request))

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        stated = request.headers.get("x-amz-content-sha256")
        super()._modify_request_before_signing(request)
        if stated:
            request.headers.replace_header("X-Amz-Content-SHA256", stated)


def signed(
    method: str = "POST",
    url: str = "https://cloudtrail.eu-west-1.amazonaws.com/",
    service: str = "cloudtrail",
    body: bytes = b"{}",
    credentials: Credentials = LONG_TERM,
    expires: int | None = None,
    region: str = REGION,
    **headers: str,
) -> Made:
    """Returns a request that a signer of botocore has signed by a header, or by the query."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method, url, headers=named, data=body)
    if expires is None:
        signer = _S3Signer if service == "s3" else SigV4Auth
        signer(credentials, service, region).add_auth(request)
    else:
        by_query = S3SigV4QueryAuth if service == "s3" else SigV4QueryAuth
        by_query(credentials, service, region, expires=expires).add_auth(request)
    parts = urlsplit(request.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    sent = [(name.encode(), str(value).encode()) for name, value in request.headers.items()]
    return made(method, target.encode(), [(b"Host", parts.netloc.encode()), *sent], body)


def at_random(choose: random.Random) -> Made:
    """Returns a request with any path, query, headers and body, signed in one of three ways."""
    service = choose.choice(("s3", "s3", "dynamodb", "lambda", "iam", *_SIGNED_BY_QUERY))
    expires = None
    if service in ("s3", *_SIGNED_BY_QUERY) and choose.random() < 0.6:
        # Not the seconds, which may pass between signing and checking on a busy machine.
        expires = choose.choice((300, 900, 3_600, 604_800))
    path = "/".join(_text(choose, 8) for _ in range(choose.randrange(4)))
    names = [_text(choose, 6) or "n" for _ in range(choose.randrange(4))]
    query = "&".join(f"{_quoted(name)}={_quoted(_text(choose, 9))}" for name in names)
    url = f"https://{service}.{REGION}.amazonaws.com/{quote(path, safe='/-_.~')}"
    headers = {"X_Amz_Meta_Note": "  two   words "} if choose.random() < 0.3 else {}
    if choose.random() < 0.5:
        headers["Content_Type"] = "application/x-amz-json-1.1"
    # botocore does not sign bodies by the query: it moves a form's fields there.
    body = b"" if expires is not None else choose.randbytes(choose.randrange(40))
    return signed(
        choose.choice(("GET", "PUT", "POST", "DELETE")),
        f"{url}?{query}" if query else url,
        service,
        body,
        choose.choice((LONG_TERM, TEMPORARY)),
        expires,
        REGION,
        **headers,
    )


def _text(choose: random.Random, longest: int) -> str:
    return "".join(choose.choices(_TEXT, k=choose.randrange(longest)))


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


def in_chunks(choose: random.Random, is_trailed: bool) -> Made:
    """Returns an upload to S3 of any pieces, in signed chunks."""
    pieces = [choose.randbytes(choose.randrange(1, 200)) for _ in range(choose.randrange(4))]
    return chunks_of(pieces, is_trailed)


def chunks_of(pieces: list[bytes], is_trailed: bool, length: str | None = None) -> Made:
    """Returns an upload to S3 in signed chunks."""
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if is_trailed else "")
    headers = {"X_Amz_Trailer": "x-amz-checksum-crc32"} if is_trailed else {}
    head = signed(
        "PUT",
        "https://bucket.s3.eu-west-1.amazonaws.com/key",
        "s3",
        b"",
        LONG_TERM,
        None,
        REGION,
        x_amz_decoded_content_length=length or str(sum(map(len, pieces))),
        x_amz_content_sha256=kind,
        **headers,
    )
    given = head.header("authorization") or ""
    scope = given.partition(f"{KEY}/")[2].partition(",")[0]
    body = chunked(
        pieces,
        SECRET,
        scope,
        head.header("x-amz-date") or "",
        given.rpartition("Signature=")[2],
        b"x-amz-checksum-crc32:AAAAAA==" if is_trailed else b"",
    )
    return head.with_body(body)


# Changes, each of a signed part.


def changed(original: Made, choose: random.Random) -> tuple[str, Made]:
    """Returns a request with one change, and the change's name."""
    while True:
        change = choose.choice(_CHANGES)
        after = change(original, choose)
        if after is not None:
            return change.__name__, after


def other(text: str, choose: random.Random) -> str | None:
    """Returns a string with another letter or digit in one place."""
    places = [i for i, char in enumerate(text) if char.isascii() and char.isalnum()]
    if not places:
        return None
    place = choose.choice(places)
    letters = [c for c in string.ascii_lowercase + string.digits if c != text[place].lower()]
    return text[:place] + choose.choice(letters) + text[place + 1 :]


def _method(original: Made, choose: random.Random) -> Made | None:
    methods = {"GET", "PUT", "POST", "DELETE", "PATCH"} - {original.request.method}
    request = replace(original.request, method=choose.choice(sorted(methods)))
    return replace(original, request=request)


def _target(original: Made, target: str) -> Made:
    return replace(original, request=replace(original.request, target=target.encode()))


def _path(original: Made, choose: random.Random) -> Made | None:
    path, mark, query = original.request.target.decode().partition("?")
    return _target(original, (other(path, choose) or path + "x") + mark + query)


def _query(original: Made, choose: random.Random) -> Made | None:
    path, mark, query = original.request.target.decode().partition("?")
    after = other(query, choose)
    return None if after is None else _target(original, path + mark + after)


def _longer_query(original: Made, _: random.Random) -> Made | None:
    target = original.request.target.decode()
    return _target(original, target + ("&" if "?" in target else "?") + "more=1")


def _signed_names(original: Made) -> list[str]:
    text = (original.header("authorization") or "") + original.request.target.decode()
    found = re.search(r"SignedHeaders=([^,&]+)", text)
    assert found is not None
    return found[1].replace("%3B", ";").split(";")


def _header(original: Made, choose: random.Random) -> Made | None:
    name = choose.choice(_signed_names(original)).encode()
    after: Headers = []
    for given, value in original.request.headers:
        different = other(value.decode(), choose) if given.lower() == name else None
        after.append((given, value if different is None else different.encode()))
    return None if after == original.request.headers else original.with_headers(after)


def _fewer_headers(original: Made, choose: random.Random) -> Made | None:
    name = choose.choice(_signed_names(original)).encode()
    return original.with_headers([p for p in original.request.headers if p[0].lower() != name])


def _header_twice(original: Made, choose: random.Random) -> Made | None:
    name = choose.choice(_signed_names(original)).encode()
    return original.with_headers([*original.request.headers, (name, b"another")])


def _more_headers(original: Made, _: random.Random) -> Made | None:
    return original.with_headers([*original.request.headers, (b"X-Amz-Acl", b"public-read")])


def _authorization(original: Made, choose: random.Random) -> Made | None:
    after: Headers = []
    for name, value in original.request.headers:
        if name == b"Authorization":
            parts = re.split(r"(?<=[=,/; ])", value.decode())
            place = choose.randrange(len(parts))
            if choose.random() < 0.2 and parts[place].strip():
                # A piece less, such as the algorithm; spaces alone mean nothing.
                del parts[place]
            else:
                parts[place] = other(parts[place], choose) or parts[place] + "x"
            value = "".join(parts).encode()
        after.append((name, value))
    return None if after == original.request.headers else original.with_headers(after)


def _body(original: Made, choose: random.Random) -> Made | None:
    is_query = b"X-Amz-Signature" in original.request.target
    stated = original.header("x-amz-content-sha256")
    if stated and not re.fullmatch("[0-9a-f]{64}", stated):
        return None
    if is_query and original.request.target.find(b"%2Fs3%2F") > 0:
        return None
    body = bytearray(original.body or b"x")
    body[choose.randrange(len(body))] ^= 1
    return original.with_body(bytes(body) if original.body else b"x")


_CHANGES: tuple[Callable[[Made, random.Random], Made | None], ...] = (
    _method,
    _path,
    _query,
    _longer_query,
    _header,
    _fewer_headers,
    _header_twice,
    _more_headers,
    _authorization,
    _body,
)


@cache
def two_thousand() -> tuple[Made, ...]:
    """Returns 2,000 requests: about half by clients, the others random."""
    clients = list(of_clients(400))[:1000]
    choose = random.Random(27)
    return (*clients, *(at_random(choose) for _ in range(2000 - len(clients))))
