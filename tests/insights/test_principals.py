from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from opentrail.core.event import format_time
from opentrail.core.insight_types import (
    ACCESS_DENIED,
    API_FAN_OUT,
    NEW_AGENT,
    NEW_API,
    NEW_PRINCIPAL,
    NEW_REGION,
    NEW_USER_AGENT,
    PRINCIPAL_TYPES,
    WINDOW_MINUTES,
)
from opentrail.insights import principals
from opentrail.insights.findings import PrincipalFinding, minute_of
from opentrail.insights.principals import Principals
from opentrail.ports.event_store import PrincipalCounts
from tests.factories import ACCOUNT, a_record, an_assumed_role, an_entry, an_iam_user
from tests.fakes import utc

START = utc("2024-01-01T00:00:00Z")
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
JOHN = f"arn:aws:iam::{ACCOUNT}:user/John"
#: A finding: type, value, days.
Said = tuple[str, str | None, int]


class Account:
    """An account whose events Insights evaluates when they are recorded."""

    def __init__(self, types: Sequence[str] = PRINCIPAL_TYPES) -> None:
        self.principals = Principals(types, minute_of(START) - 1)
        self.findings: list[PrincipalFinding] = []
        self.calls = 0

    def call(self, moment: datetime, late: timedelta = MINUTE / 60, **changes: Any) -> None:
        self.calls += 1
        record = a_record(eventTime=format_time(moment), eventID=f"{self.calls:032x}", **changes)
        entry = an_entry(self.calls, record, recorded_at=moment + late)
        self.pass_time(entry.recorded_at)
        self.findings += self.principals.observe(entry)

    def work(self, first: int, last: int, **changes: Any) -> None:
        """Makes one ordinary call on each of these days."""
        for number in range(first, last + 1):
            self.call(day(number), **changes)

    def pass_time(self, moment: datetime) -> None:
        """Closes the minutes up to a moment; skips quiet days."""
        last = minute_of(moment) - 2
        for minute in range(max(self.principals.now + 1, last - 300), last + 1):
            self.findings += self.principals.close(minute)

    def found(self) -> list[PrincipalFinding]:
        return self.findings

    def said(self) -> list[Said]:
        return [(each.type, each.value, each.days) for each in self.found()]


def day(number: float) -> datetime:
    return START + number * DAY


# First uses


@pytest.mark.parametrize(
    ("name", "changes", "value"),
    [
        (NEW_API, {"eventName": "DeleteUser"}, "iam:DeleteUser"),
        (NEW_REGION, {"awsRegion": "eu-west-3"}, "eu-west-3"),
        (
            NEW_PRINCIPAL,
            {"userIdentity": an_iam_user("Ann")},
            f"arn:aws:iam::{ACCOUNT}:user/Ann",
        ),
        (NEW_USER_AGENT, {"userAgent": "Boto3/1.34 md/Botocore"}, "Boto3"),
        (NEW_AGENT, {"userAgent": "aws-cli/2.15 app/agent-claude-code"}, "Claude Code"),
    ],
)
def test_a_first_use_is_found_after_14_days(name: str, changes: dict[str, Any], value: str) -> None:
    for days, expected in ((13, []), (14, [(name, value, 14)])):
        account = Account([name])
        account.work(0, days - 1)
        account.call(day(days), **changes)
        assert account.said() == expected
        account.call(day(days + 1), **changes)
        assert account.said() == expected, "the second use is not new"


def test_disabled_types_find_nothing() -> None:
    account = Account([NEW_REGION])
    account.work(0, 20)
    account.call(day(21), eventName="DeleteUser", userAgent="Boto3/1.34")
    assert account.said() == []


def test_a_finding_names_its_event() -> None:
    account = Account([NEW_API])
    account.work(0, 20)
    account.call(day(21), eventName="DeleteUser", userIdentity=an_iam_user())
    (found,) = account.found()
    assert (found.account, found.principal) == (ACCOUNT, JOHN)
    assert (found.event_source, found.event_name) == ("iam.amazonaws.com", "DeleteUser")
    assert found.event_id == f"{22:032x}"
    assert (found.start, found.end) == (int(day(21).timestamp()), None)


def test_principal_has_one_finding_per_type_and_day() -> None:
    account = Account([NEW_API])
    account.work(0, 20)
    for name in ("DeleteUser", "CreateAccessKey"):
        account.call(day(21), eventName=name)
    account.call(day(22), eventName="CreateAccessKey")
    account.call(day(22), eventName="CreateRole")
    assert [value for _, value, _ in account.said()] == ["iam:DeleteUser", "iam:CreateRole"]


