"""How the end of an answer is told to a client."""

from __future__ import annotations

from opentrail.capture.proxy.framing import Framing


def test_an_answer_with_a_length_goes_as_it_is() -> None:
    framing = Framing(keep_alive=True, chunked=False, unframed=False)
    assert (framing.piece(b"abc"), framing.end, framing.headers) == (b"abc", b"", [])
    assert framing.keep_alive


def test_a_chunked_answer_is_chunked_anew() -> None:
    framing = Framing(keep_alive=True, chunked=True, unframed=False)
    assert framing.piece(b"abc") == b"3\r\nabc\r\n"
    assert framing.end == b"0\r\n\r\n"
    assert framing.headers == [(b"Transfer-Encoding", b"chunked")]


def test_an_answer_that_ends_with_its_connection_closes_ours() -> None:
    framing = Framing(keep_alive=True, chunked=False, unframed=True)
    assert framing.headers == [(b"Connection", b"close")]
    assert not framing.keep_alive


def test_held_whole_it_gets_a_length_and_the_connection_stays() -> None:
    framing = Framing(keep_alive=True, chunked=False, unframed=True)
    framing.set_length(5)
    assert framing.headers == [(b"Content-Length", b"5")]
    assert framing.keep_alive
