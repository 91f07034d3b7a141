"""The body after a request to switch protocols."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.capture.proxy.after_head import after_head, framing_of


class Told:
    """What was told, in order; pieces of a target and of a body as one."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.body = self.target = b""

    def on_message_begin(self) -> None:
        self.told.append("begin")

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self.told.append(f"{name.decode()}: {value.decode()}")

    def on_headers_complete(self) -> None:
        self.told.append("head")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.told.append("end")


@pytest.mark.hypothesis
@given(st.binary(min_size=1, max_size=200), st.booleans(), st.data())
def test_body_and_next_request_are_told_and_the_head_is_not(
    body: bytes, chunked: bool, data: st.DataObject
) -> None:
    told = Told()
    folded = {"transfer-encoding": "chunked"} if chunked else {"content-length": str(len(body))}
    parser = after_head(told, framing_of(folded))
    assert told.told == []
    framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    sent = framed + b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
    cut = data.draw(st.integers(0, len(sent)))
    for piece in (sent[:cut], sent[cut:]):
        parser.feed_data(piece)
    assert told.body == body
    assert told.target == b"/next"
    assert told.told == ["end", "begin", "Host: h", "head", "end"]
