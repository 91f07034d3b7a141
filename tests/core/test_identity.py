"""Callers: accounts in key ids, and lessons from records about keys and users."""

import base64
import json
from typing import Any

import botocore.session
import pytest
from botocore.model import Shape, StructureShape
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.identity import (
    Identity,
    Learned,
    account_of_key,
    federated_caller,
    iam_user,
    key_for_account,
    learn,
    root,
    unknown,
)
from tests.collection import collected_records
from tests.factories import (
    ABSENT,
    ACCOUNT,
    KEY,
    a_real_record,
    a_record,
    an_iam_user,
    event_id,
)

ACCOUNTS = st.integers(0, 999_999_999_999).map("{:012d}".format)
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/service/DataRole"


def assume_role(**changes: Any) -> dict[str, Any]:
    record = {
        "eventSource": "sts.amazonaws.com",
        "eventName": "AssumeRole",
        "requestParameters": {"roleArn": ROLE_ARN, "roleSessionName": "etl"},
        "responseElements": {
            "credentials": {
                "accessKeyId": "ASIAEXAMPLEROLE",
                "sessionToken": "HIDDEN_DUE_TO_SECURITY_REASONS",
                "expiration": "Jan 1, 2020, 10:00:00 AM",
            },
            "assumedRoleUser": {
                "assumedRoleId": "AROAEXAMPLE:etl",
                "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/DataRole/etl",
            },
        },
        "readOnly": True,
    }
    return a_record(**{**record, **changes})


def session_token(**parameters: Any) -> dict[str, Any]:
    return a_record(
        eventSource="sts.amazonaws.com",
        eventName="GetSessionToken",
        requestParameters=parameters or None,
        responseElements={"credentials": {"accessKeyId": "ASIAEXAMPLESESSION"}},
    )


def create_access_key(user: str = "Mary", key: str = "AKIAEXAMPLEMARY") -> dict[str, Any]:
    return a_record(
        eventName="CreateAccessKey",
        requestParameters={"userName": user},
        responseElements={
            "accessKey": {
                "accessKeyId": key,
                "status": "Active",
                "userName": user,
                "createDate": "Jan 1, 2020 9:00:00 AM",
            }
        },
        eventID=event_id(7),
    )


# Accounts in key ids


@pytest.mark.hypothesis
@settings(deadline=None)
@given(ACCOUNTS, st.sampled_from(["AKIA", "ASIA"]))
def test_account_is_read_back_from_a_key_id(account: str, prefix: str) -> None:
    key = key_for_account(account, prefix)
    assert account_of_key(key) == account
    assert key.startswith(prefix)
    assert len(key) == 20
    assert key.isalnum()
    assert key.isupper()


@pytest.mark.parametrize(
    ("key", "account"),
    [
        # The two examples in publications on the encoding.
        ("ASIAQNZGKIQY56JQ7WML", "029608264753"),
        ("AKIAY34FZKBOKMUTVV7A", "609629065308"),
    ],
)
def test_account_is_decoded_from_a_new_style_key(key: str, account: str) -> None:
    assert account_of_key(key) == account


@pytest.mark.parametrize(
    "key",
    [
        "AKIAIOSFODNN7EXAMPLE",  # AWS's own in the documentation, of the old style
        "AKIAI44QH8DHBEXAMPLE",
        "test",
        "minioadmin",
        "",
        "AKIA",
        "AKIA********",
        "akiaqnzgkiqy56jq7wml",
        "AKIAé234567ABCDEFGHI",
        "AKIA7777777777777777",  # of an account with thirteen digits
        "MYKEYSTORAGESERVICEX",
    ],
)
def test_old_or_hand_made_key_has_no_account(key: str) -> None:
    assert account_of_key(key) is None


@pytest.mark.hypothesis
@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_key_id_gives_twelve_digits_or_nothing(key: str) -> None:
    account = account_of_key(key)
    assert account is None or (len(account) == 12 and account.isdigit())


# Identities in records


def test_an_identity_has_its_members_in_awss_order() -> None:
    identity = Identity(KEY, ACCOUNT, iam_user(ACCOUNT, "John", "AIDAJOHN", None))
    assert list(identity.as_record().items()) == [
        ("type", "IAMUser"),
        ("principalId", "AIDAJOHN"),
        ("arn", f"arn:aws:iam::{ACCOUNT}:user/John"),
        ("accountId", ACCOUNT),
        ("accessKeyId", KEY),
        ("userName", "John"),
    ]


