"""Sends cases through a real server to a stub upstream, and reads their records back."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.answers import Answer, answer_of
from tests.conformance.compare import differences, kind_of
from tests.conformance.expect import EXCEPTED
from tests.conformance.five_services import expect_s3
from tests.conformance.generate import Case
from tests.conformance.send import Sender, Sent, send_all
from tests.live.processes import opentrail_server
from tests.stub_upstream import RawRequest, StubUpstream

#: A key without an account, and any secret: the server verifies nothing.
_KEY, _SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
_EMPTY = Answer(200, {"Content-Type": "application/xml"}, b"", None)


@dataclass
class Outcome:
    """The number of cases by protocol, and every error."""

    tried: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    wrong_operations: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    wrong: dict[Case, list[str]] = field(default_factory=dict)
    calls: int = 0

    def add(self, case: Case, problems: list[str]) -> None:
        """Counts a case and its errors."""
        operation = f"{case.service}.{case.operation}"
        self.calls += 1
        self.tried[case.protocol].add(operation)
        if problems:
            self.wrong_operations[case.protocol].add(operation)
            self.wrong[case] = problems

    @property
    def operations(self) -> set[str]:
        """Returns every operation with a case in any protocol."""
        return set().union(*self.tried.values())

    def counts(self) -> str:
        """Returns the numbers of tried and right operations, for each protocol."""
        rows = [f"{self.calls} calls of {len(self.operations)} operations"]
        for protocol, tried in sorted(self.tried.items()):
            right = len(tried) - len(self.wrong_operations[protocol])
            rows.append(f"{protocol}: {len(tried)} operations tried, {right} right")
        return "\n".join(rows)

    def report(self, most: int = 40) -> str:
        """Returns the differences grouped by kind, the most frequent first, with examples."""
        groups: dict[str, list[str]] = defaultdict(list)
        for case, problems in self.wrong.items():
            groups[kind_of(problems[0])].append(f"{case} {problems[0]}")
        ordered = sorted(groups.values(), key=len, reverse=True)
        rows = [f"{len(group)} x {group[0]}" for group in ordered[:most]]
        return "\n".join([self.counts(), f"{len(groups)} kinds of differences", *rows])


def round_trip(folder: Path, cases: Iterable[Case]) -> Outcome:
    """Returns the results of the cases."""
    known: dict[str, Case] = {}

    def answer(request: RawRequest) -> bytes:
        case = known[request.header("user-agent")]
        made = _EMPTY if case.service == "s3" else answer_of(case)
        return made.raw(with_body=request.method != "HEAD")

    def noted() -> Iterator[Case]:
        for case in cases:
            if (case.service, case.operation) not in EXCEPTED:
                known[case.user_agent] = case
                yield case

    data = folder / "data"
    with (
        StubUpstream(answer=answer) as upstream,
        opentrail_server(data, "--upstream", upstream.url) as server,
    ):
        port = int(server.url.rpartition(":")[2])
        sent = send_all(Sender(server.url, _KEY, _SECRET), noted(), port)
        server.stop()
    records = _records(data / "journal")
    outcome = Outcome()
    for one in sent:
        outcome.add(one.case, _problems(one, records.get(one.case.user_agent, [])))
    return outcome


def _problems(sent: Sent, records: list[Mapping[str, Any]]) -> list[str]:
    if sent.problem:
        return [sent.problem]
    case = sent.case
    parts = expect_s3.parts_of(case.service, case.operation, case.params)
    if len(records) != 1 + len(parts):
        return [f"records: {len(records)}"]
    call, *others = records
    wrong = [
        f"part: {part}"
        for record, part in zip(others, parts, strict=True)
        if not expect_s3.is_part(record, call, part)
    ]
    return differences(sent, call) + wrong


def _records(journal: Path) -> dict[str, list[Mapping[str, Any]]]:
    """Returns the journal's records, by user agent (S3 puts it in brackets)."""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for file in sorted(journal.glob("*.db")):
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            for (raw,) in connection.execute("SELECT record FROM entries ORDER BY position"):
                record = json.loads(raw)
                found[str(record.get("userAgent", "")).strip("[]")].append(record)
    return found
