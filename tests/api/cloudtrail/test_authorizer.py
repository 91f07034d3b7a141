"""Policies of their callers decide on calls; every operation, every kind of caller."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.access.keys import identity_of
from opentrail.api.cloudtrail.authorizer import caller_of
from opentrail.core.identity import Identity, iam_user, root
from tests.api.caller import Answer, Api
from tests.api.inputs import OPERATIONS, minimal_input
from tests.cases import case
from tests.factories import ACCOUNT, KEY, REGION
from tests.fakes import asynchronous, run

OTHER = "210987654321"
TRAIL = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/my-trail"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/team/auditor"
EVERY = sorted(OPERATIONS)


def user(name: str, account: str = ACCOUNT) -> Identity:
    return Identity(KEY, account, iam_user(account, name, f"AIDA{name.upper()}", None))


def session(role: str, account: str = ACCOUNT) -> Identity:
    arn = f"arn:aws:sts::{account}:assumed-role/{role}/s"
    known = {"type": "AssumedRole", "principalId": "AROA1:s", "arn": arn, "accountId": account}
    return Identity(KEY, account, known)


def arn_of(identity: Identity) -> str:
    return str(identity.user_identity["arn"])


def document(effect: str, action: Any, resource: Any = "*", **condition: Any) -> str:
    statement: dict[str, Any] = {"Effect": effect, "Action": action, "Resource": resource}
    if condition:
        statement["Condition"] = condition
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


async def an_api() -> Api:
    """Returns an API that applies policies, with a trail of the account."""
    api = Api(enforced=True)
    await api.world.add()
    return api


async def an_api_for(identity: Identity, *documents: str) -> Api:
    api = await an_api()
    for number, text in enumerate(documents):
        await api.policies.put_policy(identity.account, f"p{number}", text)
        await api.policies.attach(arn_of(identity), f"p{number}")
    return api


# Every operation, every kind of caller. This file lists the expected decisions separately.

#: Members that name a resource → the name here.
NAMED = {
    "Name": "my-trail",
    "TrailName": "my-trail",
    "ResourceId": TRAIL,
    "ResourceIdList": [TRAIL],
    "InsightSource": TRAIL,
}
#: Operations without a required member that names a resource, with a name for each here.
MORE = {
    "GetEventConfiguration": {"TrailName": "my-trail"},
    "GetInsightSelectors": {"TrailName": "my-trail"},
    "ListInsightsMetricData": {"TrailName": "my-trail"},
    "PutEventConfiguration": {"TrailName": "my-trail"},
    "PutInsightSelectors": {"TrailName": "my-trail"},
}
AUDITOR = {
    *("DescribeTrails", "GetEventSelectors", "GetInsightSelectors", "GetTrail", "GetTrailStatus"),
    *("ListTags", "ListTrails", "LookupEvents"),
}
READER = {name for name in EVERY if name.startswith(("Get", "Describe", "List", "LookupEvents"))}
#: Type of a resource → members by which a call can name one of another account.
FOREIGN = {
    "trail": ("Name", "TrailName", "InsightSource", "ResourceId", "ResourceIdList"),
    "eventdatastore": ("EventDataStore", "EventDataStores", "InsightsDestination", "ResourceArn"),
    "channel": ("Channel", "channelArn"),
    "dashboard": ("DashboardId",),
}
#: Operations whose `Name` is a new name, not one of an existing resource.
NEW_NAMES = {
    *("CreateTrail", "CreateEventDataStore", "CreateDashboard", "CreateChannel"),
    *("UpdateEventDataStore", "UpdateChannel"),
}
INSIGHTS = ("GetInsightSelectors", "PutInsightSelectors")


def an_input(operation: str) -> dict[str, Any]:
    given = minimal_input(operation)
    named = {member: value for member, value in NAMED.items() if member in given}
    if operation == "CreateTrail":
        named["Name"] = "new-trail"
    return {**given, **named, **MORE.get(operation, {})}


def is_denied(answer: Answer) -> bool:
    return answer.status == 400 and answer.error[0] == "AccessDeniedException"


CALLERS: dict[str, tuple[Identity, tuple[str, ...], set[str]]] = {
    "administrator": (user("admin"), ("AdministratorAccess",), set(EVERY)),
    "full access": (
        user("owner"),
        ("AWSCloudTrail_FullAccess",),
        set(EVERY) - {"PutAuditEvents"},
    ),
    "reader": (user("reader"), ("AWSCloudTrail_ReadOnlyAccess",), READER),
    "auditor": (user("auditor"), ("SecurityAudit",), AUDITOR),
    "session of an auditor": (session("auditor"), ("SecurityAudit",), AUDITOR),
    "no policy": (user("new"), (), set()),
    "explicit deny": (user("denied"), ("AdministratorAccess", "deny"), set()),
    "root": (Identity(KEY, ACCOUNT, root(ACCOUNT)), (), set(EVERY)),
}


@pytest.mark.parametrize("who", CALLERS)
@asynchronous
async def test_caller_may_do_only_what_its_policies_allow(who: str) -> None:
    for operation in EVERY:
        with case(operation):
            await check_decision(who, operation)


async def check_decision(who: str, operation: str) -> None:
    identity, names, allowed = CALLERS[who]
    api = await an_api()
    await api.policies.put_policy(ACCOUNT, "deny", document("Deny", "*"))
    principal = ROLE if "assumed-role" in arn_of(identity) else arn_of(identity)
    for name in names:
        await api.policies.attach(principal, name)
    answer = await api.call(operation, identity=identity, **an_input(operation))
    assert is_denied(answer) == (operation not in allowed), answer.body
    assert answer.status in (200, 400)
    if operation in allowed:
        return
    _, text = answer.error
    assert text.startswith(f"User: {arn_of(identity)} is not authorized to perform: cloudtrail")
    if who == "explicit deny":
        assert text.endswith("with an explicit deny in an identity-based policy")
    else:
        assert "because no identity-based policy allows the cloudtrail" in text
        assert text.endswith(" action")


@asynchronous
async def test_an_administrator_of_another_account_finds_nothing_here() -> None:
    for operation in EVERY:
        with case(operation):
            await check_that_nothing_is_found(operation)


async def check_that_nothing_is_found(operation: str) -> None:
    """By ARN: as if the resource did not exist; by name: only in the caller's account."""
    stranger = user("admin", OTHER)
    api = await an_api()
    await api.policies.attach(arn_of(stranger), "AdministratorAccess")
    members = OPERATIONS[operation].input_shape.members
    found = [(k, m) for k, names in FOREIGN.items() for m in names if m in members]
    if operation in NEW_NAMES:
        found = [each for each in found if each[1] != "Name"]
    if not found:
        answer = await api.call(
            operation, identity=stranger, account=OTHER, **minimal_input(operation)
        )
        assert not is_denied(answer)
        return
    for kind, member in found:
        texts = []
        for name in ("my-trail", "missing"):
            arn = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:{kind}/{name}"
            is_list = members[member].type_name == "list"
            given = {**minimal_input(operation), member: [arn] if is_list else arn}
            answer = await api.call(operation, identity=stranger, account=OTHER, **given)
            assert answer.status == 400
            code, text = answer.error
            assert code != "AccessDeniedException"
            modelled = [shape.name for shape in OPERATIONS[operation].error_shapes]
            # The model has no error for a missing store of these two.
            assert code in modelled or (operation in INSIGHTS and kind == "eventdatastore")
            assert code != "UnsupportedOperationException"
            texts.append(text.replace(name, "NAME"))
        assert texts[0] == texts[1]


