"""Messages to the process of Insights; the server does not load what that computes with."""

from __future__ import annotations

from datetime import datetime

from opentrail.adapters.ipc.link import IpcRequest
from opentrail.core.event import Entry
from opentrail.insights.expected import Expected
from opentrail.insights.findings import Detection, WatchState
from opentrail.ports.event_store import CallCounts, PrincipalCounts


class GetWatch(IpcRequest[WatchState], frozen=True):
    """Return the state."""


class Resume(IpcRequest[None], frozen=True):
    """Go on at this time; nothing was recorded since the watch ended."""

    moment: datetime


class Expect(IpcRequest[None], frozen=True):
    """Have what was as large in these incidents not reported again; others do not count."""

    expected: list[Expected]


class Observe(IpcRequest[WatchState], frozen=True):
    """Count entries of the journal."""

    entries: list[Entry]


class PassTime(IpcRequest[WatchState], frozen=True):
    """Close the minutes whose events have arrived by this time."""

    moment: datetime


class Acknowledge(IpcRequest[None], frozen=True):
    """Forget findings up to a number: they are recorded."""

    number: int


class BeginLearning(IpcRequest[None], frozen=True):
    """Begin to learn in a second watch; `since` is its first minute."""

    since: int


class LearnCounts(IpcRequest[list[Detection]], frozen=True):
    """Learn from the counts of a period that ends at `until`; return what was unusual."""

    counts: list[CallCounts]
    until: datetime


class AbandonLearning(IpcRequest[None], frozen=True):
    """Forget the second watch."""


class LearnPrincipals(IpcRequest[None], frozen=True):
    """Learn what principals did in the period whose counts are learned next."""

    counts: list[PrincipalCounts]


class Adopt(IpcRequest[WatchState], frozen=True):
    """Replace the watch by the second one, which has counted all up to these events."""

    cursor: int
    imported: int


class StopWatch(IpcRequest[None], frozen=True):
    """Write a snapshot and end."""
