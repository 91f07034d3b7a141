"""The recipes of the page and of the web console: their matches, and their near misses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.session import get_session

from opentrail.core.attributes import attributes_of
from opentrail.core.expression import holds, parse
from tests.api.caller import filled
from tests.collection import collected_records
from tests.factories import a_record, an_iam_user
from tests.fakes import asynchronous

ROOT = Path(__file__).parent.parent
RECIPES = {
    recipe["question"]: recipe["expression"]
    for recipe in json.loads((ROOT / "console/src/filter/recipes.json").read_text())
}
#: The time of the questions.
NOW = datetime(2020, 1, 1, 10, tzinfo=UTC)
ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"
OPENED = "AuthorizeSecurityGroupIngress"
LOGIN = {"eventName": "ConsoleLogin", "eventSource": "signin.amazonaws.com"}
ROOT_USER = {"type": "Root", "accountId": "1" * 12}
TERRAFORM = "HashiCorp Terraform/1.9 aws-sdk-go-v2/1.30"


def opened(**rule: Any) -> dict[str, Any]:
    return {"eventName": OPENED, "requestParameters": {"ipPermissions": {"items": [rule]}}}


def calls(*names: str, **members: Any) -> list[dict[str, Any]]:
    return [{"eventName": name, **members} for name in names]


DENIED = {"errorCode": "AccessDenied"}
SSH: dict[str, Any] = {"ipProtocol": "tcp", "fromPort": 22, "toPort": 22}
RULE = {"SecurityGroupRuleId": "sgr-1", "SecurityGroupRule": {"IpProtocol": "tcp", "FromPort": 22}}
CLOUDTRAIL = "cloudtrail.amazonaws.com"
#: Operations of AWS's model that may change something.
CHANGING = frozenset(
    name
    for name in get_session().get_service_model("cloudtrail").operation_names
    if not name.startswith(("Describe", "Get", "List", "Lookup", "Search"))
)
#: Those of them that leave the recording as it is.
UNRECORDED = frozenset(
    {
        *("AddTags", "RemoveTags", "StartQuery", "CancelQuery", "GenerateQuery"),
        *("CreateDashboard", "UpdateDashboard", "DeleteDashboard", "StartDashboardRefresh"),
    }
)
#: Question → members of records that its expression must find, and of records that it must not.
EXAMPLES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "Who opened port 22?": (
        [
            opened(**SSH, ipRanges={"items": [{"cidrIp": "0.0.0.0/0"}]}),
            opened(**SSH, ipv6Ranges={"items": [{"cidrIpv6": "::/0"}]}),
            opened(**SSH, prefixListIds={"items": [{"prefixListId": "pl-1"}]}),
            opened(ipProtocol="tcp", fromPort=0, toPort=65535),
            opened(ipProtocol="-1"),
            {"eventName": OPENED, "requestParameters": {"ipPermissions": {}, **SSH}},
            {
                "eventName": "ModifySecurityGroupRules",
                "requestParameters": {
                    "ModifySecurityGroupRulesRequest": {"SecurityGroupRule": RULE}
                },
            },
        ],
        [
            opened(ipProtocol="tcp", fromPort=443, toPort=443),
            opened(ipProtocol="icmp", fromPort=-1, toPort=-1),
            {**opened(**SSH), **DENIED},
            {**opened(**SSH), "eventName": "RevokeSecurityGroupIngress"},
        ],
    ),
    "Who made a bucket public, or changed who may read it?": (
        calls("PutBucketPolicy", "DeleteBucketPolicy", "DeleteAccountPublicAccessBlock"),
        [*calls("GetBucketPolicy"), *calls("PutBucketPolicy", **DENIED)],
    ),
    "What did this key do?": (
        [{"userIdentity": an_iam_user(key="AKIAIOSFODNN7EXAMPLE")}],
        [{"userIdentity": an_iam_user(key="AKIAI44QH8DHBEXAMPLE")}],
    ),
    "What failed last night?": (
        [{"errorCode": "NoSuchEntity"}],
        [{}, {"errorCode": "NoSuchEntity", "eventTime": "2019-12-31T09:00:00Z"}],
    ),
    "Who was denied access?": (
        [
            *({"errorCode": code} for code in ("AccessDenied", "Client.UnauthorizedOperation")),
            *({"errorCode": code} for code in ("NotAuthorizedException", "AuthFailure")),
            {**LOGIN, "responseElements": {"ConsoleLogin": "Failure"}},
        ],
        [
            {},
            {"errorCode": "NoSuchEntity"},
            {**LOGIN, "responseElements": {"ConsoleLogin": "Success"}},
        ],
    ),
    "Who signed in to the console without MFA?": (
        [{**LOGIN, "additionalEventData": {"MFAUsed": "No"}}],
        [
            {**LOGIN, "additionalEventData": {"MFAUsed": "Yes"}},
            {
                **LOGIN,
                "additionalEventData": {"MFAUsed": "No"},
                "errorMessage": "Failed",
                "responseElements": {"ConsoleLogin": "Failure"},
            },
            {
                **LOGIN,
                "additionalEventData": {"MFAUsed": "No"},
                "userIdentity": {"type": "AssumedRole"},
            },
        ],
    ),
    "Did the root user change anything?": (
        [{"userIdentity": ROOT_USER}],
        [{**LOGIN, "userIdentity": ROOT_USER}, {"userIdentity": ROOT_USER, **DENIED}],
    ),
    "Who created users and ways to sign in?": (
        calls("CreateUser", "CreateLoginProfile", "UploadSSHPublicKey", "CreateSAMLProvider"),
        [
            *calls("DeleteLoginProfile"),
            *calls("CreateUser", eventSource="memorydb.amazonaws.com"),
        ],
    ),
    "Who attached AdministratorAccess?": (
        [
            *calls("AttachUserPolicy", "AttachRolePolicy", requestParameters={"policyArn": ADMIN}),
            *calls(
                "AttachManagedPolicyToPermissionSet", requestParameters={"managedPolicyArn": ADMIN}
            ),
        ],
        calls("DetachUserPolicy", "GetPolicy", requestParameters={"policyArn": ADMIN}),
    ),
    "Who changed what is recorded?": (
        calls(*CHANGING - UNRECORDED, eventSource=CLOUDTRAIL, readOnly=False),
        [
            *calls("GetTrailStatus", eventSource=CLOUDTRAIL, readOnly=True),
            *calls(*UNRECORDED, eventSource=CLOUDTRAIL, readOnly=False),
            *calls("StopLogging", eventSource="neptune.amazonaws.com", readOnly=False),
        ],
    ),
    "What was deleted in the last day?": (
        calls("DeleteUser", "TerminateInstances", "BatchDeleteImage"),
        [*calls("DeleteUser", **DENIED), *calls("DeleteUser", eventTime="2019-12-01T09:00:00Z")],
    ),
    "Who assumed a role?": (
        calls("AssumeRole", "AssumeRoot", readOnly=True),
        [*calls("AssumeRole", readOnly=True, **DENIED), *calls("GetSessionToken")],
    ),
    "Who read secrets?": (
        [
            *calls("GetSecretValue", "BatchGetSecretValue", readOnly=True),
            *calls("GetParameter", requestParameters={"name": "a", "withDecryption": True}),
        ],
        [
            *calls("GetParameter", requestParameters={"name": "a", "withDecryption": False}),
            *calls("GetSecretValue", **DENIED),
            *calls("DescribeSecret"),
        ],
    ),
    "What was changed from outside the private networks?": (
        [{"sourceIPAddress": ip} for ip in ("203.0.113.64", "2001:db8::1")],
        [
            {"sourceIPAddress": ip}
            for ip in ("172.20.1.1", "127.0.0.1", "fd00::1", "ec2.amazonaws.com", "AWS Internal")
        ],
    ),
    "What did Terraform change?": (
        [{"userAgent": TERRAFORM}],
        [{"userAgent": TERRAFORM, "readOnly": True}, {"userAgent": TERRAFORM, **DENIED}],
    ),
}
#: A call from within that is no answer to any recipe.
ORDINARY: dict[str, Any] = {
    "eventName": "DescribeInstances",
    "eventSource": "ec2.amazonaws.com",
    "readOnly": True,
    "sourceIPAddress": "10.1.2.3",
    "userIdentity": an_iam_user("Olga", key="AKIAI44QH8DHBEXAMPLE"),
    "requestParameters": None,
    "responseElements": None,
}
#: Question → plain function that finds the same records in the collection.
REAL: dict[str, Callable[[dict[str, Any]], bool]] = {
    "Who opened port 22?": lambda r: (
        r.get("eventName") == OPENED and not r.get("errorCode") and '": 22' in json.dumps(r)
    ),
    "Who assumed a role?": lambda r: (
        str(r.get("eventName")).startswith("AssumeRo") and not r.get("errorCode")
    ),
    "Who signed in to the console without MFA?": lambda r: (
        (r.get("additionalEventData") or {}).get("MFAUsed") == "No"
        and r["userIdentity"]["type"] in ("Root", "IAMUser")
        and (r.get("responseElements") or {}).get("ConsoleLogin") == "Success"
    ),
}


def test_every_recipe_has_an_example() -> None:
    assert RECIPES.keys() == EXAMPLES.keys()


def test_a_recipe_answers_its_question() -> None:
    wrong = []
    for question, (found, passed) in EXAMPLES.items():
        expression = parse(RECIPES[question], NOW)
        cases = [
            *((members, True) for members in found),
            *((m, False) for m in [*passed, ORDINARY]),
        ]
        for members, expected in cases:
            record = a_record(**{"eventTime": "2020-01-01T09:00:00Z", **members})
            if holds(expression, attributes_of(record), record) is not expected:
                wrong.append((question, members, f"expected {expected}"))
    assert not wrong


def test_recipes_answer_over_real_records() -> None:
    assert REAL.keys() <= RECIPES.keys()
    # The documentation's examples have words in place of a time.
    records = [r for _, r in collected_records() if r.get("eventTime", "")[:4].isdigit()]
    for question, oracle in REAL.items():
        expression = parse(RECIPES[question], NOW)
        found = [r["eventID"] for r in records if holds(expression, attributes_of(r), r)]
        assert found == [r["eventID"] for r in records if oracle(r)], question


@asynchronous
async def test_the_server_answers_every_recipe() -> None:
    api = await filled(a_record())
    for expression in RECIPES.values():
        answer = await api.ask("/api/v1/events", expression=expression)
        assert answer.status == 200, answer.body


def test_the_page_has_the_recipes_of_the_console() -> None:
    page = (ROOT / "docs/howto/recipes.md").read_text()
    rows = re.findall(r"^\| (.+\?) \| `(.+)` \|$", page, re.M)
    assert dict(rows) == RECIPES
