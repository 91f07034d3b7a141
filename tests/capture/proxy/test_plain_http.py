"""Plain HTTP on a TLS port."""

from __future__ import annotations

import ssl

import pytest

from opentrail.capture.proxy.refusals import server_context


def test_plain_http_gets_an_answer() -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    side = server_context().wrap_bio(incoming, outgoing, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        side.do_handshake()
    incoming.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    with pytest.raises(ssl.SSLWantReadError):
        side.do_handshake()  # sends the answer
    answer = outgoing.read()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    incoming.write(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ssl.SSLError) as again:
        side.do_handshake()
    assert not isinstance(again.value, ssl.SSLWantReadError)

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    side = server_context().wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(b"\x00\x01neither of the two")
    with pytest.raises(ssl.SSLError):
        side.do_handshake()
    assert b"HTTP" not in outgoing.read()
