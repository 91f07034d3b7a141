"""What came of every line: counted by reason, the first losses by name."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, TextIO

from opentrail.commands.import_sources import NotSent
from opentrail.core.text import printable
from opentrail.imports.batch import BatchFile
from opentrail.imports.records import DIGEST_FILE

#: Losses that are shown: so many of one reason, and so many in all.
_SHOWN_OF_ONE, _SHOWN = 3, 20


class Totals:
    """Counts; `losses` gets every rejected line as JSON, if there is such a file."""

    def __init__(self, losses: TextIO | None = None) -> None:
        self.files = self.known = self.lines = self.imported = self.doubled = 0
        self.reasons: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        #: The first losses of each reason.
        self._first: list[dict[str, Any]] = []
        self._losses = losses

    def note_sent(self, sent: BatchFile, answer: dict[str, Any]) -> None:
        """Counts what the server says of a file or a piece of one."""
        if sent.line == 1:
            self.files += 1
            self.known += answer["state"] == "known"
        self.lines += answer["lines"]
        if answer["state"] == "known":  # what an earlier import took in is not taken in again
            self.doubled += answer["imported"] + answer["doubled"]
        else:
            self.imported += answer["imported"]
            self.doubled += answer["doubled"]
        for lost in answer["rejected"]:
            self._note_loss(sent.name, lost["line"], str(lost["reason"]), str(lost["detail"]))

    def note_not_sent(self, passed: NotSent) -> None:
        """Counts what was not even sent; what may have held records is a rejected line."""
        if not passed.is_lost:
            self.skipped[passed.reason] += 1
            return
        self.files += passed.line == 1
        self.lines += 1
        self._note_loss(passed.name, passed.line, passed.reason, passed.detail)

    def _note_loss(self, name: str, line: int, reason: str, detail: str) -> None:
        self.reasons[reason] += 1
        loss = {"name": name, "line": line, "reason": reason, "detail": detail}
        if self.reasons[reason] <= _SHOWN_OF_ONE and len(self._first) < _SHOWN:
            self._first.append(loss)
        if self._losses:
            self._losses.write(json.dumps(loss) + "\n")

    @property
    def rejected(self) -> int:
        """Lines that were not taken."""
        return self.reasons.total()

    @property
    def is_complete(self) -> bool:
        """Whether all was taken, but for digest files, which hold no events."""
        return set(self.reasons) <= {DIGEST_FILE}

    def as_json(self) -> dict[str, Any]:
        """Returns all counts and the first losses."""
        return {
            "files": self.files,
            "known": self.known,
            "lines": self.lines,
            "imported": self.imported,
            "doubled": self.doubled,
            "rejected": self.rejected,
            "reasons": dict(self.reasons.most_common()),
            "skipped": dict(self.skipped.most_common()),
            "first_rejected": self._first,
        }

    def told(self) -> str:
        """Returns the counts and the first losses as text."""
        known = f", {self.known:,} of them imported before" if self.known else ""
        lines = [f"{self.files:,} {'file' if self.files == 1 else 'files'}{known}", self.sum()]
        lines += [f"{n:>9,} {printable(reason)}" for reason, n in self.reasons.most_common()]
        if self.skipped:
            lines.append("skipped")
            lines += [f"{n:>9,} {reason}" for reason, n in self.skipped.most_common()]
        lines += [_loss(loss) for loss in self._first]
        if self.rejected > len(self._first):
            more = self.rejected - len(self._first)
            lines.append(f"... and {more:,} more; --rejected FILE writes all of them")
        return "\n".join(lines)

    def sum(self) -> str:
        """Returns the sum of lines, each of which is in one of its parts (guarantee N5)."""
        return (
            f"{self.lines:,} lines = {self.imported:,} imported + {self.doubled:,} doubled"
            f" + {self.rejected:,} rejected"
        )


def _loss(loss: dict[str, Any]) -> str:
    detail = f" ({loss['detail']})" if loss["detail"] else ""
    return printable(f"{loss['name']}:{loss['line']}: {loss['reason']}{detail}")
