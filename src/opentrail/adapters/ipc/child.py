"""Child processes of the server: started, watched, restarted; and their main function."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import uvloop

from opentrail.adapters.data_directory.system import (
    restore_garbage_collection,
    tune_garbage_collection,
)
from opentrail.adapters.ipc.link import Handlers, IpcRequest, Link, LinkError
from opentrail.adapters.ipc.parent import end_with_parent
from opentrail.core.errors import StorageFailed
from opentrail.core.faults import arm
from opentrail.core.logs import set_up_logging

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Interval between pings of a process.
_PING_SECONDS = 2.0
#: Seconds without an answer to a ping after which a process is killed as hung.
SILENCE_SECONDS = 10.0
#: Maximum seconds for a new process to load its modules and answer a ping.
_LOADING_SECONDS = 300.0
#: Maximum attempts to start a required process for the first time.
_FIRST_ATTEMPTS = 3
#: Pauses between two attempts to start a process: the first, and the longest.
_MIN_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.1, 10.0
#: Time for a process to end after its link is closed.
_END_SECONDS = 5.0
#: Variable with the process ids of the server and its descendants down to this process.
_CRASH_FAMILY = "OPENTRAIL_CRASH_FAMILY"


async def _no_action() -> None:
    return


class ChildProcess:
    """A process with a link to it, restarted whenever it ends or hangs.

    It runs `python -m MODULE DESCRIPTOR ARGUMENT…`; the descriptor is its end of the link.

    Args:
        module: the module to run.
        arguments: its arguments after the descriptors.
        handlers: the requests that it may send.
        prepare: called with the link of each new process; it is ready when this returns.
        prepare_seconds: deadline for that, from its first answer to a ping.
        heartbeat: called every two seconds once the process is ready; the process counts as hung if
            this takes longer than `silence_seconds`.
        on_end: called when a process has ended unexpectedly, before the next one starts.
        extra_socket: makes a socket for each new process to inherit as its second descriptor.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        handlers: Handlers,
        prepare: Callable[[Link], Awaitable[None]],
        *,
        prepare_seconds: float,
        heartbeat: Callable[[Link], Awaitable[None]] = Link.ping,
        silence_seconds: float = SILENCE_SECONDS,
        on_end: Callable[[], Awaitable[None]] = _no_action,
        extra_socket: Callable[[], socket.socket] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._module, self._arguments, self._handlers = module, arguments, handlers
        self._prepare, self._prepare_seconds = prepare, prepare_seconds
        self._heartbeat, self._silence_seconds = heartbeat, silence_seconds
        self._on_end = on_end
        self._extra_socket = extra_socket
        self._environment = environment or {}
        self._process: asyncio.subprocess.Process | None = None
        self._link: Link | None = None
        self._ready = asyncio.Event()
        self._supervising: asyncio.Task[None] | None = None
        self._is_stopping = False
        #: Number of processes that became ready.
        self.generation = 0
        #: Why the last attempt to start a process failed; None once a process is ready.
        self.failure: str | None = None
        self._has_answered = True
        #: When the current attempts to start a process began; monotonic time.
        self._unready_since = math.inf

    @property
    def pid(self) -> int | None:
        """Process id of the current process."""
        return self._process.pid if self._process else None

    @property
    def is_responding(self) -> bool:
        """Whether the process answered the last ping in time, or has just begun to start."""
        if self._ready.is_set():
            return self._has_answered
        starting_for = time.monotonic() - self._unready_since
        return self.failure is None and starting_for < self._silence_seconds

    @property
    def is_ready(self) -> bool:
        """Whether a process is ready and answers."""
        return self._ready.is_set() and self.is_responding

    async def start(self, *, is_required: bool = True) -> None:
        """Starts the process and returns once it is ready.

        Args:
            is_required: whether to give up when the process refuses, or has ended three times.
                Otherwise restarts it until it is ready, with backoff.

        Raises:
            StorageFailed: it ended, was not ready in time, or could not be started.
        """
        self._unready_since = time.monotonic()
        await self._start_with_backoff(_FIRST_ATTEMPTS if is_required else None)
        self._supervising = asyncio.create_task(self._supervise())

    async def ask(self, request: IpcRequest[T], seconds: float, *, resend: bool = True) -> T:
        """Returns the response to a request.

        Args:
            request: the request.
            seconds: deadline, which includes waiting for a process to be ready.
            resend: whether to resend it once to the next process if this one ends. The request
                itself may also end that process.

        Raises:
            StorageFailed: there was no response in time, or the request failed.
        """
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await self._ready.wait()
                    link = self._link
                    if link is None or self._is_stopping:
                        raise StorageFailed(f"{self._module}: the process has been stopped")
                    is_sent = not link.gone.done()
                    try:
                        return await link.ask(request)
                    except LinkError:
                        if not resend or not link.gone.done():
                            raise
                        resend = not is_sent
                    if link is self._link:  # no other process is ready yet
                        self._set_unready()
        except (LinkError, TimeoutError) as error:
            raise StorageFailed(f"{self._module}: no response: {error!r}") from error

    async def stop(self, farewell: IpcRequest[T] | None = None, seconds: float = 0.0) -> T | None:
        """Ends the process permanently.

        Args:
            farewell: a last request, after which the process exits.
            seconds: deadline for its response.

        Returns:
            The response to `farewell`, None if there was none.
        """
        self._is_stopping, self.failure = True, None
        response: T | None = None
        if self._link is not None and self._ready.is_set() and farewell is not None:
            with contextlib.suppress(LinkError, TimeoutError):
                async with asyncio.timeout(seconds):
                    response = await self._link.ask(farewell)
        if self._supervising is not None:
            self._supervising.cancel()
            await asyncio.gather(self._supervising, return_exceptions=True)
        await self._end()
        return response

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        inherited = [theirs, *([self._extra_socket()] if self._extra_socket else [])]
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self._module),
                *(str(end.fileno()) for end in inherited),
                *self._arguments,
                pass_fds=[end.fileno() for end in inherited],
                stdin=asyncio.subprocess.PIPE,  # it ends with this pipe, see `parent`
                stdout=asyncio.subprocess.DEVNULL,
                env={**os.environ, **self._environment},
            )
        except OSError as error:
            ours.close()
            raise StorageFailed(f"{self._module}: cannot be started: {error}") from error
        finally:
            for end in inherited:
                end.close()
        self._link = link = await Link.over(ours, self._handlers)
        watch: asyncio.Task[None] | None = None
        try:
            # A process that loads its modules on a busy machine is silent for long, but not hung.
            async with asyncio.timeout(_LOADING_SECONDS):
                await link.ping()
            async with asyncio.timeout(self._prepare_seconds):
                watch = asyncio.create_task(self._watch(link, process, Link.ping))
                await self._prepare(link)
        except (LinkError, TimeoutError) as error:
            await self._end()
            failure = StorageFailed(f"{self._module}: did not get ready: {error or 'timeout'}")
            raise failure from (error if link.gone.done() else None)
        except asyncio.CancelledError:
            _kill(process)
            raise
        finally:
            if watch is not None:
                watch.cancel()
        self.generation += 1
        self.failure, self._has_answered = None, True
        self._ready.set()

    async def _start_with_backoff(self, attempts: int | None) -> None:
        """Starts a process; restarts it when it ends, and on any error if `attempts` is None."""
        backoff = _MIN_BACKOFF_SECONDS
        for attempt in itertools.count(1):
            try:
                await self._start()
                return
            except StorageFailed as error:
                is_final = attempts is not None and not isinstance(error.__cause__, LinkError)
                if is_final or attempt == attempts:
                    raise
                self.failure = str(error)
                log.error("process did not start", extra=self._described(error))
            await asyncio.sleep(backoff)
            backoff = min(_MAX_BACKOFF_SECONDS, 2 * backoff)

    def _set_unready(self) -> None:
        self._ready.clear()
        self._unready_since = time.monotonic()

    async def _supervise(self) -> None:
        """Starts a new process whenever the current one ends."""
        while self._link is not None and self._process is not None:
            watch = asyncio.create_task(self._watch(self._link, self._process, self._heartbeat))
            try:
                await asyncio.shield(self._link.gone)
            finally:
                watch.cancel()
            self._set_unready()
            if self._is_stopping:
                return
            log.error("process ended, starting another", extra=self._described())
            await self._end()
            await self._on_end()
            await self._start_with_backoff(None)

    async def _watch(
        self,
        link: Link,
        process: asyncio.subprocess.Process,
        heartbeat: Callable[[Link], Awaitable[None]],
    ) -> None:
        """Kills a hung process, which closes its link."""
        while not link.gone.done():
            beat = asyncio.ensure_future(heartbeat(link))
            try:
                await asyncio.wait([beat], timeout=_PING_SECONDS)
                self._has_answered = beat.done()
                async with asyncio.timeout(max(0.0, self._silence_seconds - _PING_SECONDS)):
                    await beat
                self._has_answered = True
            except LinkError as error:
                if link.gone.done():
                    return
                # It answers, though with a failure.
                log.warning("heartbeat failed", extra=self._described(error))
            except TimeoutError:
                log.error("process hangs, killing it", extra=self._described())
                _kill(process)
                return
            finally:
                beat.cancel()
            await asyncio.sleep(_PING_SECONDS)

    def _described(self, error: Exception | None = None) -> dict[str, Any]:
        described = {"command": self._module, "pid": self.pid}
        return {**described, "error": str(error)} if error else described

    async def _end(self) -> None:
        process = self._process
        if self._link is not None:
            self._link.close()
        if process is None or process.returncode is not None:
            return
        try:
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