def test_user_with_an_unknown_id_has_no_id() -> None:
    assert "principalId" not in iam_user(ACCOUNT, "John", None, None)


def test_an_unrecorded_key_is_unknown() -> None:
    assert unknown(ACCOUNT, "AKIAX").as_record() == {
        "type": "Unknown",
        "accountId": ACCOUNT,
        "accessKeyId": "AKIAX",
    }


def test_showing_an_identity_does_not_change_it() -> None:
    known = {"type": "Unknown", "accountId": ACCOUNT}
    Identity("AKIAX", ACCOUNT, known).as_record()["type"] = "Root"
    assert known == {"type": "Unknown", "accountId": ACCOUNT}


# Learning


def test_creating_a_user_teaches_id_and_arn() -> None:
    assert learn(a_record(), {}) == Learned(
        users=((ACCOUNT, "Mary", "AIDATFQR7NSCYG26CT6RI", f"arn:aws:iam::{ACCOUNT}:user/Mary"),)
    )


def test_creating_an_access_key_teaches_its_user() -> None:
    users = {(ACCOUNT, "Mary"): ("AIDAMARY", f"arn:aws:iam::{ACCOUNT}:user/staff/Mary")}
    (identity,) = learn(create_access_key(), users).identities
    assert identity == Identity(
        "AKIAEXAMPLEMARY",
        ACCOUNT,
        {
            "type": "IAMUser",
            "principalId": "AIDAMARY",
            "arn": f"arn:aws:iam::{ACCOUNT}:user/staff/Mary",
            "accountId": ACCOUNT,
            "userName": "Mary",
        },
        event_id(7),
    )


def test_user_without_recorded_creation_has_name_and_arn() -> None:
    (identity,) = learn(create_access_key(), {}).identities
    assert identity.user_identity == {
        "type": "IAMUser",
        "arn": f"arn:aws:iam::{ACCOUNT}:user/Mary",
        "accountId": ACCOUNT,
        "userName": "Mary",
    }


@pytest.mark.parametrize("answered", [{}, {"userName": ""}, {"userName": None}])
def test_key_that_root_makes_for_itself_is_roots(answered: dict[str, Any]) -> None:
    caller = {"type": "Root", "principalId": ACCOUNT, "accountId": ACCOUNT}
    answer = {"accessKey": {"accessKeyId": "AKIAROOT", "status": "Active", **answered}}
    made = create_access_key() | {"userIdentity": caller, "responseElements": answer}
    (identity,) = learn(made, {}).identities
    assert identity.user_identity == root(ACCOUNT)
    assert learn(made | {"userIdentity": an_iam_user()}, {}) == Learned()


@pytest.mark.parametrize("principal", ["222222222222", "arn:aws:iam::222222222222:root"])
def test_a_members_root_session_is_marked_as_assumed(principal: str) -> None:
    answer = {"credentials": {"accessKeyId": "ASIAROOT"}, "sourceIdentity": "alice"}
    record = a_record(
        eventSource="sts.amazonaws.com",
        eventName="AssumeRoot",
        requestParameters={"targetPrincipal": principal},
        responseElements=answer,
    )
    (identity,) = learn(record, {}).identities
    assert identity.account == "222222222222"
    assert identity.user_identity["arn"] == "arn:aws:iam::222222222222:root"
    context = identity.user_identity["sessionContext"]
    assert (context["assumedRoot"], context["sourceIdentity"]) == ("true", "alice")


def test_a_namesake_in_another_account_is_another_user() -> None:
    users = {("999999999999", "Mary"): ("AIDAOTHER", "arn:aws:iam::999999999999:user/Mary")}
    (identity,) = learn(create_access_key(), users).identities
    assert "AIDAOTHER" not in identity.user_identity.values()


def test_assuming_a_role_teaches_its_new_keys_session() -> None:
    (identity,) = learn(assume_role(), {}).identities
    assert identity.access_key_id == "ASIAEXAMPLEROLE"
    assert identity.account == ACCOUNT
    assert identity.learned_from == event_id(1)
    assert identity.as_record() == {
        "type": "AssumedRole",
        "principalId": "AROAEXAMPLE:etl",
        "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/DataRole/etl",
        "accountId": ACCOUNT,
        "accessKeyId": "ASIAEXAMPLEROLE",
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "principalId": "AROAEXAMPLE",
                "arn": ROLE_ARN,
                "accountId": ACCOUNT,
                "userName": "DataRole",
            },
            "webIdFederationData": {},
            "attributes": {"creationDate": "2020-01-01T09:00:00Z", "mfaAuthenticated": "false"},
        },
    }


