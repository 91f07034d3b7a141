"""Two accounts, whatever they call and in whatever order: neither sees a byte of the other."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.identity import Identity, root
from tests.api.caller import Api
from tests.factories import a_record
from tests.fakes import asynchronous

ACCOUNTS = ("111111111111", "222222222222")
#: Only the owner of an account may see these.
CANARIES = ("heron-one", "heron-two")
NO_ID = "00000000-0000-4000-8000-000000000000"
REGIONS = ("us-east-1", "eu-west-1")
_LOOKUPS = ("Username", "ResourceName", "EventName", "AccessKeyId", "EventId")


AUDIT = {
    "MultiRegionEnabled": False,
    "AdvancedEventSelectors": [
        {"FieldSelectors": [{"Field": "eventCategory", "Equals": ["ActivityAuditLog"]}]}
    ],
}
Step = tuple[int, str, str, dict[str, Any]]


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Draws a caller, a Region, an operation and its input, which may name either account's."""
    who, whose = draw(st.integers(0, 1)), draw(st.integers(0, 1))
    region = draw(st.sampled_from(REGIONS))
    own = draw(st.sampled_from([f"{CANARIES[who]}-trail", "shared-name"]))
    name = draw(st.sampled_from([f"{CANARIES[whose]}-trail", "shared-name"]))
    arn = f"arn:aws:cloudtrail:{region}:{ACCOUNTS[whose]}:trail/{name}"
    one = draw(st.sampled_from([name, arn]))
    attribute = {
        "AttributeKey": draw(st.sampled_from(_LOOKUPS)),
        "AttributeValue": draw(st.sampled_from([*CANARIES, "shared-name", "CreateTrail"])),
    }
    tags = [{"Key": "owner", "Value": CANARIES[who]}]
    possible: list[tuple[str, dict[str, Any]]] = [
        ("CreateTrail", {"Name": own, "S3BucketName": "my-bucket"}),
        ("DeleteTrail", {"Name": one}),
        ("UpdateTrail", {"Name": one, "S3BucketName": "my-bucket"}),
        ("GetTrail", {"Name": one}),
        ("GetTrailStatus", {"Name": one}),
        ("GetEventSelectors", {"TrailName": one}),
        ("GetInsightSelectors", {"TrailName": one}),
        ("StartLogging", {"Name": one}),
        ("StopLogging", {"Name": one}),
        ("DescribeTrails", {"trailNameList": [one]}),
        ("DescribeTrails", {}),
        ("ListTrails", {}),
        ("AddTags", {"ResourceId": arn, "TagsList": tags}),
        ("ListTags", {"ResourceIdList": [arn]}),
        ("RemoveTags", {"ResourceId": arn, "TagsList": tags}),
        ("CreateEventDataStore", {"Name": f"{CANARIES[who]}-store", "TagsList": tags}),
        ("ListEventDataStores", {}),
        ("StartQuery", {"QueryStatement": f'SELECT n FROM "{CANARIES[whose]}-store"'}),  # noqa: S608
        ("ListQueries", {"EventDataStore": "event_history"}),
        ("StartImport", _import_of(CANARIES[who], ACCOUNTS[whose])),
        ("GetImport", {"ImportId": ACCOUNTS[whose]}),
        ("StopImport", {"ImportId": ACCOUNTS[whose]}),
        ("ListImportFailures", {"ImportId": ACCOUNTS[whose]}),
        ("ListImports", {"MaxResults": 1}),
        ("LookupEvents", {"LookupAttributes": [attribute], "MaxResults": 1}),
        ("LookupEvents", {"MaxResults": 1}),
        ("LookupEvents", {"NextToken": "of either"}),
        ("ListPublicKeys", {}),
        ("CreateEventDataStore", {**AUDIT, "Name": f"{CANARIES[who]}-audit"}),
        (
            "CreateChannel",
            {
                "Name": f"{CANARIES[who]}-channel",
                "Source": "Custom",
                "Destinations": [{"Type": "EVENT_DATA_STORE", "Location": f"store of {whose}"}],
            },
        ),
        ("GetChannel", {"Channel": f"channel of {whose}"}),
        ("UpdateChannel", {"Channel": f"channel of {whose}", "Name": f"{CANARIES[who]}-new"}),
        ("DeleteChannel", {"Channel": f"channel of {whose}"}),
        ("ListChannels", {}),
        ("ListTags", {"ResourceIdList": [f"channel of {whose}"]}),
        (
            "PutAuditEvents",
            {"channelArn": f"channel of {whose}", "auditEvents": _audit_events(who, whose)},
        ),
    ]
    operation, asked = draw(st.sampled_from(possible))
    return who, region, operation, asked