def test_new_principal_is_its_first_days_only_finding() -> None:
    account = Account()
    account.work(0, 20)
    for name in ("CreateUser", "DeleteUser"):
        account.call(day(21), eventName=name, userIdentity=an_iam_user("Ann"))
    assert [each.type for each in account.found()] == [NEW_PRINCIPAL]


def test_sessions_of_a_role_are_one_principal() -> None:
    account = Account()
    account.work(0, 20, userIdentity=an_assumed_role("deploy", session="i-1"))
    account.call(day(21), userIdentity=an_assumed_role("deploy", session="i-2"))
    assert account.said() == []


def test_a_services_call_has_a_region_without_principal() -> None:
    service = {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}
    account = Account()
    account.work(0, 20)
    account.call(day(21), userIdentity=service, eventName="DeleteUser")
    assert account.said() == []
    account.call(day(21), userIdentity=service, awsRegion="eu-west-3")
    assert account.said() == [(NEW_REGION, "eu-west-3", 21)]


def test_a_value_is_new_again_after_90_days() -> None:
    for days, expected in ((90, []), (91, [(NEW_API, "iam:DeleteUser", 90)])):
        account = Account([NEW_API])
        account.call(day(0), eventName="DeleteUser")
        account.work(0, days - 1)
        account.call(day(days), eventName="DeleteUser")
        assert account.said() == expected


def test_event_is_new_up_to_three_hours_late() -> None:
    for late, count in ((timedelta(hours=2), 1), (timedelta(hours=4), 0)):
        account = Account([NEW_API])
        account.work(0, 20)
        account.call(day(21), late, eventName="DeleteUser")
        account.call(day(21.5), eventName="DeleteUser")
        assert len(account.said()) == count, "later ones are only learned"


def test_overflow_is_counted_and_not_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = Account([NEW_API])
    account.work(0, 20)
    monkeypatch.setattr(principals, "MAX_VALUES", 3)  # the account, its user and the API
    account.call(day(21), eventName="DeleteUser")
    assert account.said() == []
    assert account.principals.unwatched == 1


# Bursts


def denied(account: Account, moment: datetime, count: int, **changes: Any) -> None:
    """Makes refused calls of different APIs, ten seconds apart."""
    for number in range(count):
        at = moment + number * timedelta(seconds=10)
        account.call(at, eventName=f"Get{number}", errorCode="AccessDenied", **changes)


def test_burst_of_refused_calls_has_start_and_end() -> None:
    account = Account([ACCESS_DENIED])
    account.work(0, 20)
    denied(account, day(21), 40)
    account.pass_time(day(21) + 8 * MINUTE)
    (start,) = account.found()
    assert (start.principal, start.start, start.end) == (JOHN, int(day(21).timestamp()), None)
    assert (start.usual, start.observed, start.days) == (0, 24, 21)
    account.pass_time(day(21) + 60 * MINUTE)
    _, end = account.found()
    assert end.end == int((day(21) + 7 * MINUTE).timestamp())
    assert (end.start, end.observed) == (start.start, 40)


@pytest.mark.parametrize(("count", "findings"), [(19, 0), (20, 2)])
def test_fewer_than_20_refused_calls_are_no_burst(count: int, findings: int) -> None:
    account = Account([ACCESS_DENIED])
    account.work(0, 20)
    denied(account, day(21), count)
    account.pass_time(day(21) + 60 * MINUTE)
    assert len(account.found()) == findings


def test_learned_agent_is_not_new_for_other_principals() -> None:
    account = Account([NEW_AGENT])
    codex: Any = {"userAgent": "aws-cli/2.15 app/agent-codex"}
    for who, counted in ((None, "Codex"), (f"{JOHN}2", None)):
        account.principals.add(learned(counts(0, agent=counted, principal=who or JOHN)))
    account.work(1, 20, userIdentity=an_iam_user("John2"))
    account.call(day(21), userIdentity=an_iam_user("John"), **codex)
    assert account.said() == []
    account.principals = Principals.of(account.principals.state())
    account.call(day(21), userIdentity=an_iam_user("John2"), **codex)
    account.call(day(22), userIdentity=an_iam_user("John2"), **codex)
    assert account.said() == [(NEW_AGENT, "Codex", 21)]


@pytest.mark.parametrize(("count", "findings"), [(36, 0), (37, 2)])
def test_a_burst_exceeds_three_times_the_largest_before(count: int, findings: int) -> None:
    account = Account([ACCESS_DENIED])
    account.work(0, 10)
    denied(account, day(10) + MINUTE, 12)
    account.work(11, 20)
    denied(account, day(21), count)
    account.pass_time(day(21) + 60 * MINUTE)
    assert len(account.found()) == findings
    assert {each.usual for each in account.found()} <= {12}


