"""URLs of the endpoint in answers, for upstreams that do not know that clients speak TLS."""

from __future__ import annotations

import re

from opentrail.capture.proxy.upstream import AnswerHead
from opentrail.capture.record.rules import answers_urls
from opentrail.wire.message import fold_headers
from opentrail.wire.routing import Call

#: Longer answers are passed on as they are.
MOST_BYTES = 1024 * 1024
#: Headers with checksums of the body.
_CHECKSUMS = frozenset({b"content-md5", b"x-amz-crc32"})


def has_urls(call: Call, head: AnswerHead) -> bool:
    """Returns whether an answer names the endpoint by its URL, and can be rewritten."""
    if call.service is None or not answers_urls(call.service.name, call.operation or ""):
        return False
    length = head.folded.get("content-length", "0")
    is_short = length.isdigit() and int(length) <= MOST_BYTES
    return is_short and "content-encoding" not in head.folded


def with_https(host: str, head: AnswerHead, body: bytes) -> bytes:
    """Returns a whole body with `https://HOST` for `http://HOST`; the head gets its new length.

    Only `host`, as the client sent it, is rewritten. In JSON the slashes may be escaped.
    """
    name = re.escape(host.encode("latin-1", "replace"))
    url = re.compile(rb"http(:\\?/\\?/)" + name + rb"(?![\w.:-])", re.I)
    changed = url.sub(lambda found: b"https" + found[1] + found[0][-len(host) :], body)
    head.headers = [
        (key, b"%d" % len(changed) if key.lower() == b"content-length" else value)
        for key, value in head.headers
        if changed == body or key.lower() not in _CHECKSUMS
    ]
    head.folded = fold_headers(head.headers)
    return changed
