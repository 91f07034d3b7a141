"""Heads: refused ones, and those passed to the upstream."""

from __future__ import annotations

import pytest

from opentrail.capture.proxy.head import (
    MAX_HEADER_BYTES,
    BadHead,
    Head,
    Headers,
    check_request,
    chunk,
    request_head,
    response_head,
    with_forwarded,
)

#: A value that fills the headers, each with colon, space and end of line, to their limit.
LONGEST = b"y" * (MAX_HEADER_BYTES - len(b"Host: h\r\nX: \r\n"))


def a_head(*headers: tuple[bytes, bytes], method: bytes = b"GET", target: bytes = b"/") -> Head:
    return Head(method, target, "1.1", [(b"Host", b"h"), *headers])


def test_an_ordinary_head_is_accepted() -> None:
    check_request(a_head((b"Content-Length", b"3")))
    check_request(a_head((b"Transfer-Encoding", b"chunked")))
    check_request(a_head(method=b"OPTIONS", target=b"*"))
    check_request(a_head((b"X-My_Header", b"a"), (b"X-Amz-Meta-my_name", b"b")))
    check_request(a_head((b"x-amz-sso_bearer_token", b"a")))
    check_request(a_head(target=b"/" + b"x" * 16_383))
    check_request(a_head((b"Connection", b"close, X-Absent")))
    check_request(a_head(*[(b"X-%d" % n, b"") for n in range(199)]))
    check_request(a_head((b"X", LONGEST)))


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (Head(b"GET", b"/", "1.1", []), 400),
        (a_head((b"host", b"other")), 400),
        (a_head((b"Authorization", b"a"), (b"authorization", b"b")), 400),
        (a_head((b"Transfer-Encoding", b"gzip, chunked")), 501),
        (a_head((b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"1")), 400),
        (a_head((b"Transfer_Encoding", b"chunked")), 400),
        (a_head((b"X-Amz-Target", b"a"), (b"X-AMZ-TARGET", b"b")), 400),
        (a_head((b"Content-Type", b"a"), (b"content-type", b"b")), 400),
        (a_head((b"X_Amz_Target", b"a")), 400),
        (a_head((b"x-amz_acl", b"public-read")), 400),
        (a_head(method=b"TRACE"), 501),
        (a_head(target=b"http://h/"), 400),
        (a_head(target=b"/a#b"), 400),
        (a_head((b"Connection", b"close, X-Mine"), (b"X-Mine", b"1")), 400),
        (Head(b"GET", b"/", "2.0", [(b"Host", b"h")]), 505),
        (Head(b"GET", b"/", "1.1", [(b"Host", b"a b")]), 400),
        (Head(b"GET", b"/", "1.1", [(b"Host", b"a" * 261)]), 400),
        (a_head(target=b"/" + b"x" * 16_384), 414),
        (a_head(*[(b"X-%d" % n, b"") for n in range(200)]), 431),
        (a_head((b"X", LONGEST + b"y")), 431),
        (Head(b"POST", b"/", "1.0", [(b"Transfer-Encoding", b"chunked")]), 400),
    ],
)
def test_an_ambiguous_head_is_refused(head: Head, status: int) -> None:
    with pytest.raises(BadHead) as caught:
        check_request(head)
    assert caught.value.status == status
    assert caught.value.reason


def test_case_order_and_repetition_of_headers_are_kept() -> None:
    head = a_head((b"x-AMZ-Meta-A", b"1"), (b"X-b", b"2"), (b"x-b", b"3"), target=b"/a//b?c")
    assert request_head(head, chunked=False) == (
        b"GET /a//b?c HTTP/1.1\r\nHost: h\r\nx-AMZ-Meta-A: 1\r\nX-b: 2\r\nx-b: 3\r\n\r\n"
    )


