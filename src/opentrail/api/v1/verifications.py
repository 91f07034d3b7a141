"""The latest findings in the bucket of each trail, for the pages that show broken proofs first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import msgspec

from opentrail.core.event import format_time
from opentrail.core.trail import Trail
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put

_KIND = "ConsoleVerification"
#: Maximum findings of a trail; further ones are counted.
_MAX_FINDINGS = 20
#: What a line of `opentrail validate` begins with if an object is not valid.
_BAD = "NOT GOOD"


class DamagedObject(TypedDict):
    """An object of a trail's bucket that is not as it was delivered."""

    name: str
    reason: str
    #: The event whose proof it broke, if that is how it was found.
    event: str | None


class Verification(TypedDict):
    """The latest findings in a trail's bucket."""

    at: str
    valid: bool
    findings: list[DamagedObject]
    #: The number of further findings.
    more: int


class Verifications:
    """The latest verification of each trail, in the control store."""

    def __init__(self, control: ControlStore, clock: Clock) -> None:
        self._control = control
        self._clock = clock

    async def of(self, trail: Trail) -> Verification | None:
        """Returns the latest verification of a trail; None if there was none."""
        stored = await self._control.get(_KIND, trail.uid)
        return msgspec.convert(stored.document, Verification) if stored else None

    async def note(self, trail: Trail, is_valid: bool, lines: list[str]) -> None:
        """Stores what `opentrail validate` found, in place of earlier findings."""
        cells = [line.split("\t") for line in lines]
        bad: list[DamagedObject] = [
            {"name": row[2], "reason": row[3], "event": None}
            for row in cells
            if len(row) == 4 and row[0] == _BAD
        ]
        await self._put(trail, is_valid, bad[:_MAX_FINDINGS], max(len(bad) - _MAX_FINDINGS, 0))

    async def note_broken(self, trail: Trail, event_id: str, proof: Mapping[str, Any]) -> None:
        """Adds that the proof of an event is broken."""
        verification = await self.of(trail)
        name = f"s3://{proof['bucket']}/{proof['fault'] or ''}"
        finding: DamagedObject = {"name": name, "reason": proof["message"], "event": event_id}
        findings, more = (
            (verification["findings"], verification["more"]) if verification else ([], 0)
        )
        others = [other for other in findings if other["event"] != event_id]
        await self._put(trail, False, [finding, *others][:_MAX_FINDINGS], more)

    async def _put(
        self, trail: Trail, is_valid: bool, findings: list[DamagedObject], more: int
    ) -> None:
        document: Verification = {
            "at": format_time(self._clock.now()),
            "valid": is_valid,
            "findings": findings,
            "more": more,
        }
        await self._control.apply([Put(_KIND, trail.uid, {**document})])
