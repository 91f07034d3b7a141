"""Messages arrive as they were sent."""

from __future__ import annotations

import msgspec
import pytest

from opentrail.adapters.ipc.link import IpcRequest
from opentrail.app.insights_messages import Adopt, Expect, LearnCounts, LearnPrincipals, Observe
from opentrail.insights.expected import Expected
from opentrail.ports.event_store import CallCounts, CallKey, PrincipalCounts
from tests.factories import ACCOUNT, MOMENT, REGION, an_entry

NAMES = ("iam.amazonaws.com", "CreateUser")
MINUTES = ([26_000_000, 26_000_001], [7, 1])


@pytest.mark.parametrize(
    "sent",
    [
        Observe([an_entry(position) for position in range(1, 4)]),
        Expect(
            [
                Expected(
                    "an-id",
                    CallKey(ACCOUNT, REGION, "Management", *NAMES),
                    start=26_000_000,
                    rises=True,
                    largest=[1.0, 2.5],
                    note="a migration",
                )
            ]
        ),
        LearnCounts(
            [CallCounts(ACCOUNT, REGION, "Management", *NAMES, "AccessDenied", False, *MINUTES)],
            MOMENT,
        ),
        LearnPrincipals([PrincipalCounts(ACCOUNT, REGION, *NAMES, None, "Boto3", None, *MINUTES)]),
        Adopt(2**62, 0),
    ],
    ids=lambda sent: type(sent).__name__,
)
def test_requests_arrive_as_they_were_sent(sent: IpcRequest[object]) -> None:
    encoded = msgspec.msgpack.encode(sent)
    assert msgspec.msgpack.decode(encoded, type=type(sent)) == sent
