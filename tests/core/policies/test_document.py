"""Checks of documents name each problem."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.errors import MalformedPolicy
from opentrail.core.policies import AccessRequest, Caller, Policy, PolicyKind, decide, parse_policy

GOOD: dict[str, Any] = {"Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::b/*"}
VENDOR = "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."


def parsed(document: Any, kind: PolicyKind = PolicyKind.IDENTITY, **how: Any) -> Policy:
    return parse_policy(json.dumps(document), kind, **how)


def message(document: Any, kind: PolicyKind = PolicyKind.IDENTITY) -> str:
    with pytest.raises(MalformedPolicy) as caught:
        parsed(document, kind)
    return str(caught.value)


def with_members(**members: Any) -> dict[str, Any]:
    """Returns a document whose statement has other members; None removes one."""
    statement = {k: v for k, v in {**GOOD, **members}.items() if v is not None}
    return {"Version": "2012-10-17", "Statement": [statement]}


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", '"x"', "{", "[" * 100_000, '{"Statement": NaN}', '{"Id":"a","Id":"b"}'],
)
def test_other_json_is_a_syntax_error(text: str) -> None:
    with pytest.raises(MalformedPolicy, match=r"^Syntax errors in policy\.$"):
        parse_policy(text, PolicyKind.IDENTITY)


def test_one_statement_need_not_be_in_a_list() -> None:
    assert len(parsed({"Statement": GOOD}).statements) == 1


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"Statement": [GOOD], "Statements": []}, "Unknown field Statements"),
        ({}, "Missing required field Statement"),
        ({"Statement": []}, "Syntax errors in policy."),
        ({"Statement": ["x"]}, "Syntax errors in policy."),
        (
            {"Version": "2013-01-01", "Statement": [GOOD]},
            "Policy document must be version 2012-10-17 or greater.",
        ),
        ({"Id": 3, "Statement": [GOOD]}, "Id must be a string"),
        (
            {"Statement": [{**GOOD, "Sid": "a"}, {**GOOD, "Sid": "a"}]},
            "Statement IDs (SID) in a single policy must be unique.",
        ),
        (with_members(Effect=None), "Missing required field Effect"),
        (with_members(Effect="allow"), "Invalid effect: allow"),
        (with_members(Effect=1), "Invalid effect: 1"),
        (with_members(Actions=["x"]), "Unknown field Actions"),
        (with_members(Sid=7), "Sid must be a string"),
        (
            with_members(Sid="a b"),
            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the "
            "regular expression [0-9A-Za-z]*",
        ),
        (with_members(Action=None), "Policy statement must contain actions."),
        (with_members(Action=[]), "Policy statement must contain actions."),
        (with_members(Action=[1]), "Action must be a string or a list of strings"),
        (with_members(NotAction="s3:*"), "Action and NotAction exclude each other."),
        (with_members(Action="GetObject"), VENDOR),
        (with_members(Action="s3:Get:Object"), "Actions/Condition can contain only one colon."),
        (with_members(Action="s 3:Get"), "Vendor s 3 is not valid"),
        (with_members(Action="s3:"), "Vendor s3 is not valid"),
        (with_members(Resource=None), "Policy statement must contain resources."),
        (with_members(Resource="b"), 'Resource b must be in ARN format or "*".'),
        (with_members(NotResource="*"), "Resource and NotResource exclude each other."),
        (with_members(Principal="*"), "Policy document should not specify a principal."),
        (with_members(Condition=[]), "Syntax errors in policy."),
        (with_members(Condition={"Bool": "x"}), "Syntax errors in policy."),
        (
            with_members(Condition={"Bools": {"aws:x": "true"}}),
            "Condition Bools of aws:x: Invalid Condition type : Bools.",
        ),
        (with_members(Condition={"Bool": {"x": "true"}}), VENDOR),
        (
            with_members(Condition={"Bool": {"aws:x": "yes"}}),
            "Condition Bool of aws:x: 'yes' is not of the operator's type",
        ),
        (
            with_members(Condition={"Bool": {"aws:x": {}}}),
            "the values of aws:x must be strings, numbers or Booleans",
        ),
    ],
)
def test_problems_are_named(document: Any, expected: str) -> None:
    assert message(document) == expected


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, "Missing required field Principal"),
        ({"Principal": "ann"}, "Invalid principal in policy"),
        ({"Principal": {}}, "Invalid principal in policy"),
        ({"Principal": {"Aws": "*"}}, 'Invalid principal in policy: "Aws"'),
        ({"Principal": {"AWS": "ann"}}, 'Invalid principal in policy: "AWS":"ann"'),
        (
            {"Principal": {"AWS": "arn:aws:iam::111122223333:user/*"}},
            'Invalid principal in policy: "AWS":"arn:aws:iam::111122223333:user/*"',
        ),
        ({"Principal": {"AWS": [1]}}, "Principal must be a string or a list of strings"),
        ({"NotPrincipal": "*"}, "Allow with NotPrincipal is not supported."),
        (
            {"Principal": "*", "NotPrincipal": "*"},
            "Principal and NotPrincipal exclude each other.",
        ),
    ],
)
def test_a_resource_policy_names_principals(members: dict[str, Any], expected: str) -> None:
    assert message(with_members(**members), PolicyKind.RESOURCE) == expected


def test_a_stored_unknown_operator_does_not_match() -> None:
    document = with_members(Condition={"StringNotMatches": {"aws:x": "y"}})
    policy = parsed(document, is_stored=True)
    request = AccessRequest(
        Caller("1" * 12, "arn"), "s3:GetObject", "arn:aws:s3:::b/k", "1" * 12, {"aws:x": ("y",)}
    )
    assert not decide(request, [policy], None).is_allowed
    assert decide(request, [parsed(with_members())], None).is_allowed


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [*GOOD, "Statement", "Version", "Principal", "Condition", "Bool", "x:y"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(max_examples=1000, deadline=None)
@given(document=json_values, statement=json_values, kind=st.sampled_from(PolicyKind))
def test_any_json_is_accepted_or_malformed(document: Any, statement: Any, kind: PolicyKind) -> None:
    for text in (document, {"Statement": statement}, with_members(Condition=statement)):
        with contextlib.suppress(MalformedPolicy):
            parsed(text, kind)