def _audit_events(who: int, whose: int) -> list[dict[str, str]]:
    data = {
        "version": "1.0",
        "userIdentity": {"type": "Customer", "principalId": CANARIES[who]},
        "eventSource": "orders.example.com",
        "eventName": "shared-name",
        "eventTime": "2020-01-01T09:00:00Z",
        "UID": CANARIES[who],
        "recipientAccountId": ACCOUNTS[whose],
    }
    return [{"id": "1", "eventData": json.dumps(data)}, {"id": "2", "eventData": "{"}]


def _resolved(asked: Any, arns: dict[str, str]) -> Any:
    """Returns an input with the ARNs of resources such as `channel of 0`, if they exist."""
    if isinstance(asked, dict):
        return {name: _resolved(value, arns) for name, value in asked.items()}
    if isinstance(asked, list):
        return [_resolved(value, arns) for value in asked]
    found = re.fullmatch(r"(store|channel) of (\d)", asked) if isinstance(asked, str) else None
    if found is None:
        return asked
    kind = "eventdatastore" if found[1] == "store" else found[1]
    place = f"arn:aws:cloudtrail:us-east-1:{ACCOUNTS[int(found[2])]}"
    return arns.get(found[0], f"{place}:{kind}/11111111-2222-3333-4444-555555555555")


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(steps(), max_size=25))
@asynchronous
async def test_no_byte_of_another_account_is_seen(made: list[Step]) -> None:
    api = Api(enforced=True)
    tokens: list[str] = []
    arns: dict[str, str] = {}
    for number, (who, region, operation, asked) in enumerate(made):
        account, other = ACCOUNTS[who], CANARIES[1 - who]
        await api.record([_event(who, number)])
        if asked.get("NextToken"):
            asked = {"NextToken": tokens[-1], "MaxResults": 1} if tokens else {}
        asked = await _with_ids(api, asked)
        asked = _resolved(asked, arns)
        identity = Identity(f"AKIA{account}", account, root(account))
        answer = await api.call(
            operation, account=account, region=region, identity=identity, **asked
        )
        assert answer.status in (200, 400), answer.body
        named = json.dumps(asked)
        # An error may repeat names from the caller's own request.
        if other not in named:
            assert other not in answer.body.decode()
        if ACCOUNTS[1 - who] not in named:
            assert ACCOUNTS[1 - who] not in answer.body.decode()
        if answer.status == 200 and answer.json.get("NextToken"):
            tokens.append(answer.json["NextToken"])
        for kind, member in (("store", "EventDataStoreArn"), ("channel", "ChannelArn")):
            if answer.status == 200 and operation.startswith("Create") and member in answer.json:
                arns[f"{kind} of {who}"] = answer.json[member]


def _import_of(canary: str, account: str) -> dict[str, Any]:
    """Returns the input of an import whose source has a canary, into a store of an account."""
    source = {
        "S3LocationUri": f"s3://my-bucket/{canary}",
        "S3BucketRegion": "us-east-1",
        "S3BucketAccessRoleArn": f"arn:aws:iam::{ACCOUNTS[0]}:role/{canary}",
    }
    return {"Destinations": [account], "ImportSource": {"S3": source}}


async def _with_ids(api: Api, asked: dict[str, Any]) -> dict[str, Any]:
    """Returns an input with the newest store or import of an account in place of the account."""
    if "ImportSource" in asked:
        (account,) = asked["Destinations"]
        arns = [str(one.arn) for one in await api.stores.all() if one.account == account]
        nothing = f"arn:aws:cloudtrail:us-east-1:{account}:eventdatastore/{NO_ID}"
        return {**asked, "Destinations": [*arns, nothing][:1]}
    if "ImportId" in asked:
        found = [
            one.id for region in REGIONS for one in await api.imports.of(asked["ImportId"], region)
        ]
        return {"ImportId": [*found, NO_ID][0]}
    return asked


def _event(who: int, number: int) -> dict[str, Any]:
    """Returns an event of an account, with its canary in every searchable member."""
    account, canary = ACCOUNTS[who], CANARIES[who]
    identity = {
        "type": "IAMUser",
        "arn": f"arn:aws:iam::{account}:user/{canary}",
        "accountId": account,
        "accessKeyId": canary,
        "userName": canary,
    }
    return a_record(
        eventID=f"event-{number}",
        userIdentity=identity,
        recipientAccountId=account,
        requestParameters={"userName": canary},
        responseElements=None,
    )
