"""The recipes of the page and of the web console: what each finds, and what it passes over."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opentrail.core.attributes import attributes_of
from opentrail.core.expression import holds, parse
from tests.api.caller import filled
from tests.factories import a_record, an_iam_user
from tests.fakes import asynchronous

ROOT = Path(__file__).parent.parent
RECIPES = {
    recipe["question"]: recipe["expression"]
    for recipe in json.loads((ROOT / "console/src/filter/recipes.json").read_text())
}
#: The time at which the recipes are asked.
NOW = datetime(2020, 1, 1, 10, tzinfo=UTC)
ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"
#: Question → members of a record that its expression must find.
EXAMPLES: dict[str, dict[str, Any]] = {
    "Who opened port 22?": {
        "eventName": "AuthorizeSecurityGroupIngress",
        "requestParameters": {"ipPermissions": {"items": [{"fromPort": 80}, {"fromPort": 22}]}},
    },
    "Who made a bucket public, or changed who may read it?": {"eventName": "PutBucketPolicy"},
    "What did this key do?": {"userIdentity": an_iam_user(key="AKIAIOSFODNN7EXAMPLE")},
    "What failed in the last night?": {"errorCode": "NoSuchEntity"},
    "Who was refused?": {"errorCode": "AccessDenied"},
    "Who signed in to the console without MFA?": {
        "eventName": "ConsoleLogin",
        "additionalEventData": {"MFAUsed": "No"},
    },
    "Did the root user change anything?": {"userIdentity": {"type": "Root", "accountId": "1" * 12}},
    "Who created users and ways to sign in?": {"eventName": "CreateLoginProfile"},
    "Who gave administrator rights?": {"requestParameters": {"policyArn": ADMIN}},
    "Who changed what is recorded?": {
        "eventSource": "cloudtrail.amazonaws.com",
        "eventName": "StopLogging",
    },
    "What was deleted today?": {"eventName": "DeleteUser"},
    "Who assumed a role?": {"eventName": "AssumeRole", "readOnly": True},
    "Who read secrets?": {"eventName": "GetSecretValue", "readOnly": True},
    "What came from outside the private networks?": {"sourceIPAddress": "203.0.113.64"},
    "What did Terraform change?": {"userAgent": "HashiCorp Terraform/1.9 aws-sdk-go-v2/1.30"},
}
#: A call that changes nothing of what the recipes ask about, from within.
ORDINARY: dict[str, Any] = {
    "eventName": "DescribeInstances",
    "eventSource": "ec2.amazonaws.com",
    "readOnly": True,
    "sourceIPAddress": "10.1.2.3",
    "userIdentity": an_iam_user("Olga", key="AKIAI44QH8DHBEXAMPLE"),
    "requestParameters": None,
    "responseElements": None,
}


def test_there_is_an_example_for_each() -> None:
    assert RECIPES.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("question", RECIPES)
def test_a_recipe_finds_what_its_question_asks_for(question: str) -> None:
    expression = parse(RECIPES[question], NOW)
    asked = a_record(eventTime="2020-01-01T09:00:00Z", **EXAMPLES[question])
    other = a_record(eventTime="2020-01-01T09:00:00Z", **ORDINARY)
    assert holds(expression, attributes_of(asked), asked)
    assert not holds(expression, attributes_of(other), other)


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
