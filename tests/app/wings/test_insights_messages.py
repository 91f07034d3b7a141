"""Messages arrive unchanged."""

from __future__ import annotations

import msgspec
import pytest

from opentrail.adapters.ipc.link import Method, request_of
from opentrail.insights.findings import Expected
from opentrail.insights.follower import RemoteWatch
from opentrail.ports.event_store import CallCounts, CallKey, PrincipalCounts
from tests.factories import ACCOUNT, MOMENT, REGION, an_entry

NAMES = ("iam.amazonaws.com", "CreateUser")
MINUTES = ([26_000_000, 26_000_001], [7, 1])


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        (RemoteWatch.observe, ([an_entry(position) for position in range(1, 4)], 0)),
        (
            RemoteWatch.expect,
            (
                [
                    Expected(
                        "an-id",
                        CallKey(ACCOUNT, REGION, "Management", *NAMES),
                        start=26_000_000,
                        rises=True,
                        largest=[1.0, 2.5],
                        note="a migration",
                    )
                ],
            ),
        ),
        (
            RemoteWatch.learn,
            (
                [CallCounts(ACCOUNT, REGION, "Management", *NAMES, "Denied", False, *MINUTES)],
                MOMENT,
            ),
        ),
        (
            RemoteWatch.learn_principals,
            ([PrincipalCounts(ACCOUNT, REGION, *NAMES, None, "Boto3", "Codex", None, *MINUTES)],),
        ),
        (RemoteWatch.adopt, (2**62, 0)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_requests_arrive_unchanged(method: Method, arguments: tuple[object, ...]) -> None:
    sent = request_of(method)(*arguments)
    encoded = msgspec.msgpack.encode(sent)
    assert msgspec.msgpack.decode(encoded, type=type(sent)) == sent
