"""Middleware for WSGI applications."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from opentrail.capture.middleware.recording import Recording, Seen
from opentrail.capture.shipping import Shipper


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
        seen, held = _seen_of(environ), b""

        def started(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            seen.status = int(status.split(" ", 1)[0])
            seen.answer_headers = {name.lower(): value for name, value in headers}
            write = start_response(status, headers, *rest)

            def written(piece: bytes) -> None:
                nonlocal held
                seen.answer_length += len(piece)
                if held:
                    write(held)
                held = piece

            return written

        failure: str | None = "the client went away"
        recorded = False
        try:
            answer = self._app(environ, started)
            try:
                # One piece behind: the last one leaves when the record is where it should be.
                for piece in answer:
                    seen.answer_length += len(piece)
                    if held:
                        yield held
                    held = piece
            finally:
                close = getattr(answer, "close", None)
                if close is not None:
                    close()
            recorded = True
            self._recording.record(seen)
            yield held
        except Exception as error:
            failure = f"the application failed: {type(error).__name__}"
            if not recorded:
                seen.status = None
            raise
        finally:
            if not recorded:
                self._recording.record(seen, failure)


class _Read:
    """A request's body that a WSGI application reads, and what was read of it."""

    def __init__(self, stream: Any, seen: Seen) -> None:
        self._stream = stream
        self._seen = seen

    def read(self, *size: int) -> bytes:
        """Returns the next bytes."""
        return self._taken(self._stream.read(*size))

    def readline(self, *size: int) -> bytes:
        """Returns the next line, or its start."""
        return self._taken(self._stream.readline(*size))

    def readlines(self, *hint: int) -> list[bytes]:
        """Returns the lines that are left."""
        return [self._taken(line) for line in self._stream.readlines(*hint)]

    def __iter__(self) -> Iterator[bytes]:
        """Yields the lines that are left."""
        return map(self._taken, self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _taken(self, piece: bytes) -> bytes:
        self._seen.take(piece)
        return piece


def _seen_of(environ: dict[str, Any]) -> Seen:
    """Reads a WSGI environment; of the body is seen what the application reads."""
    headers = {
        name[5:].replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    seen = Seen(
        method=environ["REQUEST_METHOD"],
        path=_text_of(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")),
        query=environ.get("QUERY_STRING", ""),
        headers=headers,
        source_ip=environ.get("REMOTE_ADDR", ""),
    )
    environ["wsgi.input"] = _Read(environ["wsgi.input"], seen)
    return seen


def _text_of(latin: str) -> str:
    """Returns a path of a WSGI environment, whose letters stand for bytes (PEP 3333).

    >>> _text_of("/Ã©")
    '/é'
    """
    return latin.encode("latin-1", "replace").decode("utf-8", "replace")