def test_agents_tag_covers_the_session_and_its_roles() -> None:
    asked = assume_role()["requestParameters"]
    tags = [{"key": "team", "value": "a"}, {"key": "Agent", "value": "claude-code+ada"}]
    (identity,) = learn(assume_role(requestParameters={**asked, "tags": tags}), {}).identities
    assert identity.agent_tag == "agent=claude-code+ada"
    assert "agent" not in str(identity.as_record())
    by_session = {"opentrail": {"agentTag": "agent=codex"}}
    (chained,) = learn(assume_role(additionalEventData=by_session), {}).identities
    assert chained.agent_tag == "agent=codex"


@pytest.mark.parametrize("tags", [None, {}, [1], [{"key": "agent"}], [{"value": "x"}], "agent"])
def test_other_tags_name_no_agent(tags: Any) -> None:
    asked = {**assume_role()["requestParameters"], "tags": tags}
    (identity,) = learn(assume_role(requestParameters=asked), {}).identities
    assert identity.agent_tag is None


@pytest.mark.parametrize("value", ["", "a" * 257, "a\n", "\ud800", "ä", 5])
def test_tag_that_aws_would_refuse_names_no_agent(value: Any) -> None:
    tags = [{"key": "agent", "value": value}]
    asked = {**assume_role()["requestParameters"], "tags": tags}
    (identity,) = learn(assume_role(requestParameters=asked), {}).identities
    assert identity.agent_tag is None


def test_role_of_another_account_acts_in_its_own() -> None:
    other = "210987654321"
    answer = assume_role()["responseElements"]
    answer["assumedRoleUser"]["arn"] = f"arn:aws:sts::{other}:assumed-role/DataRole/etl"
    (identity,) = learn(assume_role(responseElements=answer), {}).identities
    assert identity.account == other
    assert identity.user_identity["accountId"] == other


def test_source_identity_is_handed_on_to_the_session() -> None:
    asked = {"roleArn": ROLE_ARN, "roleSessionName": "etl", "sourceIdentity": "alice@example.com"}
    (identity,) = learn(assume_role(requestParameters=asked), {}).identities
    assert identity.user_identity["sessionContext"]["sourceIdentity"] == "alice@example.com"
    # It stays when this session assumes another role without repeating it.
    following = assume_role(userIdentity=dict(identity.user_identity))
    (chained,) = learn(following, {}).identities
    assert chained.user_identity["sessionContext"]["sourceIdentity"] == "alice@example.com"


def test_a_source_identity_may_come_from_a_token() -> None:
    answer = {**assume_role()["responseElements"], "sourceIdentity": "bob@example.com"}
    (identity,) = learn(assume_role(responseElements=answer), {}).identities
    assert identity.user_identity["sessionContext"]["sourceIdentity"] == "bob@example.com"


def test_a_session_token_is_of_the_same_user() -> None:
    (identity,) = learn(session_token(), {}).identities
    expected = {
        **an_iam_user("John", key="ASIAEXAMPLESESSION"),
        "sessionContext": {
            "attributes": {"creationDate": "2020-01-01T09:00:00Z", "mfaAuthenticated": "false"}
        },
    }
    assert identity.as_record() == expected


def test_session_with_mfa_is_marked_by_a_string() -> None:
    record = session_token(
        serialNumber=f"arn:aws:iam::{ACCOUNT}:mfa/John",
        tokenCode="HIDDEN_DUE_TO_SECURITY_REASONS",
    )
    (identity,) = learn(record, {}).identities
    attributes = identity.user_identity["sessionContext"]["attributes"]
    assert attributes["mfaAuthenticated"] == "true"


def test_federation_token_has_the_form_of_real_records() -> None:
    """AWS's own two records: GetFederationToken, then a call with the new key."""
    taught = learn(a_real_record("GetFederationToken"), {})
    later = a_real_record("GetCallerIdentity", "FederatedUser")
    (identity,) = taught.identities
    assert identity.access_key_id == later["userIdentity"]["accessKeyId"]
    assert identity.as_record() == later["userIdentity"]


@pytest.mark.parametrize(
    "record", [a_record(), create_access_key(), assume_role(), session_token()]
)
def test_a_failed_call_teaches_nothing(record: dict[str, Any]) -> None:
    assert learn(record, {}) != Learned()
    assert learn({**record, "errorCode": "AccessDenied"}, {}) == Learned()
    failed = {**record, "errorCode": "AccessDenied", "responseElements": None}
    assert learn(failed, {}) == Learned()


