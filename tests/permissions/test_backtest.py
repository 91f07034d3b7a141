"""What past calls would have become under other policies."""

from __future__ import annotations

import json
from typing import Any

from opentrail.core.policies import Policy, PolicyKind, parse_policy
from opentrail.permissions.backtest import backtest, refused_by
from opentrail.permissions.generate import generate
from opentrail.permissions.replay import Judgement
from tests.factories import a_record, event_id


def policy(action: str, **more: Any) -> Policy:
    statement = {"Effect": "Allow", "Action": action, "Resource": "*", **more}
    document = {"Version": "2012-10-17", "Statement": statement}
    return parse_policy(json.dumps(document), PolicyKind.IDENTITY)


CREATED = a_record(eventID=event_id(1))
CREATED_BEFORE = a_record(eventID=event_id(2), eventTime="2019-01-01T09:00:00Z")
DENIED = a_record(eventID=event_id(3), errorCode="AccessDenied")
FAILED = a_record(eventID=event_id(4), errorCode="EntityAlreadyExists")


def test_equal_differences_are_counted_with_the_newest_call() -> None:
    tested = backtest([CREATED, CREATED_BEFORE, DENIED, FAILED], [policy("s3:*")])
    assert tested.was_allowed == {Judgement.DENIED: 2}
    assert tested.was_denied == {Judgement.DENIED: 1}
    (difference,) = tested.newly_denied
    assert (difference.action, difference.calls) == ("iam:CreateUser", 2)
    assert difference.event_id == event_id(1)
    assert difference.resource.endswith(":user/Mary")
    assert tested.newly_allowed == tested.unknown == []


def test_a_denied_call_that_would_be_allowed_is_another_difference() -> None:
    tested = backtest([CREATED, DENIED], [policy("iam:*")])
    assert (tested.was_allowed, tested.was_denied) == (
        {Judgement.ALLOWED: 1},
        {Judgement.ALLOWED: 1},
    )
    assert [each.event_id for each in tested.newly_allowed] == [event_id(3)]
    assert tested.newly_denied == []


def test_what_depends_on_more_than_the_record_is_not_decided() -> None:
    needs_tag = {"Condition": {"StringEquals": {"aws:PrincipalTag/team": "a"}}}
    tested = backtest([CREATED, DENIED], [policy("iam:*", **needs_tag)])
    assert tested.was_allowed == tested.was_denied == {Judgement.UNKNOWN: 1}
    assert [each.calls for each in tested.unknown] == [2]
    document = tested.document()
    assert document["allowedCalls"] == {"allowed": 0, "denied": 0, "unknown": 1}
    assert document["unknown"][0]["eventId"] == event_id(1)


def test_a_generated_policy_refuses_none_of_its_calls() -> None:
    made = generate([CREATED, DENIED])
    assert refused_by(made, [CREATED, DENIED]) == 0
    other = a_record(eventName="DeleteUser")
    assert refused_by(made, [CREATED, other]) == 1
