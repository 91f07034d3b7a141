"""Middleware for WSGI applications."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from opentrail.capture.in_process.recording import Recording, Seen, failed
from opentrail.capture.in_process.shipping import Shipper
from opentrail.capture.record.exchange import GONE, INCOMPLETE, Failure


class WsgiRecorder:
    """Wraps a WSGI application; its requests are recorded when their answers are complete."""

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        event_source: str,
        shipper: Shipper,
        **options: Any,
    ) -> None:
        self._app = app
        self._recording = Recording(event_source, shipper, **options)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answers one request."""
        seen, pending = _seen_of(environ), b""
        input_stream = environ["wsgi.input"] = _Read(
            environ["wsgi.input"], seen, environ.get("CONTENT_LENGTH", "")
        )

        def start_answer(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            seen.status = int(status.split(" ", 1)[0])
            seen.answer_headers = {name.lower(): value for name, value in headers}
            write = start_response(status, headers, *rest)

            def write_piece(piece: bytes) -> None:
                nonlocal pending
                seen.answer_length += len(piece)
                if pending:
                    write(pending)
                pending = piece

            return write_piece

        failure: Failure | None = GONE
        recorded = False
        try:
            answer = self._app(environ, start_answer)
            try:
                # One piece behind: the last one is sent when the record is stored.
                for piece in answer:
                    seen.answer_length += len(piece)
                    if pending:
                        yield pending
                    pending = piece
            finally:
                close = getattr(answer, "close", None)
                if close is not None:
                    close()
            recorded = True
            self._recording.record(seen, input_stream.failure)
            yield pending
        except Exception as error:
            failure = failed(error)
            if not recorded:
                seen.status = None
            raise
        finally:
            if not recorded:
                self._recording.record(seen, input_stream.failure or failure)


class _Read:
    """The body of a request, which notes what a WSGI application reads."""

    def __init__(self, stream: Any, seen: Seen, announced: str) -> None:
        self._stream = stream
        self._seen = seen
        self._announced = int(announced) if announced.isdigit() else 0
        self._at_end = False

    @property
    def failure(self) -> Failure | None:
        """The failure of a request whose body ended before its announced length."""
        is_short = self._seen.body_length < self._announced
        return INCOMPLETE if self._at_end and is_short else None

    def read(self, *size: int) -> bytes:
        """Returns the next bytes; fewer than requested are the last ones (PEP 3333)."""
        piece: bytes = self._stream.read(*size)
        size_wanted = size[0] if size else -1
        return self._note(piece, size_wanted < 0 or len(piece) < size_wanted)

    def readline(self, *size: int) -> bytes:
        """Returns the next line, or its start."""
        line: bytes = self._stream.readline(*size)
        return self._note(line, not line and size != (0,))

    def readlines(self, *hint: int) -> list[bytes]:
        """Returns the lines that are left."""
        lines = [self._note(line, False) for line in self._stream.readlines(*hint)]
        self._at_end = self._at_end or not hint or not lines
        return lines

    def __iter__(self) -> Iterator[bytes]:
        """Yields the lines that are left."""
        for line in self._stream:
            yield self._note(line, False)
        self._at_end = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _note(self, piece: bytes, is_last: bool) -> bytes:
        self._at_end = self._at_end or is_last
        self._seen.take(piece)
        return piece


def _seen_of(environ: dict[str, Any]) -> Seen:
    """Returns a request from a WSGI environment; its body is noted as the application reads it."""
    headers = {
        name[5:].replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    return Seen(
        method=environ["REQUEST_METHOD"],
        path=_text_of(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")),
        query=environ.get("QUERY_STRING", ""),
        headers=headers,
        source_ip=environ.get("REMOTE_ADDR", ""),
    )


def _text_of(latin: str) -> str:
    """Returns a path of a WSGI environment, whose characters are bytes (PEP 3333).

    >>> _text_of("/Ã©")
    '/é'
    """
    return latin.encode("latin-1", "replace").decode("utf-8", "replace")
