"""Records of allowed calls, and records of denied ones."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.permissions.outcomes import CallOutcome, outcome_of
from tests.factories import a_record


@pytest.mark.parametrize(
    ("members", "outcome"),
    [
        ({}, CallOutcome.ALLOWED),
        ({"errorCode": "AccessDenied"}, CallOutcome.DENIED),
        ({"errorCode": "AccessDeniedException"}, CallOutcome.DENIED),
        ({"errorCode": "Client.UnauthorizedOperation"}, CallOutcome.DENIED),
        ({"errorCode": "NoSuchBucket"}, CallOutcome.FAILED),
        ({"eventType": "AwsServiceEvent"}, CallOutcome.NO_CALL),
        ({"eventType": "AwsConsoleSignIn"}, CallOutcome.NO_CALL),
        ({"userIdentity": {"type": "AWSService"}}, CallOutcome.NO_CALL),
    ],
)
def test_a_call_has_an_outcome(members: dict[str, Any], outcome: CallOutcome) -> None:
    assert outcome_of(a_record(**members)) is outcome
