from __future__ import annotations

import pytest

from opentrail.core.insight_types import PRINCIPAL_TYPES
from tests.factories import ACCOUNT, a_principal_record, event_id


def test_a_record_has_awss_form_with_an_extension() -> None:
    record = a_principal_record()
    ids = {record.pop("eventID"), record.pop("sharedEventID")}
    assert len(ids) == 2
    assert record == {
        "eventVersion": "1.09",
        "eventTime": "2020-01-01T09:00:00Z",
        "awsRegion": "us-east-1",
        "eventType": "AwsCloudTrailInsight",
        "recipientAccountId": ACCOUNT,
        "insightDetails": {
            "state": "Start",
            "eventSource": "iam.amazonaws.com",
            "eventName": "CreateAccessKey",
            "insightType": "OpenTrail.NewApi",
            "extension": {
                "type": "new-api",
                "principal": f"arn:aws:iam::{ACCOUNT}:user/John",
                "value": "iam:CreateAccessKey",
                "eventID": event_id(7),
                "start": "2020-01-01T09:00:00Z",
                "usual": 0,
                "observed": 1,
                "days": 28,
            },
        },
        "eventCategory": "Insight",
    }


def test_bursts_start_and_end_share_an_id() -> None:
    start = a_principal_record("access-denied", observed=24)
    end = a_principal_record("access-denied", "End", observed=45)
    assert end["sharedEventID"] == start["sharedEventID"]
    assert end["eventID"] != start["eventID"]
    assert (end["insightDetails"]["state"], end["eventTime"]) == ("End", "2020-01-01T09:07:00Z")


def test_id_depends_on_type_account_principal_and_day() -> None:
    base = a_principal_record()["eventID"]
    same = ({"value": "iam:CreateUser"}, {"start": 1_577_836_800}, {"event_id": "x"}, {"days": 2})
    assert {a_principal_record(**changes)["eventID"] for changes in same} == {base}
    other = ({"account": "999999999999"}, {"principal": "arn:x"}, {"start": 1_577_836_799})
    ids = [a_principal_record(name)["eventID"] for name in PRINCIPAL_TYPES]
    ids += [a_principal_record(**changes)["eventID"] for changes in other]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(("name", "same"), [("new-region", True), ("new-principal", False)])
def test_a_new_region_is_about_the_account(name: str, same: bool) -> None:
    ids = {a_principal_record(name, principal=each)["eventID"] for each in ("arn:x", "arn:y", None)}
    assert (len(ids) == 1) is same
