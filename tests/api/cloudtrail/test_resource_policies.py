"""The policies of event data stores, channels and dashboards; trails have none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.access.resource_policies import KINDS
from opentrail.ports.control import Put
from tests.api.caller import Api
from tests.factories import ACCOUNT, REGION
from tests.fakes import asynchronous, run

OTHER = "210987654321"
OPERATIONS = ("GetResourcePolicy", "PutResourcePolicy", "DeleteResourcePolicy")
#: Type → an action that its policies may name.
ACTIONS = {
    "eventdatastore": "cloudtrail:StartQuery",
    "channel": "cloudtrail-data:PutAuditEvents",
    "dashboard": "cloudtrail:StartDashboardRefresh",
}


def arn_of(kind: str, account: str = ACCOUNT, region: str = REGION, name: str = "x") -> str:
    return f"arn:aws:cloudtrail:{region}:{account}:{kind}/{name}"


def document(kind: str, **changes: Any) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": OTHER},
        "Action": ACTIONS[kind],
        "Resource": arn_of(kind),
        **changes,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


async def an_api_with(kind: str, account: str = ACCOUNT) -> Api:
    """Returns an API with one resource."""
    api = Api()
    await api.world.control.apply([Put(KINDS[kind], f"{account}/{REGION}/x", {})])
    return api


@pytest.mark.parametrize("kind", KINDS)
@asynchronous
async def test_a_policy_is_set_replaced_returned_and_deleted(kind: str) -> None:
    api, arn = await an_api_with(kind), arn_of(kind)
    missing = ("ResourcePolicyNotFoundException", f"Resource {arn} has no resource-based policy.")
    assert await api.error("GetResourcePolicy", ResourceArn=arn) == missing
    assert await api.error("DeleteResourcePolicy", ResourceArn=arn) == missing
    for effect in ("Allow", "Deny"):
        text = document(kind, Effect=effect)
        set_to = {"ResourceArn": arn, "ResourcePolicy": text}
        assert await api.ok("PutResourcePolicy", **set_to) == set_to
        assert await api.ok("GetResourcePolicy", ResourceArn=arn) == set_to
    assert await api.ok("DeleteResourcePolicy", ResourceArn=arn) == {}
    assert await api.error("GetResourcePolicy", ResourceArn=arn) == missing


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("arn", "code"),
    [
        (arn_of("trail"), "ResourceTypeNotSupportedException"),
        (arn_of("imports"), "ResourceTypeNotSupportedException"),
        (arn_of("eventdatastore", name="y"), "ResourceNotFoundException"),
        (arn_of("channel"), "ResourceNotFoundException"),
        (arn_of("eventdatastore", region="us-east-2"), "ResourceNotFoundException"),
        (arn_of("eventdatastore", account=OTHER), "ResourceNotFoundException"),
        ("x", "ResourceARNNotValidException"),
        ("my-store", "ResourceARNNotValidException"),
        ("arn:aws:s3:::my-bucket", "ResourceARNNotValidException"),
        ("arn:aws:iam::123456789012:user/x y", "ResourceARNNotValidException"),
    ],
)
@asynchronous
async def test_resources_without_policies_get_awss_error(
    operation: str, arn: str, code: str
) -> None:
    api = await an_api_with("eventdatastore")
    given = {"ResourceArn": arn}
    if operation == "PutResourcePolicy":
        given["ResourcePolicy"] = document("eventdatastore")
    assert (await api.error(operation, **given))[0] == code


@asynchronous
async def test_another_accounts_store_looks_like_a_missing_one() -> None:
    there = await an_api_with("eventdatastore", OTHER)
    arn = arn_of("eventdatastore", OTHER)
    for api in (there, Api()):
        assert await api.error("GetResourcePolicy", ResourceArn=arn) == (
            "ResourceNotFoundException",
            f"Resource {arn} does not exist.",
        )


NOT_VALID = [
    ("eventdatastore", "{", "Syntax errors in policy."),
    ("eventdatastore", "[]", "Syntax errors in policy."),
    ("eventdatastore", document("eventdatastore", Effect="Perhaps"), "Invalid effect"),
    ("eventdatastore", document("eventdatastore", Principal={"AWS": "nobody"}), "nobody"),
    ("eventdatastore", document("eventdatastore", Action="s3:GetObject"), "s3:GetObject"),
    ("eventdatastore", document("eventdatastore", Action="*"), "actions of cloudtrail"),
    ("dashboard", document("dashboard", Action="cloudtrail:StartQuery"), "StartDashboardRefresh"),
    ("channel", document("channel", Action="cloudtrail:*"), "cloudtrail-data:PutAuditEvents"),
    ("channel", document("channel", Resource="*"), arn_of("channel")),
    (
        "channel",
        document("channel", Principal={"AWS": [f"{n:012d}" for n in range(51)]}),
        "at most 50 elements, not 51",
    ),
    (
        "channel",
        json.dumps({"Statement": [json.loads(document("channel"))["Statement"][0]] * 21}),
        "at most 20 elements, not 21",
    ),
    ("channel", "", "greater than or equal to 1"),
    ("channel", document("channel") + " " * 8192, "less than or equal to 8192"),
]


@pytest.mark.parametrize(("kind", "text", "what"), NOT_VALID)
@asynchronous
async def test_an_invalid_policy_is_refused_with_the_reason(
    kind: str, text: str, what: str
) -> None:
    api, arn = await an_api_with(kind), arn_of(kind)
    code, message = await api.error("PutResourcePolicy", ResourceArn=arn, ResourcePolicy=text)
    assert code == "ResourcePolicyNotValidException"
    assert what in message
    assert (await api.error("GetResourcePolicy", ResourceArn=arn))[0] == (
        "ResourcePolicyNotFoundException"
    )


@asynchronous
async def test_not_action_is_refused_for_other_actions() -> None:
    api = await an_api_with("channel")
    statement = json.loads(document("channel"))["Statement"][0]
    statement["NotAction"] = statement.pop("Action")
    code, message = await api.error(
        "PutResourcePolicy",
        ResourceArn=arn_of("channel"),
        ResourcePolicy=json.dumps({"Statement": statement}),
    )
    assert code == "ResourcePolicyNotValidException"
    assert "NotAction" in message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Statement", "Effect", "Action", "Principal", "Resource", "AWS"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(max_examples=200)
@given(value=json_values, kind=st.sampled_from(sorted(KINDS)))
def test_any_document_is_stored_or_refused(value: Any, kind: str) -> None:
    async def story() -> None:
        api = await an_api_with(kind)
        text = json.dumps({"Statement": value})
        answer = await api.call("PutResourcePolicy", ResourceArn=arn_of(kind), ResourcePolicy=text)
        if answer.status != 200:
            assert answer.status == 400
            assert answer.error[0] == "ResourcePolicyNotValidException"

    run(story())
