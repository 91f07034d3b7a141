"""The reason for a denial, from AWS's messages and nothing more."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.permissions.outcomes import explain
from tests.collection import collected_records

USER = "User: arn:aws:iam::123456789012:user/John is not authorized to perform: iam:CreateUser"


def denied(message: str, **changes: Any) -> dict[str, Any]:
    return {
        "eventSource": "iam.amazonaws.com",
        "eventName": "CreateUser",
        "errorCode": "AccessDenied",
        "errorMessage": message,
        **changes,
    }


@pytest.mark.parametrize(
    ("message", "verdict", "policy_type"),
    [
        (USER, "not recorded", None),
        (
            f"{USER} on resource: arn:aws:iam::123456789012:user/Mary because no identity-based"
            " policy allows the iam:CreateUser action",
            "no policy allows it",
            "identity-based policy",
        ),
        (
            f"{USER} with an explicit deny in a service control policy",
            "explicit deny",
            "service control policy",
        ),
        (
            f"{USER} with an explicit deny in an identity-based policy:"
            " arn:aws:iam::123456789012:policy/NoUsers",
            "explicit deny",
            "identity-based policy",
        ),
        (
            f"{USER} because no permissions boundary allows the iam:CreateUser action",
            "no policy allows it",
            "permissions boundary",
        ),
        (
            f"{USER} because no vpc endpoint policy allows the iam:CreateUser action.",
            "no policy allows it",
            "VPC endpoint policy",
        ),
        ("Access Denied", "not recorded", None),
        ("", "not recorded", None),
    ],
)
def test_the_end_of_a_message_names_the_policy(
    message: str, verdict: str, policy_type: str | None
) -> None:
    denial = explain(denied(message))
    assert (denial.verdict, denial.policy_type) == (verdict, policy_type)
    assert denial.action == "iam:CreateUser"
    assert denial.missing


def test_a_name_inside_a_message_decides_nothing() -> None:
    name = "with an explicit deny in a session policy"
    message = f'{USER} on resource: "{name}" because no session policy allows the x:y action maybe'
    assert explain(denied(message)).verdict == "not recorded"


def test_an_unrecorded_action_is_derived_from_the_event() -> None:
    record = denied("Access Denied", eventSource="lambda.amazonaws.com", errorCode="AccessDenied")
    denial = explain({**record, "eventName": "CreateFunction20150331v2"})
    assert (denial.action, denial.is_action_recorded) == ("lambda:CreateFunction", False)
    assert any("derived" in text for text in denial.missing)
    assert explain({**record, "eventSource": "mcp.opentrail.internal"}).action is None


@pytest.mark.parametrize("code", [None, "NoSuchEntityException", "ThrottlingException"])
def test_an_allowed_call_is_not_explained(code: str | None) -> None:
    denial = explain(denied("The user Mary cannot be found", errorCode=code))
    assert (denial.verdict, denial.missing) == ("not denied", ())


@pytest.mark.parametrize("before", ["", "Encoded authorization failure message:"])
def test_a_long_message_of_blanks_is_explained_immediately(before: str) -> None:
    message = before + " " * 1_000_000 + "x!"
    assert explain(denied(message)).missing


@pytest.mark.slow
def test_denials_that_aws_recorded_are_explained() -> None:
    denials = {
        record["eventID"]: explain(record)
        for _, record in collected_records()
        if record.get("errorCode") in ("AccessDenied", "Client.UnauthorizedOperation")
        and record.get("eventID")
    }
    stated = denials["735eae92-16e3-469c-b454-4507c47aadcb"]
    assert (stated.verdict, stated.action) == ("no policy allows it", "ec2:GetPasswordData")
    assert stated.policy_type == "identity-based policy"
    assert stated.resource == "arn:aws:ec2:apiso-northsouth-3r:457448411975:instance/*"
    encoded = denials["ae9a706f-d8a4-4e50-9043-22b2a03f481c"]
    assert encoded.verdict == "not recorded"
    assert any("DecodeAuthorizationMessage" in text for text in encoded.missing)
    assert denials["8a8844ff-dc95-4ef5-87d2-d86cc23fedd0"].action == "sts:AssumeRole"
