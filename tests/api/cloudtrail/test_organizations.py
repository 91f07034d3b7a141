"""Organization trails and their administrators, as callers of the API see them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.core.organization import Organization
from tests.api.caller import Api
from tests.factories import ACCOUNT, REGION, an_identity
from tests.fakes import asynchronous
from tests.trails.world import BUCKET, World

ID = "o-a1b2c3d4e5"
MEMBER, DELEGATE, STRANGER = "222222222222", "333333333333", "444444444444"
ARN = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/shared"
NOT_MANAGEMENT = (
    "NotOrganizationMasterAccountException",
    "You cannot configure or manage trails for an organization because this action requires "
    "being signed in with the management account.",
)
SELECTORS = [{"ReadWriteType": "WriteOnly", "IncludeManagementEvents": True}]
#: Operation → input, for all operations that change a trail.
CHANGES: dict[str, dict[str, Any]] = {
    "UpdateTrail": {"Name": ARN, "S3KeyPrefix": "audit"},
    "StopLogging": {"Name": ARN},
    "StartLogging": {"Name": ARN},
    "PutEventSelectors": {"TrailName": ARN, "EventSelectors": SELECTORS},
    "PutInsightSelectors": {
        "TrailName": ARN,
        "InsightSelectors": [{"InsightType": "ApiCallRateInsight"}],
    },
    "AddTags": {"ResourceId": ARN, "TagsList": [{"Key": "a", "Value": "b"}]},
    "RemoveTags": {"ResourceId": ARN, "TagsList": [{"Key": "a"}]},
    "DeleteTrail": {"Name": ARN},
}


def an_api(enforced: bool = False, has_organization: bool = True) -> Api:
    accounts = frozenset({ACCOUNT, MEMBER, DELEGATE})
    organization = Organization(ID, ACCOUNT, accounts) if has_organization else None
    return Api(World(organization=organization), enforced)


async def a_trail(api: Api, account: str = ACCOUNT, **settings: Any) -> Any:
    given = {"Name": "shared", "S3BucketName": BUCKET, "IsOrganizationTrail": True, **settings}
    return await api.ok("CreateTrail", account=account, **given)


# Administrators


@asynchronous
async def test_administrators_are_registered_and_deregistered() -> None:
    api = an_api()
    register, deregister = (f"{x}OrganizationDelegatedAdmin" for x in ("Register", "Deregister"))
    assert await api.ok(register, MemberAccountId=DELEGATE) == {}
    assert (await api.error(register, MemberAccountId=DELEGATE))[0] == "AccountRegisteredException"
    assert await api.ok(deregister, DelegatedAdminAccountId=DELEGATE) == {}
    code, message = await api.error(deregister, DelegatedAdminAccountId=DELEGATE)
    assert code == "AccountNotRegisteredException"
    assert DELEGATE in message
    code, _ = await api.error(register, account=MEMBER, MemberAccountId=DELEGATE)
    assert code == "NotOrganizationManagementAccountException"


@pytest.mark.parametrize("account", ["", "1", "abcdefghijkl", "1" * 17, 5])
@asynchronous
async def test_invalid_account_is_an_invalid_parameter(account: object) -> None:
    api = an_api()
    code, message = await api.error("RegisterOrganizationDelegatedAdmin", MemberAccountId=account)
    assert code in ("InvalidParameterException", "SerializationException")
    assert "MemberAccountId" in message or "memberAccountId" in message
    code, _ = await api.error(
        "DeregisterOrganizationDelegatedAdmin", DelegatedAdminAccountId=account
    )
    assert code in ("InvalidParameterException", "SerializationException")


@asynchronous
async def test_without_organization_administrators_and_trails_are_missing() -> None:
    api = an_api(has_organization=False)
    for operation, given in (
        ("RegisterOrganizationDelegatedAdmin", {"MemberAccountId": MEMBER}),
        ("DeregisterOrganizationDelegatedAdmin", {"DelegatedAdminAccountId": MEMBER}),
        (
            "CreateTrail",
            {"Name": "shared", "S3BucketName": BUCKET, "IsOrganizationTrail": True},
        ),
    ):
        assert (await api.error(operation, **given))[0] == "OrganizationsNotInUseException"
    assert (await api.ok("ListTrails"))["Trails"] == []


# Trails


@asynchronous
async def test_the_management_account_owns_an_organization_trail() -> None:
    api = an_api()
    assert await a_trail(api) == {
        "Name": "shared",
        "S3BucketName": BUCKET,
        "IncludeGlobalServiceEvents": True,
        "IsMultiRegionTrail": False,
        "TrailARN": ARN,
        "LogFileValidationEnabled": False,
        "IsOrganizationTrail": True,
    }
    assert f"AWSLogs/{ID}/{ACCOUNT}/CloudTrail/" in api.world.buckets.objects[BUCKET]


@asynchronous
async def test_members_and_strangers_cannot_create_one() -> None:
    api = an_api()
    given = {"Name": "shared", "S3BucketName": BUCKET, "IsOrganizationTrail": True}
    assert await api.error("CreateTrail", account=MEMBER, **given) == NOT_MANAGEMENT
    code, _ = await api.error("CreateTrail", account=STRANGER, **given)
    assert code == "OrganizationsNotInUseException"
    own = await api.ok("CreateTrail", account=MEMBER, Name="own", S3BucketName=BUCKET)
    assert not own["IsOrganizationTrail"]
    changed = {"Name": "own", "IsOrganizationTrail": True}
    assert await api.error("UpdateTrail", account=MEMBER, **changed) == NOT_MANAGEMENT


@asynchronous
async def test_members_see_it_by_arn_and_list() -> None:
    api = an_api()
    await a_trail(api, IsMultiRegionTrail=True)
    as_member: dict[str, Any] = {"account": MEMBER, "region": "eu-west-1"}
    described = await api.ok("DescribeTrails", **as_member)
    assert described == await api.ok("DescribeTrails")
    assert [t["IsOrganizationTrail"] for t in described["trailList"]] == [True]
    assert (await api.ok("DescribeTrails", trailNameList=[ARN], **as_member)) == described
    listed = await api.ok("ListTrails", **as_member)
    assert [trail["TrailARN"] for trail in listed["Trails"]] == [ARN]
    for operation, member in (
        ("GetTrail", "Name"),
        ("GetTrailStatus", "Name"),
        ("GetEventSelectors", "TrailName"),
    ):
        assert await api.ok(operation, account=MEMBER, **{member: ARN})
        code, message = await api.error(operation, account=MEMBER, **{member: "shared"})
        assert code == "TrailNotFoundException"
        own = ARN.replace(ACCOUNT, MEMBER)
        assert message == f"Unknown trail: {own} for the user: {MEMBER}"
    assert (await api.ok("DescribeTrails", account=MEMBER, trailNameList=["shared"])) == {
        "trailList": []
    }


@asynchronous
async def test_accounts_outside_the_organization_do_not_see_it() -> None:
    api = an_api()
    await a_trail(api)
    assert (await api.ok("DescribeTrails", account=STRANGER))["trailList"] == []
    assert (await api.ok("ListTrails", account=STRANGER))["Trails"] == []
    code, _ = await api.error("GetTrail", account=STRANGER, Name=ARN)
    assert code == "TrailNotFoundException"
    for operation, given in CHANGES.items():
        code, _ = await api.error(operation, account=STRANGER, **given)
        assert code in ("TrailNotFoundException", "ResourceNotFoundException")


@pytest.mark.parametrize("operation", CHANGES)
@asynchronous
async def test_members_cannot_change_it(operation: str) -> None:
    api = an_api()
    await a_trail(api)
    assert await api.error(operation, account=MEMBER, **CHANGES[operation]) == NOT_MANAGEMENT


@asynchronous
async def test_the_management_accounts_trails_are_hidden_from_others() -> None:
    api = an_api()
    await api.ok("RegisterOrganizationDelegatedAdmin", MemberAccountId=DELEGATE)
    await a_trail(api, IsOrganizationTrail=False)
    for account in (MEMBER, DELEGATE):
        assert (await api.ok("ListTrails", account=account))["Trails"] == []
        for operation, given in CHANGES.items():
            code, _ = await api.error(operation, account=account, **given)
            assert code in ("TrailNotFoundException", "ResourceNotFoundException")


@asynchronous
async def test_a_delegated_administrator_manages_it() -> None:
    api = an_api()
    await api.ok("RegisterOrganizationDelegatedAdmin", MemberAccountId=DELEGATE)
    made = await a_trail(api, DELEGATE)
    assert made["TrailARN"] == ARN
    code, message = await api.error(
        "CreateTrail",
        account=DELEGATE,
        Name="shared",
        S3BucketName=BUCKET,
        IsOrganizationTrail=True,
    )
    assert code == "TrailAlreadyExistsException"
    assert message == f"Trail shared already exists for customer: {ACCOUNT}"
    for operation in CHANGES:
        given = CHANGES[operation]
        await api.ok(operation, account=DELEGATE, **given)
    assert (await api.ok("ListTrails"))["Trails"] == []


@asynchronous
async def test_only_the_management_account_converts_the_trail() -> None:
    api = an_api()
    await api.ok("RegisterOrganizationDelegatedAdmin", MemberAccountId=DELEGATE)
    await a_trail(api)
    alone, shared = ({"Name": ARN, "IsOrganizationTrail": flag} for flag in (False, True))
    assert await api.error("UpdateTrail", account=DELEGATE, **alone) == NOT_MANAGEMENT
    assert not (await api.ok("UpdateTrail", **alone))["IsOrganizationTrail"]
    assert (await api.ok("ListTrails", account=MEMBER))["Trails"] == []
    assert (await api.ok("UpdateTrail", **shared))["IsOrganizationTrail"]
    assert len((await api.ok("ListTrails", account=MEMBER))["Trails"]) == 1
    # Omitted members stay.
    assert (await api.ok("UpdateTrail", Name="shared"))["IsOrganizationTrail"]


@asynchronous
async def test_status_of_a_member_covers_only_its_files() -> None:
    api = an_api()
    await a_trail(api)
    await api.ok("StartLogging", Name="shared")
    (stored,) = await api.world.registry.all()
    await api.world.deliver(uid=stored.trail.uid)
    assert "LatestDeliveryTime" in await api.ok("GetTrailStatus", Name="shared")
    before = await api.ok("GetTrailStatus", account=MEMBER, Name=ARN)
    assert before["IsLogging"]
    assert "LatestDeliveryTime" not in before
    await api.ok("ListTrails", account=MEMBER)
    await api.world.deliver(uid=stored.trail.uid)
    assert "LatestDeliveryTime" in await api.ok("GetTrailStatus", account=MEMBER, Name=ARN)


@asynchronous
async def test_lookups_stay_within_their_account() -> None:
    api = an_api()
    await a_trail(api)
    await api.ok("StartLogging", Name="shared")
    await api.ok("ListTrails", account=MEMBER)
    for account, names in ((ACCOUNT, {"CreateTrail", "StartLogging"}), (MEMBER, {"ListTrails"})):
        events = (await api.ok("LookupEvents", account=account))["Events"]
        records = [json.loads(event["CloudTrailEvent"]) for event in events]
        assert {record["recipientAccountId"] for record in records} == {account}
        assert {record["eventName"] for record in records} >= names


# With policies


@asynchronous
async def test_members_policies_decide_on_the_trail() -> None:
    api = an_api(enforced=True)
    people = {account: an_identity(account=account) for account in (ACCOUNT, MEMBER, DELEGATE)}
    arns = {account: str(each.user_identity["arn"]) for account, each in people.items()}
    for arn in arns.values():
        await api.policies.attach(arn, "AWSCloudTrail_FullAccess")
    await api.ok("RegisterOrganizationDelegatedAdmin", MemberAccountId=DELEGATE)
    await a_trail(api)
    assert await api.ok("GetTrail", account=MEMBER, Name=ARN)
    assert await api.error("StopLogging", account=MEMBER, Name=ARN) == NOT_MANAGEMENT
    assert await api.ok("StartLogging", account=DELEGATE, Name=ARN) == {}
    denied = {"Effect": "Deny", "Action": "cloudtrail:GetTrail", "Resource": ARN}
    document = json.dumps({"Version": "2012-10-17", "Statement": denied})
    await api.policies.put_policy(MEMBER, "not-this", document)
    await api.policies.attach(arns[MEMBER], "not-this")
    code, message = await api.error("GetTrail", account=MEMBER, Name=ARN)
    assert code == "AccessDeniedException"
    assert "with an explicit deny" in message
    code, _ = await api.error(
        "GetTrail", account=STRANGER, identity=an_identity(account=STRANGER), Name=ARN
    )
    assert code == "TrailNotFoundException"