def test_headers_in_connection_are_dropped_but_host_stays() -> None:
    head = a_head((b"Connection", b"X-Mine, Host"), (b"X-Mine", b"1"), (b"X-Yours", b"2"))
    assert request_head(head, chunked=True) == (
        b"GET / HTTP/1.1\r\nHost: h\r\nX-Yours: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    )


def test_headers_are_added_to_a_whole_head() -> None:
    head = a_head((b"A", b"b"))
    check_request(head)
    assert request_head(head, chunked=False, extra=[(b"C", b"d")]) == (
        b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\nC: d\r\n\r\n"
    )


def test_an_answers_head_gets_this_connections_headers() -> None:
    written = response_head(200, b"Fine", [(b"Keep-Alive", b"5"), (b"A", b"b")], [(b"C", b"d")])
    assert written == b"HTTP/1.1 200 Fine\r\nA: b\r\nC: d\r\n\r\n"


def test_a_chunk_has_its_length_in_hex() -> None:
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


# Forwarded headers

HOST = (b"Host", b"h:4747")
FORGED: Headers = [(b"X-Forwarded-Proto", b"http"), (b"FORWARDED", b"for=6.6.6.6")]


def forwarded(headers: Headers, peer: str = "192.0.2.1", trusted: bool = False) -> Headers:
    head = Head(b"GET", b"/b/k", "1.1", headers, is_passed_on_whole=True)
    made = with_forwarded(head, peer, trusted)
    assert head.headers == headers
    assert request_head(made, chunked=False).count(b"\r\n") == len(made.headers) + 2
    return made.headers


def test_scheme_host_and_client_extend_the_head() -> None:
    agent = (b"User-Agent", b"x")
    assert forwarded([HOST, *FORGED, agent]) == [
        HOST,
        agent,
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"X-Forwarded-Host", b"h:4747"),
        (b"X-Forwarded-Proto", b"https"),
        (b"Forwarded", b'for=192.0.2.1;host="h:4747";proto=https'),
    ]


def test_a_peer_without_an_address_is_not_quoted() -> None:
    forwarded = with_forwarded(a_head(), "somebody", is_trusted=False)
    assert (b"Forwarded", b'for=somebody;host="h";proto=https') in forwarded.headers


def test_an_address_of_ipv6_is_quoted() -> None:
    assert forwarded([HOST], "2001:db8::1")[-1] == (
        b"Forwarded",
        b'for="[2001:db8::1]";host="h:4747";proto=https',
    )


def test_a_trusted_proxy_speaks_for_its_clients() -> None:
    assert forwarded([HOST, *FORGED], trusted=True) == [HOST, *FORGED]
    assert len(forwarded([HOST], trusted=True)) == 5, "a proxy without the headers does not"


@pytest.mark.parametrize(
    ("target", "header"),
    [
        (b"/b/k", b"AWS4-HMAC-SHA256 Credential=c, SignedHeaders=host;x-forwarded-proto, S=0"),
        (b"/b/k?X-Amz-SignedHeaders=host%3Bx-forwarded-proto&X-Amz-Signature=0", b"none"),
    ],
)
def test_a_signed_header_stays_and_is_not_doubled(target: bytes, header: bytes) -> None:
    head = Head(b"GET", target, "1.1", [HOST, (b"Authorization", header), *FORGED])
    found = with_forwarded(head, "192.0.2.1", False).headers
    assert (b"X-Forwarded-Proto", b"http") in found
    names = [name.lower() for name, _ in found]
    assert names.count(b"x-forwarded-proto") == 1
    assert (b"FORWARDED", b"for=6.6.6.6") not in found


@pytest.mark.parametrize(
    ("version", "headers", "expected"),
    [
        ("1.1", [(b"Expect", b"100-continue")], True),
        ("1.1", [(b"expect", b"100-Continue")], True),
        ("1.1", [(b"Expect", b"")], False),
        ("1.1", [], False),
        ("1.0", [(b"Expect", b"100-continue")], False),
    ],
)
def test_only_http_1_1_waits_for_100_continue(
    version: str, headers: Headers, expected: bool
) -> None:
    head = Head(b"PUT", b"/", version, [(b"Host", b"h"), *headers])
    check_request(head)
    assert head.expects_continue is expected