TRAIL_OPERATIONS = {
    "AddTags": "ResourceId",
    "DeleteTrail": "Name",
    "GetEventSelectors": "TrailName",
    "GetInsightSelectors": "TrailName",
    "GetTrail": "Name",
    "GetTrailStatus": "Name",
    "ListInsightsData": "InsightSource",
    "ListInsightsMetricData": "TrailName",
    "ListTags": "ResourceIdList",
    "PutEventSelectors": "TrailName",
    "PutInsightSelectors": "TrailName",
    "RemoveTags": "ResourceId",
    "StartLogging": "Name",
    "StopLogging": "Name",
    "UpdateTrail": "Name",
}


@pytest.mark.parametrize(("operation", "member"), TRAIL_OPERATIONS.items())
@asynchronous
async def test_another_accounts_trail_looks_like_a_missing_one(operation: str, member: str) -> None:
    stranger = user("admin", OTHER)
    api, open_api = await an_api(), Api()
    await api.policies.attach(arn_of(stranger), "AdministratorAccess")
    answers = []
    for app, account in ((api, ACCOUNT), (api, OTHER), (open_api, ACCOUNT)):
        arn = TRAIL.replace(ACCOUNT, account)
        value = [arn] if member == "ResourceIdList" else arn
        given = {**an_input(operation), member: value}
        answer = await app.call(operation, identity=stranger, account=OTHER, **given)
        assert answer.status == 400
        answers.append((answer.error[0], answer.error[1].replace(account, "ACCOUNT")))
    of_foreign, of_missing, without_policies = answers
    assert of_foreign[0] == of_missing[0]
    assert of_foreign[1].replace(OTHER, "ACCOUNT") == of_missing[1]
    assert of_foreign == without_policies


