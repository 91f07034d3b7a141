"""Methods that run in another process: each request is made from the method's signature."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import cache, wraps
from typing import Any, Protocol, TypeVar, cast, get_type_hints

import msgspec
from msgspec import structs

from opentrail.adapters.ipc.link import Handlers, IpcRequest
from opentrail.core.batches import batches
from opentrail.core.event import Entry

Method = Callable[..., Awaitable[Any]]
M = TypeVar("M", bound=Method)

#: Maximum bytes of records in one request.
_MAX_PART_BYTES = 16 * 1024 * 1024


class HasProcess(Protocol):
    """What remote methods belong to."""

    async def _ask(self, request: IpcRequest[Any], seconds: float, resend: bool) -> Any:
        """Return the response of the other process within the deadline.

        With `resend`, another process is asked, once, if this one ends in the meantime.
        """
        ...


@cache
def request_of(method: Method, is_cancellable: bool = False) -> type[IpcRequest[Any]]:
    """Returns the request for a call of a method; its members are the parameters."""
    hints = get_type_hints(method)
    parameters = list(inspect.signature(method).parameters)[1:]
    request = msgspec.defstruct(
        method.__qualname__,
        [(name, hints[name]) for name in parameters],
        bases=(IpcRequest,),
        namespace={"is_cancellable": is_cancellable, "response": hints["return"]},
        frozen=True,
        tag=method.__qualname__,
    )
    return cast("type[IpcRequest[Any]]", request)


def remote(method: M, seconds: float, *, resend: bool = True, is_cancellable: bool = False) -> M:
    """Returns a method of the same signature that has another process run it.

    Args:
        method: a method of a port.
        seconds: deadline for its response.
        resend: whether to ask the next process, once, if this one ends in the meantime.
        is_cancellable: whether cancelling the wait for the response also cancels the work on it.
    """
    request, signature = request_of(method, is_cancellable), inspect.signature(method)

    @wraps(method)
    async def call(self: HasProcess, *arguments: Any, **options: Any) -> Any:
        bound = signature.bind(self, *arguments, **options)
        bound.apply_defaults()
        _, *values = bound.arguments.values()
        return await self._ask(request(*values), seconds, resend)

    return cast("M", call)


def handlers_of(target: object, methods: Iterable[Method]) -> Handlers:
    """Returns handlers that call these methods of an object."""

    def handler_of(method: Method) -> Callable[[Any], Awaitable[Any]]:
        bound = getattr(target, method.__name__)

        async def handle(request: Any) -> Any:
            return await bound(**structs.asdict(request))

        return handle

    return {request_of(method): handler_of(method) for method in methods}


def parts(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Splits entries into parts that requests can carry."""
    return batches(entries, lambda entry: len(entry.record), _MAX_PART_BYTES)