async def read_output(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    """Returns the output and the error output of a child once it has ended.

    `process.communicate()` would close the pipe whose end makes the child exit.
    """
    streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
    output, *errors = await asyncio.gather(*(stream.read() for stream in streams))
    await process.wait()
    return output, b"".join(errors)


# In the child

#: Serves with sockets and arguments until the process must end.
Serve = Callable[[list[socket.socket], list[str]], Coroutine[Any, Any, None]]


def run_child(serve: Serve, ends: int) -> None:
    """Runs `serve` with this process's `ends` sockets and its arguments."""
    end_with_parent()
    # Signals for the server reach its whole process group; the server decides when children end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    set_up_logging()
    sockets = [socket.socket(fileno=int(descriptor)) for descriptor in sys.argv[1 : 1 + ends]]
    tune_garbage_collection()
    uvloop.run(serve(sockets, sys.argv[1 + ends :]))
    restore_garbage_collection()


async def until_gone(link: Link, stopped: asyncio.Event) -> None:
    """Returns once the server asks this process to end, or has ended; then closes the link."""
    waiting = asyncio.ensure_future(stopped.wait())
    await asyncio.wait((waiting, link.gone), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    link.close()


def arm_in_child(names: Iterable[str]) -> None:
    """Arms the crash point of `OPENTRAIL_CRASH_AT`, for tests, if it is one of `names`.

    The point kills the server, this process, and the processes between them.
    """
    name, _, count = os.environ.get("OPENTRAIL_CRASH_AT", "").partition(":")
    if not name:
        return
    # A child of this process reads its ancestors here.
    family = f"{os.environ.get(_CRASH_FAMILY, os.getppid())} {os.getpid()}"
    os.environ[_CRASH_FAMILY] = family
    if name not in names:
        return

    def die() -> None:
        for process in family.split():
            os.kill(int(process), signal.SIGKILL)

    arm(name, int(count or "1"), die)
