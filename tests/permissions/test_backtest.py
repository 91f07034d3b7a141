"""Outcomes of past calls under other policies."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from opentrail.core.policies import Policy, PolicyKind, parse_policy
from opentrail.permissions.generate import EXACT, PREFIX, generate, kinds_of
from opentrail.permissions.needs import needs_of, permissions_of
from opentrail.permissions.outcomes import CallOutcome, outcome_of
from opentrail.permissions.replay import Judgement, PolicyReplay, ReplayedCalls, refused_by
from tests.collection import at_least
from tests.factories import a_record, event_id
from tests.permissions.by_principal import Record, records_by_principal


def policy(action: str, **more: Any) -> Policy:
    statement = {"Effect": "Allow", "Action": action, "Resource": "*", **more}
    document = {"Version": "2012-10-17", "Statement": statement}
    return parse_policy(json.dumps(document), PolicyKind.IDENTITY)


CREATED = a_record(eventID=event_id(1))
CREATED_BEFORE = a_record(eventID=event_id(2), eventTime="2019-01-01T09:00:00Z")
DENIED = a_record(eventID=event_id(3), errorCode="AccessDenied")
FAILED = a_record(eventID=event_id(4), errorCode="EntityAlreadyExists")


def backtest(records: list[Record], policies: list[Policy]) -> ReplayedCalls:
    test = PolicyReplay(policies)
    test.add(records)
    return test.result()


def test_equal_differences_are_counted_with_the_newest_call() -> None:
    tested = backtest([CREATED, CREATED_BEFORE, DENIED, FAILED], [policy("s3:*")])
    assert tested.was_allowed == {Judgement.DENIED: 2}
    assert tested.was_denied == {Judgement.DENIED: 1}
    (difference,) = tested.newly_denied
    assert (difference.action, difference.calls) == ("iam:CreateUser", 2)
    assert difference.event_id == event_id(1)
    assert difference.resource.endswith(":user/Mary")
    assert tested.newly_allowed == tested.unknown == []


def test_a_newly_allowed_call_is_a_difference() -> None:
    tested = backtest([CREATED, DENIED], [policy("iam:*")])
    assert (tested.was_allowed, tested.was_denied) == (
        {Judgement.ALLOWED: 1},
        {Judgement.ALLOWED: 1},
    )
    assert [each.event_id for each in tested.newly_allowed] == [event_id(3)]
    assert tested.newly_denied == []


def test_conditions_outside_the_record_stay_undecided() -> None:
    needs_tag = {"Condition": {"StringEquals": {"aws:PrincipalTag/team": "a"}}}
    tested = backtest([CREATED, DENIED], [policy("iam:*", **needs_tag)])
    assert tested.was_allowed == tested.was_denied == {Judgement.UNKNOWN: 1}
    assert [each.calls for each in tested.unknown] == [2]
    document = tested.document()
    assert document["allowedCalls"] == {"allowed": 0, "denied": 0, "unknown": 1}
    assert document["unknown"][0]["eventId"] == event_id(1)


def test_a_generated_policy_allows_all_its_calls() -> None:
    made = generate(kinds_of([CREATED, DENIED]))
    assert refused_by(made, kinds_of([CREATED, DENIED])) == 0
    other = a_record(eventName="DeleteUser")
    assert refused_by(made, kinds_of([CREATED, other])) == 1


def allowed_actions(records: list[Record]) -> set[str]:
    return {
        permission.action
        for record in records
        if outcome_of(record) is CallOutcome.ALLOWED
        for permission in permissions_of(record)
    }


@pytest.mark.slow
@pytest.mark.parametrize("resources", [EXACT, PREFIX])
def test_real_calls_keep_their_outcomes(resources: str) -> None:
    allowed: Counter[Judgement] = Counter()
    denied: Counter[Judgement] = Counter()
    open_calls = 0
    for arn, records in records_by_principal().items():
        of_allowed = [r for r in records if outcome_of(r) is CallOutcome.ALLOWED]
        open_calls += sum(
            bool(needs.open or needs.unverified) for needs in map(needs_of, of_allowed)
        )
        made = generate(kinds_of(records), resources)
        policies = [parse_policy(json.dumps(each), PolicyKind.IDENTITY) for each in made.documents]
        replayed = backtest(records, policies)
        allowed += replayed.was_allowed
        denied += replayed.was_denied
        assert replayed.was_allowed[Judgement.DENIED] == 0, arn
        # A call both denied and allowed in the past has to be allowed.
        assert {each.action for each in replayed.newly_allowed} <= allowed_actions(records), arn
    assert denied[Judgement.UNKNOWN] == 0
    assert allowed[Judgement.UNKNOWN] == open_calls  # they depend on facts outside the record
    assert allowed[Judgement.ALLOWED] >= at_least(2_360, 60)
    assert denied[Judgement.DENIED] >= at_least(130, 5)
    assert denied[Judgement.ALLOWED] <= 8