def test_principal_has_one_burst_per_type_and_day() -> None:
    account = Account([ACCESS_DENIED])
    account.work(0, 20)
    for hours in (0, 5):
        denied(account, day(21) + timedelta(hours=hours), 30)
    account.pass_time(day(22))
    assert len(account.found()) == 2


def test_bursts_also_need_14_days() -> None:
    account = Account([ACCESS_DENIED, API_FAN_OUT])
    account.work(0, 12)
    denied(account, day(13), 40)
    account.pass_time(day(14))
    assert account.found() == []


@pytest.mark.parametrize(("count", "findings"), [(29, 0), (30, 2)])
def test_many_apis_within_15_minutes_are_a_burst(count: int, findings: int) -> None:
    account = Account([API_FAN_OUT])
    account.work(0, 20)
    for number in range(3 * count):
        at = day(21) + number * timedelta(seconds=8)
        account.call(at, eventName=f"List{number % count}")
    account.pass_time(day(21) + 60 * MINUTE)
    assert len(account.found()) == findings


def test_late_events_count_in_their_own_minutes() -> None:
    account = Account([ACCESS_DENIED])
    account.work(0, 20)
    for number in range(30):  # one in four minutes: a lump only where they arrive
        at = day(21) + number * 4 * MINUTE
        account.call(at, day(21) + timedelta(hours=2) - at, errorCode="AccessDenied")
    account.pass_time(day(21) + timedelta(hours=4))
    assert account.found() == []


# Restart, and learning from event history


@pytest.mark.parametrize("cut", [20, 35, 60])
def test_a_restored_state_continues_unchanged(cut: int) -> None:
    whole, stopped = Account(), Account()
    for account in (whole, stopped):
        account.work(0, 20)
        for number in range(45):
            if account is stopped and account.calls == cut:
                account.principals = Principals.of(account.principals.state())
            at = day(21) + number * timedelta(seconds=10)
            account.call(at, eventName=f"Get{number}", errorCode="AccessDenied")
        account.call(day(21) + 9 * MINUTE, userIdentity=an_iam_user("Ann"), awsRegion="eu-west-3")
        account.pass_time(day(21) + 60 * MINUTE)
    assert stopped.found() == whole.found()
    assert {each.type for each in whole.found()} == {*PRINCIPAL_TYPES} - {
        NEW_AGENT,
        NEW_USER_AGENT,
    }
    assert stopped.principals.state() == whole.principals.state()


def counts(number: float, minutes: int = 1, **changes: Any) -> PrincipalCounts:
    first = minute_of(day(number))
    members: dict[str, Any] = {
        "account": ACCOUNT,
        "region": "us-east-1",
        "event_source": "iam.amazonaws.com",
        "event_name": "CreateUser",
        "principal": JOHN,
        "user_agent_family": "aws-cli",
        "agent": None,
        "error_code": None,
        "minutes": [first + n for n in range(minutes)],
        "counts": [2] * minutes,
        **changes,
    }
    return PrincipalCounts(**members)


def learned(*days: PrincipalCounts) -> Principals:
    principals = Principals(PRINCIPAL_TYPES, minute_of(START) - 1)
    for each in days:
        principals.learn([each])
        for minute in each.minutes:
            principals.close(minute + WINDOW_MINUTES)
    return principals


def test_history_teaches_known_principals() -> None:
    account = Account()
    account.principals = learned(counts(0), counts(20, event_name="DeleteUser"))
    account.call(day(21), eventName="DeleteUser", userAgent="aws-cli/2.15")
    assert account.said() == []
    account.call(day(21), eventName="CreateRole", userAgent="aws-cli/2.15")
    assert account.said() == [(NEW_API, "iam:CreateRole", 21)]


@pytest.mark.parametrize(("count", "findings"), [(36, 0), (37, 2)])
def test_a_burst_is_compared_with_learned_ones(count: int, findings: int) -> None:
    account = Account()
    account.principals = learned(counts(0), counts(15, 6, error_code="AccessDenied"))
    account.work(16, 20)
    denied(account, day(21), count)
    account.pass_time(day(21) + 60 * MINUTE)
    assert [each.type for each in account.found()].count(ACCESS_DENIED) == findings


def test_burst_still_open_after_learning_can_be_reported() -> None:
    principals = learned(counts(0))
    principals.learn([counts(20, 12, error_code="AccessDenied")])
    principals.close(minute_of(day(20)) + 12)
    assert [each.type for each in principals.open_bursts()] == [ACCESS_DENIED]


def test_an_import_adds_to_the_learned_values() -> None:
    account = Account()
    account.work(0, 20)
    account.principals.add(learned(counts(3, event_name="DeleteUser")))
    account.call(day(21), eventName="DeleteUser")
    assert account.said() == []
