"""The report for people and for scripts."""

from __future__ import annotations

import pytest

from opentrail.validation.bucket_objects import ChainId
from opentrail.validation.report import FindingKind, Report
from tests.fakes import utc

CHAIN = ChainId("123456789012", "us-east-1", "my-trail", "us-east-1")
NINE, TEN = utc("2020-01-01T09:00:00"), utc("2020-01-01T10:00:00")


def test_bad_outweighs_unknown_and_unknown_outweighs_good() -> None:
    report = Report()
    report.note(FindingKind.GAP, "x", "in order")
    assert (report.exit_code, report.verdict) == (0, "good")
    report.unknown(FindingKind.CHAIN, "x", "who knows")
    assert (report.exit_code, report.verdict) == (5, "cannot be decided")
    report.bad(FindingKind.LOG, "x", "is missing")
    assert (report.exit_code, report.verdict) == (1, "not good")
    assert report.summary()[-1] == "not good (1 not good, 1 unknown)"


def test_findings_are_printed_in_order() -> None:
    lines: list[str] = []
    report = Report(show=lambda finding: lines.append(finding.line()))
    report.bad(FindingKind.GAP, "chain", "nothing there", NINE, TEN)
    assert lines == [
        "NOT GOOD\tgap\tchain\t2020-01-01T09:00:00Z to 2020-01-01T10:00:00Z: nothing there"
    ]


@pytest.mark.parametrize("evil", ["\x1b[31m", "\r", "\n", "\u202e", "\t"])
def test_terminal_controls_become_escapes(evil: str) -> None:
    report = Report()
    report.bad(FindingKind.LOG, f"a{evil}b", f"c{evil}d")
    line = report.findings[0].line()
    assert evil not in line.replace("\t", "", 3)


def test_scripts_get_the_whole_report() -> None:
    report = Report()
    count = report.count(CHAIN)
    count.start, count.end = NINE, TEN
    count.digests = count.good_digests = 1
    count.logs = 2
    report.pending_logs = 1
    report.bad(FindingKind.GAP, "chain", "nothing there", NINE, TEN)
    report.bad(FindingKind.LOG, "log", "is missing")
    assert report.as_json() == {
        "verdict": "not good",
        "chains": [
            {
                "trail": "my-trail",
                "homeRegion": "us-east-1",
                "account": "123456789012",
                "organization": None,
                "region": "us-east-1",
                "backfill": False,
                "start": "2020-01-01T09:00:00Z",
                "end": "2020-01-01T10:00:00Z",
                "digestFiles": {"valid": 1, "all": 1},
                "logFiles": {"valid": 0, "all": 2},
            }
        ],
        "pendingLogFiles": 1,
        "findings": [
            {
                "status": "bad",
                "kind": "gap",
                "name": "chain",
                "reason": "nothing there",
                "start": "2020-01-01T09:00:00Z",
                "end": "2020-01-01T10:00:00Z",
            },
            {"status": "bad", "kind": "log file", "name": "log", "reason": "is missing"},
        ],
    }


def test_people_get_a_line_for_each_chain() -> None:
    report = Report()
    count = report.count(CHAIN)
    count.digests = count.good_digests = 1234
    report.pending_logs = 1
    assert report.summary() == [
        "trail my-trail of us-east-1, 123456789012 us-east-1:"
        " 1,234/1,234 digest files valid, 0/0 log files valid",
        "1 log file was delivered after the newest digest file, which the next one will list",
        "good",
    ]
