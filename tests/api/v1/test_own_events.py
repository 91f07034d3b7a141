"""Events of users' actions in opentrail itself."""

from __future__ import annotations

import json

from starlette.requests import Request

from opentrail.access.users import identity_of_user
from opentrail.api.v1.callers import own_event
from opentrail.core.attributes import attributes_of
from tests.factories import ACCOUNT, MOMENT


def test_an_event_has_actor_action_place_and_time() -> None:
    request = Request({"type": "http", "client": ("203.0.113.7", 5)})
    identity = identity_of_user(ACCOUNT, "ann")
    more = {"requestParameters": {"a": 1}, "responseElements": None}
    entry = own_event(request, MOMENT, identity, "x.opentrail.internal", "Do", "agent", more)
    record = json.loads(entry.record)
    assert (record["eventID"], record["requestParameters"]) == (entry.event_id, {"a": 1})
    assert (record["readOnly"], record["eventType"]) == (False, "AwsApiCall")
    found = attributes_of(record)
    assert (found.username, found.source_ip, found.account) == ("ann", "203.0.113.7", ACCOUNT)
    assert found.event_time == MOMENT
    unknown = own_event(Request({"type": "http"}), MOMENT, identity, "x", "Do", "", {})
    assert json.loads(unknown.record)["sourceIPAddress"] == "unknown"
