"""Re-signing of a call for an upstream that checks signatures over its own host name."""

from __future__ import annotations

from dataclasses import dataclass

from opentrail.capture.proxy.call import Call
from opentrail.capture.proxy.head import Head
from opentrail.capture.proxy.refusals import NoAnswer, Refusal
from opentrail.capture.proxy.upstream import Upstream
from opentrail.wire.message import MAX_BODY
from opentrail.wire.resign import (
    CannotResign,
    Original,
    Resigned,
    UpstreamCredentials,
    needs_body,
    resign,
    with_host,
)
from opentrail.wire.signed_chunks import ChunkSigner


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request as it goes to the upstream.

    `body` is set if it had to be read to be signed; `chunks` signs the chunks of an upload.
    """

    head: Head
    body: bytes | None = None
    chunks: ChunkSigner | None = None


async def resigned(call: Call, upstream: Upstream, key: UpstreamCredentials) -> UpstreamRequest:
    """Returns a call re-signed with the key, or for another host only if it is not signed.

    Raises:
        NoAnswer: it cannot be re-signed.
        BrokenOffError: the client broke off a body that was needed.
    """
    head, (path, query) = call.incoming.head, call.path_and_query
    credential, service = call.credential, call.route.service
    is_s3 = service is not None and service.name == "s3"
    original = Original(
        call.method,
        path,
        query,
        head.headers,
        call.folded,
        credential,
        upstream.authority,
        call.bucket_in_host if is_s3 else None,
    )
    if credential is None or credential.method == "HTMLForm":
        return UpstreamRequest(_with(head, with_host(original)))
    body = await call.whole_body(MAX_BODY) if needs_body(original) else None
    try:
        signed = resign(original, key, body, call.endpoint.clock.now())
    except CannotResign as error:
        raise NoAnswer(Refusal(error.status, error.code, str(error))) from error
    return UpstreamRequest(
        _with(head, signed, without_expect=body is not None), body, signed.chunks
    )


def _with(head: Head, signed: Resigned, without_expect: bool = False) -> Head:
    headers = signed.headers
    if without_expect:
        headers = [pair for pair in headers if pair[0].lower() != b"expect"]
    return Head(head.method, signed.target, head.version, headers)