@pytest.mark.parametrize(
    "changes",
    [
        {"eventSource": "ec2.amazonaws.com"},
        {"eventSource": "iam.example.com"},
        {"eventName": "UpdateUser"},
        {"responseElements": None},
        {"responseElements": {"user": None}},
        {"responseElements": ABSENT},
    ],
)
def test_a_call_of_another_kind_teaches_nothing(changes: dict[str, Any]) -> None:
    assert learn(a_record(**changes), {}) == Learned()


def test_secrets_and_tokens_are_not_learned() -> None:
    record = assume_role()
    record["responseElements"]["credentials"]["secretAccessKey"] = "CANARY-SECRET"
    record["responseElements"]["credentials"]["sessionToken"] = "CANARY-TOKEN"
    assert "CANARY" not in repr(learn(record, {}))


@pytest.mark.hypothesis
@settings(deadline=None)
@given(
    arn=st.text(st.sampled_from("ab:/"), max_size=12) | st.text(max_size=12),
    role_id=st.text(max_size=12),
    asked=st.none() | st.dictionaries(st.sampled_from(["roleArn", "x"]), st.text(max_size=8)),
)
@pytest.mark.slow
def test_unexpected_answer_of_the_upstream_does_not_raise(
    arn: str, role_id: str, asked: dict[str, str] | None
) -> None:
    answer = {
        "credentials": {"accessKeyId": "ASIAODD"},
        "assumedRoleUser": {"arn": arn, "assumedRoleId": role_id},
    }
    taught = learn(assume_role(responseElements=answer, requestParameters=asked), {})
    assert [identity.access_key_id for identity in taught.identities] == ["ASIAODD"]


@pytest.mark.slow
def test_learned_sessions_match_awss_later_records() -> None:
    learned: dict[str, Identity] = {}
    compared = 0
    records = [r for source, r in collected_records() if source.startswith("invictus")]
    for record in sorted(records, key=lambda r: str(r["eventTime"])):
        for identity in learn(record, {}).identities:
            learned[identity.access_key_id] = identity
        shown = record["userIdentity"]
        known = learned.get(shown.get("accessKeyId", ""))
        if known is None or shown["type"] != "AssumedRole":
            continue
        compared += 1
        for member in ("type", "principalId", "arn", "accountId"):
            assert known.as_record()[member] == shown[member]
        issuer = known.user_identity["sessionContext"]["sessionIssuer"]
        assert issuer == shown["sessionContext"]["sessionIssuer"]
    assert compared > 0


# Tokens that name the caller, deleted keys


def test_web_identity_has_the_name_in_its_token() -> None:
    answer = {
        "subjectFromWebIdentityToken": "system:serviceaccount:ns:app",
        "audience": "sts.amazonaws.com",
        "provider": "arn:aws:iam::210987654321:oidc-provider/oidc.example",
    }
    asked = {"roleArn": "arn:aws:iam::210987654321:role/app"}
    assert federated_caller("AssumeRoleWithWebIdentity", asked, answer) == (
        {
            "type": "WebIdentityUser",
            "principalId": f"{answer['provider']}:sts.amazonaws.com:system:serviceaccount:ns:app",
            "userName": "system:serviceaccount:ns:app",
            "identityProvider": answer["provider"],
        },
        "210987654321",
    )


