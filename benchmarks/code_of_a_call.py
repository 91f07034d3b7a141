"""How much code of ours a call passes in the thread that serves it: fewer functions are faster."""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import opentrail
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


def code() -> dict[str, float]:
    """Counts for the warmest of some calls of CreateUser, which is no matter of the machine."""
    ran = asyncio.run(_code_of_a_warm_call())
    return {"functions of a warm call": len(ran), "modules of a warm call": len(set(ran))}


async def _code_of_a_warm_call() -> list[str]:
    """Returns the module of each function that runs, as often as it runs."""
    (case,) = (one for one in cases("iam", ["CreateUser"]) if one.variant == "minimal")
    raw = Sender("http://127.0.0.1:4747", KEY, _SECRET).bytes_of(case)
    ran: list[str] = []
    seen: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder, StubUpstream() as upstream:
        journal = SqliteJournal(Path(folder))
        async with endpoint(journal, int(upstream.host.partition(":")[2])) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(CALLS):
                sys.setprofile(_noting(ran))
                writer.write(raw)
                head = await reader.readuntil(b"\r\n\r\n")
                sys.setprofile(None)
                length = re.search(rb"content-length: (\d+)", head.lower())
                assert length is not None
                await reader.readexactly(int(length[1]))
                seen.append(ran.copy())
                ran.clear()
            writer.close()
        await journal.close()
    return min(seen, key=len)


def _noting(ran: list[str]) -> Callable[[FrameType, str, Any], None]:
    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(_PACKAGE):
            ran.append(frame.f_code.co_filename.removeprefix(_PACKAGE))

    return note


BENCHMARKS = {"Code of a call": code}
