"""The findings of a validation, as text and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from opentrail.core.text import counted, printable
from opentrail.validation.bucket_objects import ChainId, format_time

GOOD, NOT_GOOD, UNDECIDED = 0, 1, 5
_VERDICTS = {GOOD: "good", NOT_GOOD: "not good", UNDECIDED: "cannot be decided"}


class Status(StrEnum):
    """The effect of a finding on the verdict."""

    BAD = "bad"
    UNKNOWN = "unknown"
    #: Not an error, but worth knowing.
    NOTE = "note"


class FindingKind(StrEnum):
    DIGEST = "digest file"
    LOG = "log file"
    GAP = "gap"
    CHAIN = "chain"


@dataclass(frozen=True, slots=True)
class Finding:
    """A result about one object or period."""

    status: Status
    kind: FindingKind
    name: str
    reason: str
    start: datetime | None = None
    end: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "status": str(self.status),
            "kind": str(self.kind),
            "name": self.name,
            "reason": self.reason,
        }
        if self.start is not None:
            document["start"] = format_time(self.start)
        if self.end is not None:
            document["end"] = format_time(self.end)
        return document

    def line(self) -> str:
        """Returns status, kind, name and reason, separated by tabs."""
        words = {Status.BAD: "NOT GOOD", Status.UNKNOWN: "UNKNOWN", Status.NOTE: "note"}
        when = ""
        if self.start is not None and self.end is not None:
            when = f"{format_time(self.start)} to {format_time(self.end)}: "
        parts = (words[self.status], str(self.kind), self.name, f"{when}{self.reason}")
        return "\t".join(printable(part) for part in parts)


@dataclass(slots=True)
class ChainCount:
    """Number of validated objects of a chain, and the time they cover."""

    chain: ChainId
    start: datetime | None = None
    end: datetime | None = None
    digests: int = 0
    good_digests: int = 0
    logs: int = 0
    good_logs: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "trail": self.chain.trail,
            "homeRegion": self.chain.home_region,
            "account": self.chain.account,
            "organization": self.chain.organization or None,
            "region": self.chain.region,
            "backfill": self.chain.backfill,
            "start": format_time(self.start) if self.start else None,
            "end": format_time(self.end) if self.end else None,
            "digestFiles": {"valid": self.good_digests, "all": self.digests},
            "logFiles": {"valid": self.good_logs, "all": self.logs},
        }

    def describe(self) -> str:
        when = (
            f", {format_time(self.start)} to {format_time(self.end)}"
            if self.start and self.end
            else ""
        )
        return printable(
            f"{self.chain.describe()}{when}:"
            f" {self.good_digests:,}/{self.digests:,} digest files valid,"
            f" {self.good_logs:,}/{self.logs:,} log files valid"
        )


@dataclass(slots=True)
class Report:
    """All findings; a new finding calls `show` immediately."""

    show: Callable[[Finding], object] = lambda _: None
    findings: list[Finding] = field(default_factory=list)
    counts: dict[ChainId, ChainCount] = field(default_factory=dict)
    #: Number of log files delivered after the newest digest.
    pending_logs: int = 0
    bytes_unpacked: int = 0

    def add(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.show(finding)

    def bad(self, kind: FindingKind, name: str, reason: str, *when: datetime | None) -> None:
        """Adds a finding that something is not good."""
        self.add(Finding(Status.BAD, kind, name, reason, *when))

    def unknown(self, kind: FindingKind, name: str, reason: str, *when: datetime | None) -> None:
        """Adds a finding that something cannot be decided."""
        self.add(Finding(Status.UNKNOWN, kind, name, reason, *when))

    def note(self, kind: FindingKind, name: str, reason: str, *when: datetime | None) -> None:
        """Adds a note."""
        self.add(Finding(Status.NOTE, kind, name, reason, *when))

    def count(self, chain: ChainId) -> ChainCount:
        return self.counts.setdefault(chain, ChainCount(chain))

    @property
    def exit_code(self) -> int:
        """The exit code for all findings."""
        statuses = {finding.status for finding in self.findings}
        if Status.BAD in statuses:
            return NOT_GOOD
        return UNDECIDED if Status.UNKNOWN in statuses else GOOD

    @property
    def verdict(self) -> str:
        """The exit code in words."""
        return _VERDICTS[self.exit_code]

    def as_json(self) -> dict[str, Any]:
        """Returns the report as JSON values; the shape is in docs/howto/validate-a-trail.md."""
        return {
            "verdict": self.verdict,
            "chains": [count.as_json() for count in self._sorted()],
            "pendingLogFiles": self.pending_logs,
            "findings": [finding.as_json() for finding in self.findings],
        }

    def summary(self) -> Sequence[str]:
        """Returns the summary: a line per chain and the verdict."""
        lines = [count.describe() for count in self._sorted()]
        if self.pending_logs:
            were = "was" if self.pending_logs == 1 else "were"
            lines.append(
                f"{counted(self.pending_logs, 'log file')} {were} delivered after the newest digest"
                " file, which the next one will list"
            )
        bad = sum(finding.status is Status.BAD for finding in self.findings)
        unknown = sum(finding.status is Status.UNKNOWN for finding in self.findings)
        more = f" ({bad:,} not good, {unknown:,} unknown)" if bad or unknown else ""
        return [*lines, f"{self.verdict}{more}"]

    def _sorted(self) -> list[ChainCount]:
        return [self.counts[chain] for chain in sorted(self.counts)]
