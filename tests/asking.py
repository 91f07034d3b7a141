"""Questions about callers, over only a few records."""

from __future__ import annotations

import json
from typing import Any, cast

from opentrail.who.resource_stories import who
from tests.api.caller import Api
from tests.factories import ACCOUNT, a_record, event_id


async def asked(text: str, *records: dict[str, Any], **narrowed: str) -> dict[str, Any]:
    """Returns the answer for these records; their ids contain their order."""
    api = Api()
    api.world.clock.advance(86_400)
    default = event_id(1)
    await api.record(
        [
            {**record, "eventID": f"event-{number}"} if record["eventID"] == default else record
            for number, record in enumerate(records, 1)
        ]
    )
    answer = await who(api.history, text, **narrowed)
    json.dumps(answer)
    return cast(dict[str, Any], answer)


def at(minute: int, **changes: Any) -> dict[str, Any]:
    return a_record(**{"eventTime": f"2020-01-01T09:{minute:02}:00Z", **changes})


def did(minute: int, event_name: str, asked: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Returns a call of IAM with its parameters and without an answer."""
    members = {"eventName": event_name, "requestParameters": asked, "responseElements": None}
    return at(minute, **{**members, **changes})


def deed(answer: dict[str, Any] | None) -> str:
    assert answer is not None
    assert answer["evidence"]["eventId"]
    assert answer["evidence"]["eventTime"].startswith("2020-01-01T09:")
    text: str = answer["sentence"]
    return text.split(", ", 2)[2].removesuffix(" through the AWS CLI")


def assumed(
    minute: int, key: str, caller: dict[str, Any], role: str = "DataRole", **changes: Any
) -> dict[str, Any]:
    """Returns the call that returned `key`."""
    return at(
        minute,
        **{
            "userIdentity": caller,
            "eventSource": "sts.amazonaws.com",
            "eventName": "AssumeRole",
            "readOnly": True,
            "requestParameters": {
                "roleArn": f"arn:aws:iam::{ACCOUNT}:role/{role}",
                "roleSessionName": "etl",
            },
            "responseElements": {
                "credentials": {"accessKeyId": key, "sessionToken": "t"},
                "assumedRoleUser": {
                    "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/etl",
                    "assumedRoleId": "AROAX:etl",
                },
            },
            **changes,
        },
    )
