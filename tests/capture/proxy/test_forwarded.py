"""What an upstream hears of the client in front of us."""

from __future__ import annotations

import pytest

from opentrail.capture.proxy.forwarded import with_forwarded
from opentrail.capture.proxy.head import Head, Headers, request_head

HOST = (b"Host", b"h:4747")
FORGED: Headers = [(b"X-Forwarded-Proto", b"http"), (b"FORWARDED", b"for=6.6.6.6")]


def told(headers: Headers, peer: str = "192.0.2.1", trusted: bool = False) -> Headers:
    head = Head(b"GET", b"/b/k", "1.1", headers, is_passed_on_whole=True)
    made = with_forwarded(head, peer, trusted)
    assert head.headers == headers
    assert request_head(made, chunked=False).count(b"\r\n") == len(made.headers) + 2
    return made.headers


def test_scheme_host_and_client_are_told_behind_what_the_client_sent() -> None:
    agent = (b"User-Agent", b"x")
    assert told([HOST, *FORGED, agent]) == [
        HOST,
        agent,
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"X-Forwarded-Host", b"h:4747"),
        (b"X-Forwarded-Proto", b"https"),
        (b"Forwarded", b'for=192.0.2.1;host="h:4747";proto=https'),
    ]


def test_an_address_of_ipv6_is_quoted() -> None:
    assert told([HOST], "2001:db8::1")[-1] == (
        b"Forwarded",
        b'for="[2001:db8::1]";host="h:4747";proto=https',
    )


def test_a_trusted_proxy_speaks_for_its_clients() -> None:
    assert told([HOST, *FORGED], trusted=True) == [HOST, *FORGED]
    assert len(told([HOST], trusted=True)) == 5, "one that says nothing does not"


@pytest.mark.parametrize(
    ("target", "header"),
    [
        (b"/b/k", b"AWS4-HMAC-SHA256 Credential=c, SignedHeaders=host;x-forwarded-proto, S=0"),
        (b"/b/k?X-Amz-SignedHeaders=host%3Bx-forwarded-proto&X-Amz-Signature=0", b"none"),
    ],
)
def test_a_header_that_is_signed_stays_and_does_not_come_twice(
    target: bytes, header: bytes
) -> None:
    head = Head(b"GET", target, "1.1", [HOST, (b"Authorization", header), *FORGED])
    found = with_forwarded(head, "192.0.2.1", False).headers
    assert (b"X-Forwarded-Proto", b"http") in found
    names = [name.lower() for name, _ in found]
    assert names.count(b"x-forwarded-proto") == 1
    assert (b"FORWARDED", b"for=6.6.6.6") not in found
