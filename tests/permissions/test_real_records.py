"""Policies of what the principals of real records did, replayed on the same calls."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from opentrail.core.policies import PolicyKind, parse_policy
from opentrail.permissions.backtest import backtest
from opentrail.permissions.generate import EXACT, PREFIX, generate
from opentrail.permissions.needs import permissions_of
from opentrail.permissions.outcomes import CallOutcome, outcome_of
from opentrail.permissions.replay import Judgement
from tests.collection import at_least
from tests.permissions.by_principal import Record, records_by_principal


def allowed_actions(records: list[Record]) -> set[str]:
    return {
        permission.action
        for record in records
        if outcome_of(record) is CallOutcome.ALLOWED
        for permission in permissions_of(record)
    }


@pytest.mark.parametrize("resources", [EXACT, PREFIX])
def test_what_was_allowed_stays_allowed_and_what_was_denied_stays_denied(resources: str) -> None:
    allowed: Counter[Judgement] = Counter()
    denied: Counter[Judgement] = Counter()
    for arn, records in records_by_principal().items():
        made = generate(records, resources)
        policies = [parse_policy(json.dumps(each), PolicyKind.IDENTITY) for each in made.documents]
        replayed = backtest(records, policies)
        allowed += replayed.was_allowed
        denied += replayed.was_denied
        # An example in a documentation has an event name that no policy could name.
        unnameable = made.unmapped["ec2-instance-connect.amazonaws.com SendSSHPublicKey "]
        assert replayed.was_allowed[Judgement.DENIED] == unnameable, arn
        # What was denied once and allowed at another time has to be allowed.
        assert {each.action for each in replayed.newly_allowed} <= allowed_actions(records), arn
    assert allowed[Judgement.UNKNOWN] == denied[Judgement.UNKNOWN] == 0
    assert allowed[Judgement.ALLOWED] >= at_least(2_370, 60)
    assert denied[Judgement.DENIED] >= at_least(130, 5)
    assert denied[Judgement.ALLOWED] <= 8
