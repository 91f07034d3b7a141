"""What of a value may be recorded."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.capture.redact import HIDDEN, actions, by_name, looks_secret
from opentrail.capture.render import lower_first


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "Password",
        "masterUserPassword",
        "NewPassword",
        "passphrase",
        "secretKey",
        "secret_key",
        "SecretAccessKey",
        "secretString",
        "SecretBinary",
        "clientSecret",
        "privateKey",
        "PrivateKeyPlaintext",
        "plaintext",
        "zipFile",
        "userData",
        "authToken",
        "sessionToken",
        "securityToken",
        "accessToken",
        "refreshToken",
        "bearerToken",
        "webIdentityToken",
        "credentials",
    ],
)
def test_a_name_of_a_secret_looks_like_one(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "nextToken",
        "NextToken",
        "clientToken",
        "continuation-token",
        "clientRequestToken",
        "secretId",
        "secretArn",
        "keyId",
        "accessKeyId",
        "userName",
        "credentialsProvider",
        "tableName",
        "",
    ],
)
def test_a_name_of_something_else_does_not(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize(
    ("label", "member", "action"),
    [
        # real-records.md and capture.md §4
        ("iam", "password", "remove"),
        ("iam", "newPassword", "remove"),
        ("iam", "oldPassword", "remove"),
        ("iam", "secretAccessKey", "remove"),
        ("sts", "secretAccessKey", "remove"),
        ("sts", "webIdentityToken", "remove"),
        ("sts", "sAMLAssertion", "remove"),
        ("sts", "sessionToken", "hide"),
        ("sts", "tokenCode", "hide"),
        ("kms", "plaintext", "remove"),
        ("secretsmanager", "secretString", "remove"),
        ("secretsmanager", "secretBinary", "remove"),
        ("lambda", "zipFile", "remove"),
        ("lambda", "variables", "remove"),
        ("ec2", "userData", "mark"),
        ("sqs", "messageBody", "hide"),
        ("sns", "message", "hide"),
        ("iam", "userName", None),
        ("ec2", "message", None),
        ("unlisted", "sessionToken", "hide"),
    ],
)
def test_a_member_is_left_out_hidden_or_marked_as_aws_does(
    label: str, member: str, action: str | None
) -> None:
    assert actions(label).get(member) == action


def test_a_value_without_a_model_is_renamed_and_redacted_by_name() -> None:
    value = {
        "UserName": "Mary",
        "Password": "secret",
        "Nested": [{"SessionToken": {"a": "secret"}, "Kept": 1}],
        "Blob": b"secret",
    }
    assert by_name(value, lower_first) == {
        "userName": "Mary",
        "password": HIDDEN,
        "nested": [{"sessionToken": HIDDEN, "kept": 1}],
        "blob": HIDDEN,
    }


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Password", "sessionToken", "x"]), inner, max_size=3)
    ),
    max_leaves=10,
)


def leaves(value: Any, secret: bool = False) -> list[tuple[bool, Any]]:
    if isinstance(value, dict):
        found = [leaves(item, secret or looks_secret(str(name))) for name, item in value.items()]
        return [leaf for leaf_list in found for leaf in leaf_list]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item, secret)]
    return [(secret, value)]


@pytest.mark.hypothesis
@settings(deadline=None)
@given(VALUES)
def test_no_bytes_and_nothing_under_a_secret_name_survive(value: Any) -> None:
    for secret, leaf in leaves(by_name(value, str)):
        assert not isinstance(leaf, bytes)
        assert not secret or leaf == HIDDEN
