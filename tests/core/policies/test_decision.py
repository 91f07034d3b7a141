"""Decisions agree with a plain evaluator, and with the rules of IAM's user guide."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.policies import (
    AccessRequest,
    Caller,
    Decision,
    Outcome,
    Policy,
    PolicyKind,
    decide,
    parse_policy,
)
from tests.core.policies import naive

OURS, THEIRS = "111122223333", "444455556666"
ANN = f"arn:aws:iam::{OURS}:user/ann"
ROLE = f"arn:aws:iam::{OURS}:role/auditor"
SESSION = f"arn:aws:sts::{OURS}:assumed-role/auditor/bob"
TRAIL = f"arn:aws:cloudtrail:eu-west-1:{OURS}:trail/main"
CALLERS = (
    Caller(OURS, ANN),
    Caller(OURS, SESSION, ROLE),
    Caller(THEIRS, f"arn:aws:iam::{THEIRS}:user/eve"),
    Caller(service="cloudtrail.amazonaws.com"),
    Caller(),
)
USER = CALLERS[0]
READ = "cloudtrail:GetTrailStatus"


def document(*statements: dict[str, Any], version: str | None = "2012-10-17") -> dict[str, Any]:
    return {**({"Version": version} if version else {}), "Statement": list(statements)}


def statement(effect: str, action: Any = "*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def identity(*statements: dict[str, Any]) -> Policy:
    return parse_policy(json.dumps(document(*statements)), PolicyKind.IDENTITY, "mine")


def resource(*statements: dict[str, Any]) -> Policy:
    return parse_policy(json.dumps(document(*statements)), PolicyKind.RESOURCE, "its")


def asked(
    caller: Caller = USER,
    action: str = READ,
    resource: str = TRAIL,
    owner: str = OURS,
    **context: str,
) -> AccessRequest:
    keys = {name.replace("__", ":"): (value,) for name, value in context.items()}
    return AccessRequest(caller, action, resource, owner, keys)


def outcome(
    request: AccessRequest, *policies: Policy, of_resource: Policy | None = None
) -> Outcome:
    return decide(request, policies, of_resource).outcome


# Differential.

_ACTIONS = ("cloudtrail:GetTrail", "cloudtrail:GetTrailStatus", "s3:GetObject", "s3:PutObject")
_ACTION_PATTERNS = (*_ACTIONS, "*", "cloudtrail:*", "s3:Get*", "CloudTrail:get*", "s3:?etObject")
_RESOURCES = (
    TRAIL,
    f"arn:aws:cloudtrail:eu-west-1:{THEIRS}:trail/other",
    "arn:aws:s3:::bucket/ann/key",
    "*",
)
_RESOURCE_PATTERNS = (
    *_RESOURCES,
    f"arn:aws:cloudtrail:*:{OURS}:trail/*",
    "arn:aws:s3:::bucket/${aws:username}/*",
    "arn:aws:s3:::${x:bucket, 'bucket'}/*",
    "arn:aws:s3:::*/ke?",
    "arn:aws:cloudtrail:*:*:trail/m*a*n",
    "arn:aws:s3:::bucket/a${*}",
)
_TEXTS = ("ann", "bob", "a*", "Ann", "${aws:username}", "b?b", "", "*")
_VALUES: dict[str, tuple[tuple[str, ...], tuple[Any, ...]]] = {
    "aws:username": (("ann", "bob", "a*", ""), _TEXTS),
    "aws:TagKeys": (("ann", "bob", "Ann"), _TEXTS),
    "aws:SourceIp": (
        ("10.1.2.3", "192.168.7.7"),
        ("10.0.0.0/8", "10.1.2.3", "192.168.0.0/16", "0.0.0.0/0"),
    ),
    "s3:max-keys": (("1", "10", "2.5"), (1, "10", 2.5, 3)),
    "aws:SecureTransport": (("true", "false"), (True, False, "true", "FALSE")),
    "aws:SourceArn": (_RESOURCES[:3], _RESOURCE_PATTERNS[5:6] + _RESOURCE_PATTERNS[8:9]),
}
_OPERATORS = {
    "aws:username": ("StringEquals", "StringNotEquals", "StringLike", "StringNotLike"),
    "aws:TagKeys": ("StringEquals", "StringNotEquals", "StringLike", "StringNotLike"),
    "aws:SourceIp": ("IpAddress", "NotIpAddress"),
    "s3:max-keys": ("NumericEquals", "NumericNotEquals", "NumericLessThan"),
    "aws:SecureTransport": ("Bool",),
    "aws:SourceArn": ("ArnLike", "ArnNotLike"),
}
_PRINCIPALS = (
    "*",
    {"AWS": "*"},
    {"AWS": [ANN, ROLE]},
    {"AWS": OURS},
    {"AWS": f"arn:aws:iam::{THEIRS}:root"},
    {"AWS": [f"arn:aws:iam::{THEIRS}:user/eve", OURS]},
    {"AWS": SESSION, "Service": "cloudtrail.amazonaws.com"},
)


class Generator:
    """Makes policies and requests of few words, so that many of them match."""

    def __init__(self, seed: int) -> None:
        self._choose = random.Random(seed)

    def _some(self, texts: Any) -> Any:
        if self._choose.random() < 0.5:
            return self._choose.choice(texts)
        return self._choose.sample(texts, self._choose.randrange(1, 4))

    def _condition(self) -> dict[str, Any]:
        key = self._choose.choice(sorted(_VALUES))
        wanted = self._choose.sample(_VALUES[key][1], min(2, len(_VALUES[key][1])))
        operator = self._choose.choice(_OPERATORS[key])
        roll = self._choose.random()
        if roll < 0.1:
            return {"Null": {key: self._choose.choice(("true", "false"))}}
        if roll < 0.4:
            operator = self._choose.choice(("ForAnyValue:", "ForAllValues:")) + operator
        if roll > 0.8:
            operator += "IfExists"
        key = key.upper() if roll < 0.2 else key
        return {operator: {key: wanted if roll < 0.7 else wanted[0]}}

    def statement(self, with_principal: bool) -> dict[str, Any]:
        effect = "Deny" if self._choose.random() < 0.2 else "Allow"
        negated = [self._choose.random() < 0.15 for _ in range(3)]
        made: dict[str, Any] = {
            "Effect": effect,
            "NotAction" if negated[0] else "Action": self._some(_ACTION_PATTERNS),
            "NotResource" if negated[1] else "Resource": self._some(_RESOURCE_PATTERNS),
        }
        if self._choose.random() < 0.6:
            made["Condition"] = self._condition()
            if self._choose.random() < 0.3:
                made["Condition"].update(self._condition())
        if with_principal:
            is_negated = negated[2] and effect == "Deny"
            principal = self._choose.choice(_PRINCIPALS)
            made["NotPrincipal" if is_negated else "Principal"] = principal
        return made

    def document(self, with_principal: bool = False) -> dict[str, Any]:
        count = self._choose.randrange(1, 5)
        version = self._choose.choice(("2012-10-17", "2012-10-17", "2008-10-17", None))
        return document(*(self.statement(with_principal) for _ in range(count)), version=version)

    def request(self) -> AccessRequest:
        context = {}
        for key, (values, _) in _VALUES.items():
            count = self._choose.choice((0, 1, 1, 1, 2))
            context[key.lower()] = tuple(self._choose.sample(values, count))
        return AccessRequest(
            self._choose.choice(CALLERS),
            self._choose.choice(_ACTIONS),
            self._choose.choice(_RESOURCES),
            OURS,
            context,
        )


def compiled(documents: list[dict[str, Any]], kind: PolicyKind) -> list[Policy]:
    return [parse_policy(json.dumps(each), kind) for each in documents]


@pytest.mark.slow
def test_decisions_on_random_policies_match_a_plain_evaluator() -> None:
    generator = Generator(27)
    outcomes: Counter[str] = Counter()
    count = 0
    for number in range(3_400):
        documents = [generator.document() for _ in range(number % 3)]
        of_resource = generator.document(True) if number % 2 else None
        count += len(documents) + (of_resource is not None)
        policies = compiled(documents, PolicyKind.IDENTITY)
        attached = compiled([of_resource], PolicyKind.RESOURCE)[0] if of_resource else None
        for _ in range(4):
            request = generator.request()
            caller = request.caller
            expected = naive.decide(
                {
                    "account": caller.account,
                    "arn": caller.arn,
                    "role_arn": caller.role_arn,
                    "service": caller.service,
                },
                request.action,
                request.resource,
                request.resource_account,
                dict(request.context),
                documents,
                of_resource,
            )
            found = decide(request, policies, attached).outcome.value
            assert found == expected, (request, documents, of_resource)
            outcomes[found] += 1
    assert count > 5_000
    assert min(outcomes.values()) > 1_000, outcomes


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(max_examples=500, deadline=None)
@given(seed=st.integers(0, 10**9), place=st.integers(0, 4))
def test_an_explicit_deny_always_wins(seed: int, place: int) -> None:
    generator = Generator(seed)
    documents, request = [generator.document() for _ in range(3)], generator.request()
    documents[place % 3]["Statement"].insert(place, statement("Deny"))
    attached = compiled([generator.document(True)], PolicyKind.RESOURCE)[0]
    decision = decide(request, compiled(documents, PolicyKind.IDENTITY), attached)
    assert decision.outcome is Outcome.EXPLICIT_DENY
    assert decision.statement is not None
    assert decision.statement.is_deny


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(max_examples=500, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_order_of_statements_and_policies_does_not_matter(seed: int) -> None:
    generator, choose = Generator(seed), random.Random(seed)
    documents, request = [generator.document() for _ in range(2)], generator.request()
    attached = generator.document(True)

    def decided() -> Outcome:
        of_resource = compiled([attached], PolicyKind.RESOURCE)[0]
        return decide(request, compiled(documents, PolicyKind.IDENTITY), of_resource).outcome

    before = decided()
    choose.shuffle(documents)
    for each in (*documents, attached):
        choose.shuffle(each["Statement"])
    assert decided() is before


@pytest.mark.hypothesis
@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 10**9))
@pytest.mark.slow
def test_without_an_allow_nothing_is_allowed(seed: int) -> None:
    generator = Generator(seed)
    documents, request = [generator.document() for _ in range(2)], generator.request()
    for each in documents:
        for one in each["Statement"]:
            one["Effect"] = "Deny"
    decision = decide(request, compiled(documents, PolicyKind.IDENTITY), None)
    assert not decision.is_allowed


# Rules.


def test_the_deciding_statement_is_named() -> None:
    allow = identity(
        statement("Allow", "s3:*", Sid="other"), statement("Allow", "cloudtrail:Get*", Sid="reads")
    )
    decision = decide(asked(), [allow], None)
    assert decision.policy is allow
    assert decision.statement is not None
    assert (decision.statement.sid, decision.statement.index) == ("reads", 1)
    deny = identity(statement("Deny", "cloudtrail:*", Sid="never"))
    decision = decide(asked(), [allow, deny], None)
    assert decision.policy is deny
    assert decision.statement is not None
    assert decision.statement.sid == "never"


def test_refusals_are_worded_like_awss() -> None:
    def reason(decision: Decision) -> str:
        return decision.reason(READ)

    none = f"because no identity-based policy allows the {READ} action"
    assert reason(decide(asked(), [], None)) == none
    deny = statement("Deny", Sid="never")
    assert reason(decide(asked(), [identity(deny)], None)) == (
        "with an explicit deny in an identity-based policy"
    )
    its = resource({**deny, "Principal": "*"})
    assert reason(decide(asked(), [], its)) == "with an explicit deny in a resource-based policy"
    stranger = asked(CALLERS[2])
    assert reason(decide(stranger, [identity(statement("Allow"))], None)) == (
        f"because no resource-based policy allows the {READ} action"
    )
    its = resource(statement("Allow", Principal={"AWS": THEIRS}))
    assert reason(decide(stranger, [], its)) == none


def test_within_an_account_either_policy_may_allow() -> None:
    mine, its = identity(statement("Allow")), resource(statement("Allow", Principal={"AWS": ANN}))
    assert outcome(asked(), mine) is Outcome.ALLOW
    assert outcome(asked(), of_resource=its) is Outcome.ALLOW
    assert outcome(asked()) is Outcome.IMPLICIT_DENY


def test_a_policy_for_the_account_delegates_the_choice() -> None:
    its = resource(statement("Allow", Principal={"AWS": f"arn:aws:iam::{OURS}:root"}))
    assert outcome(asked(), of_resource=its) is Outcome.IMPLICIT_DENY
    assert outcome(asked(), identity(statement("Allow")), of_resource=its) is Outcome.ALLOW
    root = Caller(OURS, f"arn:aws:iam::{OURS}:root", is_root=True)
    assert outcome(asked(root), of_resource=its) is Outcome.ALLOW


def test_across_accounts_both_must_allow() -> None:
    stranger = asked(CALLERS[2])
    mine = identity(statement("Allow"))
    for principal in (THEIRS, f"arn:aws:iam::{THEIRS}:user/eve", "*"):
        its = resource(statement("Allow", Principal={"AWS": principal}))
        assert outcome(stranger, mine, of_resource=its) is Outcome.ALLOW
        assert outcome(stranger, of_resource=its) is Outcome.IMPLICIT_DENY
    assert outcome(stranger, mine) is Outcome.IMPLICIT_DENY
    ours = resource(statement("Allow", Principal={"AWS": OURS}))
    assert outcome(stranger, mine, of_resource=ours) is Outcome.IMPLICIT_DENY


def test_the_root_user_is_limited_only_by_denials() -> None:
    root = Caller(OURS, f"arn:aws:iam::{OURS}:root", is_root=True)
    assert outcome(asked(root)) is Outcome.ALLOW
    assert outcome(asked(root, owner=THEIRS)) is Outcome.IMPLICIT_DENY
    its = resource(statement("Deny", Principal="*"))
    assert outcome(asked(root), of_resource=its) is Outcome.EXPLICIT_DENY


def test_principal_may_name_a_role_or_its_session() -> None:
    for name in (ROLE, SESSION):
        its = resource(statement("Allow", Principal={"AWS": name}))
        assert outcome(asked(CALLERS[1]), of_resource=its) is Outcome.ALLOW
    its = resource(statement("Allow", Principal={"AWS": SESSION.replace("bob", "eve")}))
    assert outcome(asked(CALLERS[1]), of_resource=its) is Outcome.IMPLICIT_DENY


def test_not_principal_denies_all_but_the_named() -> None:
    # "AWS JSON policy elements: NotPrincipal": the account's other users are also denied.
    its = resource(
        {
            "Effect": "Deny",
            "NotPrincipal": {"AWS": [ANN, f"arn:aws:iam::{OURS}:root"]},
            "Action": "*",
            "Resource": "*",
        }
    )
    mine = identity(statement("Allow"))
    assert outcome(asked(), mine, of_resource=its) is Outcome.ALLOW
    bob = Caller(OURS, f"arn:aws:iam::{OURS}:user/bob")
    assert outcome(asked(bob), mine, of_resource=its) is Outcome.EXPLICIT_DENY


def test_services_and_anonymous_callers_need_a_resource_policy() -> None:
    its = resource(statement("Allow", Principal={"Service": "cloudtrail.amazonaws.com"}))
    assert outcome(asked(CALLERS[3]), of_resource=its) is Outcome.ALLOW
    assert outcome(asked(CALLERS[4]), of_resource=its) is Outcome.IMPLICIT_DENY
    everyone = resource(statement("Allow", Principal="*"))
    assert outcome(asked(CALLERS[4]), of_resource=everyone) is Outcome.ALLOW
    assert outcome(asked(CALLERS[4]), identity(statement("Allow"))) is Outcome.IMPLICIT_DENY


# Examples of the IAM user guide.


def test_multi_factor_example() -> None:
    # "AWS: Denies access ... based on MFA": BoolIfExists also denies keys without the fact.
    policy = identity(
        statement("Allow"),
        {
            "Effect": "Deny",
            "NotAction": ["iam:ListMFADevices", "sts:GetSessionToken"],
            "Resource": "*",
            "Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}},
        },
    )
    assert outcome(asked(), policy) is Outcome.EXPLICIT_DENY
    without = asked(aws__multifactorauthpresent="false")
    assert outcome(without, policy) is Outcome.EXPLICIT_DENY
    assert outcome(asked(aws__multifactorauthpresent="true"), policy) is Outcome.ALLOW
    assert outcome(asked(action="iam:ListMFADevices"), policy) is Outcome.ALLOW


def test_home_directory_example() -> None:
    # "Amazon S3: Allows IAM users access to their S3 home directory".
    policy = identity(
        statement(
            "Allow",
            "s3:ListBucket",
            "arn:aws:s3:::bucket",
            Condition={"StringLike": {"s3:prefix": ["", "home/", "home/${aws:username}/*"]}},
        ),
        statement("Allow", "s3:*", ["arn:aws:s3:::bucket/home/${aws:username}/*"]),
    )

    def list_prefix(prefix: str) -> Outcome:
        bucket = "arn:aws:s3:::bucket"
        context = {"aws:username": ("ann",), "s3:prefix": (prefix,)}
        return outcome(AccessRequest(USER, "s3:ListBucket", bucket, OURS, context), policy)

    assert list_prefix("home/ann/x") is Outcome.ALLOW
    assert list_prefix("home/") is Outcome.ALLOW
    assert list_prefix("home/bob/x") is Outcome.IMPLICIT_DENY
    key = "arn:aws:s3:::bucket/home/ann/key"
    put = asked(action="s3:PutObject", resource=key, aws__username="ann")
    assert outcome(put, policy) is Outcome.ALLOW
    put = asked(action="s3:PutObject", resource=key, aws__username="*")
    assert outcome(put, policy) is Outcome.IMPLICIT_DENY
    assert outcome(asked(action="s3:PutObject", resource=key), policy) is Outcome.IMPLICIT_DENY


def test_source_ip_example() -> None:
    # "AWS: Denies access to AWS based on the source IP".
    policy = identity(
        statement("Allow"),
        statement(
            "Deny",
            Condition={
                "NotIpAddress": {"aws:SourceIp": ["192.0.2.0/24", "203.0.113.0/24"]},
                "Bool": {"aws:ViaAWSService": "false"},
            },
        ),
    )

    def call(address: str, via: str) -> Outcome:
        return outcome(asked(aws__sourceip=address, aws__viaawsservice=via), policy)

    assert call("192.0.2.9", "false") is Outcome.ALLOW
    assert call("198.51.100.1", "false") is Outcome.EXPLICIT_DENY
    assert call("198.51.100.1", "true") is Outcome.ALLOW


def test_tag_keys_example() -> None:
    # "AWS: Control access during AWS requests" with ForAllValues and aws:TagKeys.
    policy = identity(
        statement(
            "Allow",
            "cloudtrail:AddTags",
            Condition={
                "StringEquals": {"aws:RequestTag/environment": ["preprod", "production"]},
                "ForAllValues:StringEquals": {"aws:TagKeys": ["environment", "CostCenter"]},
            },
        )
    )

    def tag(*keys: str) -> Outcome:
        context = {"aws:requesttag/environment": ("preprod",), "aws:tagkeys": keys}
        request = AccessRequest(USER, "cloudtrail:AddTags", TRAIL, OURS, context)
        return outcome(request, policy)

    assert tag("environment") is Outcome.ALLOW
    assert tag("environment", "CostCenter") is Outcome.ALLOW
    assert tag("environment", "owner") is Outcome.IMPLICIT_DENY


def test_delivery_to_a_bucket_example() -> None:
    # "Amazon S3 bucket policy for CloudTrail".
    policy = parse_policy(
        json.dumps(
            document(
                {
                    "Sid": "AWSCloudTrailWrite20150319",
                    "Effect": "Allow",
                    "Principal": {"Service": "cloudtrail.amazonaws.com"},
                    "Action": "s3:PutObject",
                    "Resource": f"arn:aws:s3:::bucket/AWSLogs/{OURS}/*",
                    "Condition": {
                        "StringEquals": {
                            "s3:x-amz-acl": "bucket-owner-full-control",
                            "aws:SourceArn": TRAIL,
                        }
                    },
                }
            )
        ),
        PolicyKind.RESOURCE,
    )
    context = {
        "s3:x-amz-acl": ("bucket-owner-full-control",),
        "aws:sourcearn": (TRAIL,),
    }
    key = f"arn:aws:s3:::bucket/AWSLogs/{OURS}/CloudTrail/file"
    request = AccessRequest(CALLERS[3], "s3:PutObject", key, OURS, context)
    assert outcome(request, of_resource=policy) is Outcome.ALLOW
    other = AccessRequest(CALLERS[3], "s3:PutObject", key, OURS, {**context, "aws:sourcearn": ()})
    assert outcome(other, of_resource=policy) is Outcome.IMPLICIT_DENY
