"""Events in a server's answers."""

from typing import Any

from tests.factories import a_record, record_bytes


def an_event(**changes: Any) -> dict[str, Any]:
    record = a_record(**changes)
    return {
        "EventId": record["eventID"],
        "EventName": record["eventName"],
        "ReadOnly": "false",
        "EventSource": record["eventSource"],
        "Username": "John",
        "Resources": [{"ResourceType": "AWS::IAM::User", "ResourceName": "Mary"}],
        "CloudTrailEvent": record_bytes(record).decode(),
    }
