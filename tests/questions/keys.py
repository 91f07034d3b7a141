"""Records of calls that create, use and delete access keys."""

from __future__ import annotations

from typing import Any

from tests.factories import a_record, event_id


def key_id(number: int) -> str:
    """Returns the id of an access key."""
    return f"AKIA{number:016d}"


def creation(number: int, **changes: Any) -> dict[str, Any]:
    """Returns the record of a call that created a key."""
    key = {"accessKeyId": key_id(number), "userName": f"user-{number}", "status": "Active"}
    return a_record(
        eventID=event_id(number),
        eventName="CreateAccessKey",
        responseElements={"accessKey": key},
        **changes,
    )


def deletion(number: int, **changes: Any) -> dict[str, Any]:
    """Returns the record of a call that deleted a key."""
    return a_record(
        eventID=event_id(1_000 + number),
        eventName="DeleteAccessKey",
        requestParameters={"accessKeyId": key_id(number)},
        responseElements=None,
        **changes,
    )


def use(number: int, **changes: Any) -> dict[str, Any]:
    """Returns the record of a call with a key."""
    record = a_record(eventID=event_id(2_000 + number), **changes)
    record["userIdentity"] = {**record["userIdentity"], "accessKeyId": key_id(number)}
    return record