# Messages


@asynchronous
async def test_denial_has_awss_message_and_names_the_resource() -> None:
    api = await an_api_for(user("ann"), document("Deny", "cloudtrail:GetTrail"))
    ann = user("ann")
    arn = f"arn:aws:iam::{ACCOUNT}:user/ann"
    assert await api.error("GetTrailStatus", identity=ann, Name="my-trail") == (
        "AccessDeniedException",
        f"User: {arn} is not authorized to perform: cloudtrail:GetTrailStatus on resource: "
        f"{TRAIL} because no identity-based policy allows the cloudtrail:GetTrailStatus action",
    )
    assert await api.error("GetTrail", identity=ann, Name="my-trail") == (
        "AccessDeniedException",
        f"User: {arn} is not authorized to perform: cloudtrail:GetTrail on resource: {TRAIL} "
        "with an explicit deny in an identity-based policy",
    )
    assert await api.error("ListTrails", identity=ann) == (
        "AccessDeniedException",
        f"User: {arn} is not authorized to perform: cloudtrail:ListTrails because no "
        "identity-based policy allows the cloudtrail:ListTrails action",
    )


@asynchronous
async def test_invalid_input_is_refused_before_policies_apply() -> None:
    api = await an_api()
    code, _ = await api.error("GetTrail", identity=user("new"))
    assert code == "ValidationException"


@asynchronous
async def test_a_denied_call_changes_nothing() -> None:
    api = await an_api_for(user("ann"), document("Allow", "cloudtrail:Get*"))
    before = dict(api.world.documents)
    for operation in ("DeleteTrail", "StartLogging", "StopLogging", "UpdateTrail"):
        assert is_denied(await api.call(operation, identity=user("ann"), Name="my-trail"))
    assert api.world.documents == before


@asynchronous
async def test_without_an_authorizer_every_caller_may_do_everything() -> None:
    assert await Api().ok("ListTrails", identity=user("new")) == {"Trails": []}


# Resources


@asynchronous
async def test_a_policy_may_allow_one_trail_only() -> None:
    ann = user("ann")
    api = await an_api_for(ann, document("Allow", "cloudtrail:*", TRAIL))
    await api.world.add(name="other-trail", uid="2")
    for name in ("my-trail", TRAIL, TRAIL.replace("arn:aws:", "arn:aws-cn:")):
        await api.ok("GetTrail", identity=ann, Name=name)
    assert is_denied(await api.call("GetTrail", identity=ann, Name="other-trail"))
    both = [TRAIL, TRAIL.replace("my-trail", "other-trail")]
    assert is_denied(await api.call("ListTags", identity=ann, ResourceIdList=both))
    await api.ok("ListTags", identity=ann, ResourceIdList=both[:1])
    assert is_denied(await api.call("ListTrails", identity=ann))


@pytest.mark.parametrize(
    "name",
    [
        "my-trail",
        TRAIL,
        TRAIL.replace("arn:aws:", "arn:aws-cn:"),
        f"{TRAIL}\n",
        "my-trail\n",
        TRAIL.replace("arn:", "ARN:"),
    ],
)
@asynchronous
async def test_no_spelling_of_a_trail_avoids_a_deny(name: str) -> None:
    ann = user("ann")
    api = await an_api_for(ann, document("Allow", "*"), document("Deny", "*", TRAIL))
    answer = await api.call("GetTrail", identity=ann, Name=name)
    assert answer.status == 400


