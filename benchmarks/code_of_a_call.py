"""How much code of opentrail a call runs in the thread that serves it.

Unlike times, these counts are the same on every machine.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import uvloop

import opentrail
from benchmarks.nginx import stub
from benchmarks.processes import find_program
from opentrail.adapters.sqlite import SqliteJournal
from tests.capture.proxy.wires import endpoint
from tests.conformance.generate import cases
from tests.conformance.send import Sender
from tests.factories import KEY
from tests.stub_upstream import StubUpstream

_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
_PACKAGE = f"{Path(opentrail.__file__).parent}/"
#: Later calls are warm: they fill no cache any more.
CALLS = 20


#: Parts of the package whose bytecodes are counted apart.
_STAGES = ("capture/proxy", "capture/record", "wire", "adapters")


def code() -> dict[str, float]:
    """Returns counts for the shortest of some warm calls of CreateUser."""
    ran = asyncio.run(_code_of_a_warm_call())
    stages = Counter[str]()
    for module, count in ran.bytecodes.items():
        stages[next(filter(module.startswith, _STAGES), "others")] += count
    return {
        "functions of a warm call": len(ran.functions),
        "modules of a warm call": len(set(ran.functions)),
        "bytecodes of a warm call": stages.total(),
        **{f"bytecodes of a warm call, {stage}": stages[stage] for stage in sorted(stages)},
    }


@dataclass
class _Code:
    """The module of each function that ran, and the bytecodes of each module."""

    functions: list[str] = field(default_factory=list)
    bytecodes: Counter[str] = field(default_factory=Counter)

    def trace(self, frame: FrameType, _event: str, _argument: Any) -> Callable[..., Any] | None:
        """Counts a call of a function, for `sys.settrace`."""
        file = frame.f_code.co_filename
        # Classes without methods of their own have generated ones.
        module = file.removeprefix(_PACKAGE) if file.startswith(_PACKAGE) else "generated"
        if module == "generated" and file != "<string>":
            return None
        if module != "generated":
            self.functions.append(module)
        frame.f_trace_lines, frame.f_trace_opcodes = False, True

        def count(_frame: FrameType, event: str, _argument: Any) -> Any:
            if event == "opcode":
                self.bytecodes[module] += 1
            return count

        return count


async def _code_of_a_warm_call() -> _Code:
    seen: list[_Code] = []
    with StubUpstream() as upstream:
        async for call in _calls(int(upstream.host.partition(":")[2]), CALLS):
            seen.append(_Code())
            sys.settrace(seen[-1].trace)
            await call
            sys.settrace(None)
    return min(seen, key=lambda ran: ran.bytecodes.total())


async def _calls(upstream: int, count: int) -> AsyncIterator[Coroutine[Any, Any, None]]:
    """Yields calls of CreateUser to an endpoint in this process, each of which must be awaited."""
    (case,) = (one for one in cases("iam", ["CreateUser"]) if one.variant == "minimal")
    raw = Sender("http://127.0.0.1:4747", KEY, _SECRET).bytes_of(case)
    with tempfile.TemporaryDirectory() as folder:
        journal = SqliteJournal(Path(folder))
        async with endpoint(journal, upstream) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)

            async def call() -> None:
                writer.write(raw)
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                assert length is not None
                await reader.readexactly(int(length[1]))

            for _ in range(count):
                yield call()
            writer.close()
        await journal.close()


def instructions() -> dict[str, float]:
    """Returns the machine instructions of a call in all threads, without those of the kernel.

    They differ by less than 0.1 % between runs, however busy the machine is. Those of the client,
    in the same process, are included.
    """
    find_program("valgrind", "apt-get install valgrind")
    with stub() as upstream:
        few, many = (_instructions_of(upstream, count) for count in (250, 550))
    return {"thousand instructions of a call": (many - few) / 300 / 1000}


def _instructions_of(upstream: int, count: int) -> int:
    ran = subprocess.run(
        [
            *("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"),
            *(sys.executable, "-m", __name__, str(upstream), str(count)),
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"I +refs: +([\d,]+)", ran.stderr)
    assert found is not None, ran.stderr
    return int(found[1].replace(",", ""))


async def _run(upstream: int, count: int) -> None:
    async for call in _calls(upstream, count):
        await call


BENCHMARKS = {"Code of a call": code, "Instructions of a call": instructions}

if __name__ == "__main__":
    uvloop.run(_run(*map(int, sys.argv[1:])))