def a_token(**claims: object) -> str:
    """Returns a JSON Web Token with these claims and an invalid signature."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.c2ln"


@pytest.mark.parametrize(
    ("claims", "provider", "audience"),
    [
        (
            {"iss": "https://oidc.example/id/1", "aud": ["sts.amazonaws.com"], "sub": "app"},
            "arn:aws:iam::210987654321:oidc-provider/oidc.example/id/1",
            "sts.amazonaws.com",
        ),
        (
            {"iss": "https://accounts.google.com", "aud": "other", "azp": "client", "sub": "app"},
            "accounts.google.com",
            "client",
        ),
    ],
)
def test_a_silent_answer_leaves_the_tokens_name(
    claims: dict[str, object], provider: str, audience: str
) -> None:
    asked = {"roleArn": "arn:aws:iam::210987654321:role/app"}
    found = federated_caller("AssumeRoleWithWebIdentity", asked, {}, a_token(**claims))
    assert found == (
        {
            "type": "WebIdentityUser",
            "principalId": f"{provider}:{audience}:app",
            "userName": "app",
            "identityProvider": provider,
        },
        "210987654321",
    )


@pytest.mark.parametrize(
    "token",
    [
        None,
        5,
        "opaque",
        "a.b.c",
        "e30.!!.e30",
        "e30.W10.e30",
        a_token(iss=5, sub=["x"], aud={}),
        a_token(iss="", aud=[]),
        f"e30.{base64.b64encode(b'[' * 9_999).decode()}.e30",
        "x" * 200_000,
    ],
)
def test_a_token_of_another_form_names_no_caller(token: object) -> None:
    found = federated_caller("AssumeRoleWithWebIdentity", None, {}, token)
    assert found == ({"type": "WebIdentityUser"}, None)


def test_a_saml_users_name_has_qualifier_and_subject() -> None:
    answer = {"nameQualifier": "SbdGOnUkh1i4", "subject": "SamlExample"}
    found = federated_caller("AssumeRoleWithSAML", {"roleArn": "x"}, answer)
    assert found == (
        {
            "type": "SAMLUser",
            "principalId": "SbdGOnUkh1i4:SamlExample",
            "userName": "SamlExample",
            "identityProvider": "SbdGOnUkh1i4",
        },
        None,
    )


@pytest.mark.parametrize("answer", [None, {}])
def test_refused_token_leaves_its_caller_without_a_name(answer: dict[str, Any] | None) -> None:
    found = federated_caller("AssumeRoleWithWebIdentity", None, answer)
    assert found == ({"type": "WebIdentityUser"}, None)
    assert federated_caller("GetCallerIdentity", {}, {}) is None


def test_session_of_a_web_identity_names_its_provider() -> None:
    record = a_record(
        eventSource="sts.amazonaws.com",
        eventName="AssumeRoleWithWebIdentity",
        requestParameters={"roleArn": f"arn:aws:iam::{ACCOUNT}:role/app"},
        responseElements={
            "provider": "accounts.google.com",
            "credentials": {"accessKeyId": "ASIAWEB"},
            "assumedRoleUser": {
                "assumedRoleId": "AROA:s",
                "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/app/s",
            },
        },
    )
    (identity,) = learn(record, {}).identities
    context = identity.user_identity["sessionContext"]
    assert context["webIdFederationData"] == {
        "federatedProvider": "accounts.google.com",
        "attributes": {},
    }


def test_deleted_key_has_the_event_that_deleted_it() -> None:
    record = a_record(
        eventName="DeleteAccessKey",
        requestParameters={"accessKeyId": "AKIAGONE"},
        responseElements=None,
    )
    assert learn(record, {}).deleted == (("AKIAGONE", record["eventID"]),)
    assert learn({**record, "errorCode": "NoSuchEntity"}, {}) == Learned()
    assert not Learned()
    assert learn(record, {})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
names = st.sampled_from(
    ["CreateUser", "CreateAccessKey", "DeleteAccessKey", "AssumeRole", "GetSessionToken"]
)
members = st.sampled_from(["userIdentity", "requestParameters", "responseElements"])


@pytest.mark.slow
@pytest.mark.hypothesis
@given(names, st.sampled_from(["iam", "sts"]), st.dictionaries(members, anything))
def test_a_record_with_wrong_types_can_be_learned(
    name: str, source: str, odd: dict[str, Any]
) -> None:
    record = a_record(eventName=name, eventSource=f"{source}.amazonaws.com")
    learn({**record, **odd}, {})


#: Operations that create or delete keys, each reviewed: the tests above cover their records.
KEY_OPERATIONS = frozenset(
    {
        "AssumeRole",
        "AssumeRoleWithSAML",
        "AssumeRoleWithWebIdentity",
        "AssumeRoot",
        "CreateAccessKey",
        "DeleteAccessKey",
        "GetDelegatedAccessToken",
        "GetFederationToken",
        "GetSessionToken",
    }
)


def hands_out_a_key(answer: Shape | None) -> bool:
    if not isinstance(answer, StructureShape):
        return False
    return "SecretAccessKey" in answer.members or any(map(hands_out_a_key, answer.members.values()))


def test_every_operation_that_returns_a_key_is_listed() -> None:
    session = botocore.session.get_session()
    found = {"DeleteAccessKey"}
    for service in map(session.get_service_model, ("iam", "sts")):
        models = map(service.operation_model, service.operation_names)
        found |= {model.name for model in models if hands_out_a_key(model.output_shape)}
    assert found == KEY_OPERATIONS