@asynchronous
async def test_creating_a_trail_with_tags_needs_their_permission() -> None:
    ann = user("ann")
    api = await an_api_for(ann, document("Allow", "cloudtrail:CreateTrail"))
    given: dict[str, Any] = {"Name": "new-trail", "S3BucketName": "my-bucket"}
    answer = await api.call(
        "CreateTrail", identity=ann, **given, TagsList=[{"Key": "k", "Value": "v"}]
    )
    assert is_denied(answer)
    assert "cloudtrail:AddTags" in answer.error[1]
    await api.ok("CreateTrail", identity=ann, **given)


# Conditions


@pytest.mark.parametrize(
    ("condition", "call", "is_allowed"),
    [
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"source_ip": "10.1.2.3"}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"source_ip": "192.0.2.1"}, False),
        ({"Bool": {"aws:SecureTransport": "true"}}, {"secure": True}, True),
        ({"Bool": {"aws:SecureTransport": "true"}}, {}, False),
        ({"StringLike": {"aws:UserAgent": "aws-cli/*"}}, {"agent": "aws-cli/2.1"}, True),
        ({"StringLike": {"aws:UserAgent": "aws-cli/*"}}, {"agent": "Boto3/1"}, False),
        ({"StringEquals": {"aws:RequestedRegion": REGION}}, {}, True),
        ({"StringEquals": {"aws:RequestedRegion": REGION}}, {"region": "eu-west-1"}, False),
        ({"StringEquals": {"aws:PrincipalAccount": ACCOUNT}}, {}, True),
        ({"StringEquals": {"aws:PrincipalType": "User"}}, {}, True),
        ({"StringEquals": {"aws:PrincipalType": "AssumedRole"}}, {}, False),
        ({"ArnEquals": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:user/ann"}}, {}, True),
        ({"StringEquals": {"aws:username": "ann"}}, {}, True),
        ({"StringEquals": {"aws:username": "bob"}}, {}, False),
        ({"StringEquals": {"aws:userid": "AIDAANN"}}, {}, True),
        ({"DateLessThan": {"aws:CurrentTime": "2020-01-02T00:00:00Z"}}, {}, True),
        ({"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, {}, False),
        ({"NumericGreaterThan": {"aws:EpochTime": "1577836800"}}, {}, True),
        ({"Null": {"aws:TagKeys": "true"}}, {}, True),
        ({"Bool": {"aws:ViaAWSService": "false"}}, {}, True),
        ({"Bool": {"aws:PrincipalIsAWSService": "false"}}, {}, True),
    ],
)
@asynchronous
async def test_global_condition_keys_have_the_calls_values(
    condition: dict[str, Any], call: dict[str, Any], is_allowed: bool
) -> None:
    ann = user("ann")
    api = await an_api_for(ann, document("Allow", "*", **condition))
    assert is_denied(await api.call("ListTrails", identity=ann, **call)) is not is_allowed


@asynchronous
async def test_a_session_is_the_principal_of_its_role() -> None:
    auditor = session("auditor")
    api = await an_api()
    conditions = {
        "ArnEquals": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/auditor"},
        "StringEquals": {"aws:PrincipalType": "AssumedRole", "aws:userid": "AROA1:s"},
        "Null": {"aws:username": "true"},
    }
    await api.policies.put_policy(ACCOUNT, "p", document("Allow", "*", **conditions))
    await api.policies.attach(ROLE, "p")
    await api.ok("ListTrails", identity=auditor)


@asynchronous
async def test_session_of_unknown_role_is_denied_by_name() -> None:
    api = await an_api()
    by_name = {"StringLike": {"aws:userid": "*:mallory"}}
    statements = [
        *json.loads(document("Allow", "*"))["Statement"],
        *json.loads(document("Deny", "*", **by_name))["Statement"],
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    await api.policies.put_policy(ACCOUNT, "p", policy)
    await api.policies.attach(ROLE, "p")
    for name, denied in (("ann", False), ("mallory", True)):
        known = identity_of(KEY, f"arn:aws:sts::{ACCOUNT}:assumed-role/auditor/{name}")
        assert is_denied(await api.call("ListTrails", identity=known)) is denied


def test_issuer_of_a_session_names_the_roles_path() -> None:
    known = dict(session("auditor").user_identity)
    assert caller_of(Identity(KEY, ACCOUNT, known)).role_arn == (
        f"arn:aws:iam::{ACCOUNT}:role/auditor"
    )
    known["sessionContext"] = {"sessionIssuer": {"arn": ROLE}}
    assert caller_of(Identity(KEY, ACCOUNT, known)).role_arn == ROLE


@asynchronous
async def test_assume_root_session_is_not_the_root_user() -> None:
    known = {**root(ACCOUNT), "sessionContext": {"assumedRoot": "true"}}
    api = await an_api()
    assert is_denied(await api.call("ListTrails", identity=Identity(KEY, ACCOUNT, known)))
    await api.ok("ListTrails", identity=Identity(KEY, ACCOUNT, root(ACCOUNT)))


@pytest.mark.parametrize(
    "known",
    [
        {"type": "Unknown", "accountId": ACCOUNT},
        {"type": "FederatedUser", "arn": f"arn:aws:sts::{ACCOUNT}:federated-user/eve"},
    ],
)
@asynchronous
async def test_caller_that_policies_cannot_name_may_do_nothing(known: dict[str, Any]) -> None:
    api = await an_api()
    code, text = await api.error("ListTrails", identity=Identity(KEY, ACCOUNT, known))
    assert code == "AccessDeniedException"
    assert text.startswith(f"User: {known.get('arn', ACCOUNT)} is not authorized")


@asynchronous
async def test_time_passes_for_conditions() -> None:
    ann = user("ann")
    until = {"DateLessThan": {"aws:CurrentTime": "2020-01-01T10:00:00Z"}}
    api = await an_api_for(ann, document("Allow", "*", **until))
    await api.ok("ListTrails", identity=ann)
    api.world.clock.advance(2 * 3600)
    assert is_denied(await api.call("ListTrails", identity=ann))


def tags(**given: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in given.items()]


@asynchronous
async def test_tags_of_the_request_are_condition_keys() -> None:
    ann = user("ann")
    conditions = {
        "StringEquals": {"aws:RequestTag/team": "blue"},
        "ForAllValues:StringEquals": {"aws:TagKeys": ["Team", "stage"]},
    }
    api = await an_api_for(ann, document("Allow", "cloudtrail:AddTags", **conditions))

    async def denied(**given: str) -> bool:
        return is_denied(
            await api.call("AddTags", identity=ann, ResourceId=TRAIL, TagsList=tags(**given))
        )

    assert not await denied(Team="blue", stage="test")
    assert await denied(Team="red")
    assert await denied(Team="blue", owner="ann")
    assert await denied(stage="test")
    assert await denied(Team="blue", team="red")


@asynchronous
async def test_removed_tags_have_keys_only() -> None:
    ann = user("ann")
    keys = {"ForAllValues:StringEquals": {"aws:TagKeys": "stage"}}
    without_values = {"Null": {"aws:RequestTag/stage": "true"}}
    api = await an_api_for(
        ann, document("Allow", "cloudtrail:RemoveTags", **keys, **without_values)
    )
    for removed, expected in ((tags(stage="x"), False), (tags(team="x"), True)):
        answer = await api.call("RemoveTags", identity=ann, ResourceId=TRAIL, TagsList=removed)
        assert is_denied(answer) is expected


@asynchronous
async def test_a_trails_tags_are_condition_keys() -> None:
    ann, admin = user("ann"), user("admin")
    of_team = {"StringEquals": {"aws:ResourceTag/Team": "${aws:username}"}}
    api = await an_api_for(ann, document("Allow", "cloudtrail:*", **of_team))
    await api.policies.attach(arn_of(admin), "AdministratorAccess")
    for name in ("my-trail", TRAIL):
        assert is_denied(await api.call("GetTrail", identity=ann, Name=name))
    await api.ok("AddTags", identity=admin, ResourceId=TRAIL, TagsList=tags(team="ann"))
    for name in ("my-trail", TRAIL):
        await api.ok("GetTrail", identity=ann, Name=name)
    assert is_denied(await api.call("GetTrail", identity=ann, Name="missing"))


@asynchronous
async def test_tags_that_conditions_cannot_distinguish_are_denied() -> None:
    """Otherwise a caller could avoid a Deny that reads such a tag."""
    ann, admin = user("ann"), user("admin")
    not_mine = {"StringNotEquals": {"aws:ResourceTag/team": "ann"}}
    api = await an_api_for(ann, document("Deny", "cloudtrail:*", **not_mine))
    for who in (ann, admin):
        await api.policies.attach(arn_of(who), "AdministratorAccess")
    await api.ok("AddTags", identity=admin, ResourceId=TRAIL, TagsList=tags(Team="bob"))
    await api.ok("AddTags", identity=admin, ResourceId=TRAIL, TagsList=tags(team="bob"))
    assert is_denied(await api.call("GetTrail", identity=ann, Name="my-trail"))


# Reads of the control store


class CountingApi(Api):
    """Counts reads of the control store."""

    reads = 0

    async def counted(self, operation: str, identity: Identity, **given: Any) -> int:
        real, self.reads = self.world.control._read, 0

        def read(kind: str, key: str) -> Any:
            self.reads += 1
            return real(kind, key)

        self.world.control._read = read  # type: ignore[method-assign]
        await self.call(operation, identity=identity, **given)
        self.world.control._read = real  # type: ignore[method-assign]
        return self.reads


@pytest.mark.parametrize("operation", ["GetTrail", "GetTrailStatus", "ListTags", "StartLogging"])
@asynchronous
async def test_policies_add_no_read_unless_they_read_tags(operation: str) -> None:
    ann = user("ann")
    api, plain = CountingApi(enforced=True), CountingApi()
    for each in (api, plain):
        await each.world.add()
    await api.policies.attach(arn_of(ann), "AdministratorAccess")
    given = an_input(operation)
    expected = await plain.counted(operation, ann, **given)
    assert await api.counted(operation, ann, **given) == expected
    tagged = document("Deny", "*", StringEquals={"aws:ResourceTag/a": "b"})
    await api.policies.put_policy(ACCOUNT, "tagged", tagged)
    await api.policies.attach(arn_of(ann), "tagged")
    assert await api.counted(operation, ann, **given) == expected + 1


# Policies of resources

OWNER = Identity(KEY, ACCOUNT, root(ACCOUNT))


async def a_store_shared_with(principal: Any, effect: str = "Allow") -> tuple[Api, str]:
    """Returns an API with a store whose policy names a principal, and the store's ARN."""
    api = await an_api()
    store: str = (await api.ok("CreateEventDataStore", identity=OWNER, Name="a-store"))[
        "EventDataStoreArn"
    ]
    statement = {
        "Effect": effect,
        "Principal": {"AWS": principal},
        "Action": "cloudtrail:UpdateEventDataStore",
        "Resource": store,
    }
    text = json.dumps({"Statement": statement})
    await api.ok("PutResourcePolicy", identity=OWNER, ResourceArn=store, ResourcePolicy=text)
    return api, store


async def update_store(api: Api, identity: Identity, store: str) -> str:
    """Returns the code of the error of a change without settings."""
    code, _ = await api.error(
        "UpdateEventDataStore", identity=identity, account=identity.account, EventDataStore=store
    )
    return code


ALLOWED = "InvalidParameterException"


@asynchronous
async def test_a_stores_policy_allows_users_of_its_account() -> None:
    ann, bob = user("ann"), user("bob")
    api, store = await a_store_shared_with(arn_of(ann))
    assert await update_store(api, ann, store) == ALLOWED
    assert await update_store(api, bob, store) == "AccessDeniedException"


@asynchronous
async def test_sharing_a_store_needs_both_policies() -> None:
    stranger = user("ann", OTHER)
    missing = "EventDataStoreNotFoundException"
    for principal in (OTHER, arn_of(stranger)):
        api, store = await a_store_shared_with(principal)
        assert await update_store(api, stranger, store) == missing
        await api.policies.attach(arn_of(stranger), "AdministratorAccess")
        assert await update_store(api, stranger, store) == ALLOWED
        assert await update_store(api, user("ann", "333344445555"), store) == missing
        await api.ok("DeleteResourcePolicy", identity=OWNER, ResourceArn=store)
        assert await update_store(api, stranger, store) == missing


@asynchronous
async def test_the_policy_of_a_store_denies_an_administrator() -> None:
    ann = user("ann")
    api, store = await a_store_shared_with(arn_of(ann), "Deny")
    await api.policies.attach(arn_of(ann), "AdministratorAccess")
    store_id = store.rpartition("/")[2]
    code, text = await api.error("UpdateEventDataStore", identity=ann, EventDataStore=store_id)
    assert code == "AccessDeniedException"
    assert text.endswith("with an explicit deny in a resource-based policy")


ATHENA = "AmazonAthena.StartQueryExecution"


@asynchronous
async def test_statements_need_permission_for_each_store() -> None:
    ann, api = user("ann"), await an_api()
    arns = [
        (await api.ok("CreateEventDataStore", identity=OWNER, Name=name))["EventDataStoreArn"]
        for name in ("seen", "hidden")
    ]
    allowed = document("Allow", "cloudtrail:StartQuery", arns[0])
    await api.policies.put_policy(ACCOUNT, "queries", allowed)
    await api.policies.attach(arn_of(ann), "queries")
    seen, hidden = (arn.rpartition("/")[2] for arn in arns)
    for table in ("seen", "SEEN", seen, f'"{seen}"'):
        await api.ok("StartQuery", identity=ann, QueryStatement=f"SELECT n FROM {table}")  # noqa: S608
    for table in ("hidden", "Hidden", hidden, f"seen, {hidden}", "seen, event_history"):
        statement = f"SELECT n FROM {table}"  # noqa: S608
        answers = [
            await api.call("StartQuery", identity=ann, QueryStatement=statement),
            await api.call(
                "StartQueryExecution", identity=ann, target=ATHENA, QueryString=statement
            ),
        ]
        assert {answer.error[0] for answer in answers} == {"AccessDeniedException"}, table


@asynchronous
async def test_conditions_read_the_tags_of_stores() -> None:
    ann, api = user("ann"), await an_api()
    given = {"Name": "a-store", "TagsList": [{"Key": "team", "Value": "audit"}]}
    store = (await api.ok("CreateEventDataStore", identity=OWNER, **given))["EventDataStoreArn"]
    await api.policies.attach(arn_of(ann), "AdministratorAccess")
    await api.ok("GetEventDataStore", identity=ann, EventDataStore=store)
    denied = document("Deny", "*", StringEquals={"aws:ResourceTag/team": "audit"})
    await api.policies.put_policy(ACCOUNT, "tagged", denied)
    await api.policies.attach(arn_of(ann), "tagged")
    code, _ = await api.error("GetEventDataStore", identity=ann, EventDataStore=store)
    assert code == "AccessDeniedException"


@asynchronous
async def test_a_channels_tags_are_condition_keys() -> None:
    ann = user("ann")
    of_team = {"StringEquals": {"aws:ResourceTag/team": "shop"}}
    api = await an_api_for(ann, document("Allow", "cloudtrail-data:*", **of_team))
    selector = {"FieldSelectors": [{"Field": "eventCategory", "Equals": ["ActivityAuditLog"]}]}
    given = {"MultiRegionEnabled": False, "AdvancedEventSelectors": [selector]}
    store = await api.ok("CreateEventDataStore", identity=OWNER, Name="orders", **given)
    channel = await api.ok(
        "CreateChannel",
        identity=OWNER,
        Name="orders",
        Source="Custom",
        Destinations=[{"Type": "EVENT_DATA_STORE", "Location": store["EventDataStoreArn"]}],
    )
    arn = channel["ChannelArn"]
    event = {"channelArn": arn, "auditEvents": [{"id": "1", "eventData": "{}"}]}
    assert is_denied(await api.call("PutAuditEvents", identity=ann, **event))
    await api.ok("AddTags", identity=OWNER, ResourceId=arn, TagsList=tags(team="shop"))
    await api.ok("PutAuditEvents", identity=ann, **event)


# Any input


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(max_examples=150)
@given(
    operation=st.sampled_from(EVERY),
    allowed=st.lists(st.sampled_from(EVERY), max_size=8),
    denied=st.lists(st.sampled_from(EVERY), max_size=4),
)
def test_any_lists_of_actions_decide_as_they_read(
    operation: str, allowed: Sequence[str], denied: Sequence[str]
) -> None:
    def actions(names: Sequence[str]) -> list[str]:
        data = "PutAuditEvents"
        return [f"cloudtrail{'-data' if name == data else ''}:{name}" for name in names]

    async def story() -> None:
        ann = user("ann")
        documents = [
            document(effect, actions(names))
            for effect, names in (("Allow", allowed), ("Deny", denied))
            if names
        ]
        api = await an_api_for(ann, *documents)
        needs = {operation}
        if operation == "ListInsightsMetricData":
            needs = {"LookupEvents", "ListInsightsData"}
        expected = needs <= set(allowed) and not needs & set(denied)
        answer = await api.call(operation, identity=ann, **an_input(operation))
        assert is_denied(answer) is not expected

    run(story())
