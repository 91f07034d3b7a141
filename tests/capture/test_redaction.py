"""Redaction of values."""

import json
from collections.abc import Callable
from html import escape
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.capture.record_limits import MAX_HIDDEN_VALUES
from opentrail.capture.redaction import (
    actions,
    redact_message,
    without_literals,
    without_named_fields,
    without_words_of,
)
from opentrail.core.secrets.secret_names import HIDDEN, looks_secret


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
def test_a_secrets_name_is_recognized(name: str) -> None:
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
def test_names_without_a_secret_are_shown(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize(
    ("label", "member", "action"),
    [
        # cloudtrail-format §4.4
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
        ("cloudtrail-data", "auditEvents", "remove"),
        ("lambda", "variables", "remove"),
        ("ec2", "userData", "mark"),
        ("sqs", "messageBody", "hide"),
        ("sns", "message", "hide"),
        ("iam", "userName", None),
        ("ec2", "message", None),
        ("unlisted", "sessionToken", "hide"),
        ("sqs", "body", "hide"),
        ("iam", "removePrivateKey", "show"),
        ("dynamodb", "statement", "literals"),
    ],
)
def test_member_is_handled_as_by_aws(label: str, member: str, action: str | None) -> None:
    assert actions(label).get(member) == action


# Statements: names are shown, literals are data


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE t SET a = 'CANARY",
        "UPDATE t SET a = 'it''s CANARY'",
        "UPDATE t SET a = 'CANARY''s'",
        "UPDATE t SET a = '''CANARY'''",
        "UPDATE t SET a = 4111111111111111 WHERE k = 'k'",
        "UPDATE t SET a = -4111111111111111.5",
        "INSERT INTO t VALUE {'k': 4111111111111111}",
    ],
)
def test_no_literal_of_a_statement_survives(statement: str) -> None:
    """Numbers are item data like strings."""
    shown = without_literals(statement)
    assert "CANARY" not in shown
    assert "4111" not in shown


def test_name_with_a_digit_is_not_a_literal() -> None:
    statement = "SELECT a1, b_2 FROM table3 WHERE c4 = ?"
    assert without_literals(statement) == statement


@pytest.mark.parametrize("value", [None, 5, ["a"], {"a": "b"}, b"x"])
def test_a_statement_of_another_type_is_hidden(value: Any) -> None:
    assert without_literals(value) == HIDDEN


# Forms: a field may name its neighbor


def test_field_named_secret_by_its_neighbor_is_hidden() -> None:
    given = {
        "Name": "db",
        "Parameters.member.1.ParameterKey": "DBPassword",
        "Parameters.member.1.ParameterValue": "hunter2",
        "Parameters.member.2.ParameterKey": "Owner",
        "Parameters.member.2.ParameterValue": "ann",
        "Filter.1.Name": "secret",
        "Filter.1.Value.1": "a",
        "Filter.1.Value.2": "b",
        "Filter.10.Value.1": "c",
    }
    hidden = {"Parameters.member.1.ParameterValue", "Filter.1.Value.1", "Filter.1.Value.2"}
    assert without_named_fields(given) == given | dict.fromkeys(hidden, HIDDEN)
    shown = {name: value for name, value in given.items() if "member.2" in name}
    assert without_named_fields(shown) == shown


# Errors: their messages repeat the request


def test_an_error_does_not_repeat_a_hidden_value() -> None:
    asked = {"UserName": "Mary", "Password": "hunter22", "Deep": [{"Token": "t0ken-value"}]}
    message = "Value 'hunter22' of user Mary is weak (t0ken-value)"
    expected = f"Value '{HIDDEN}' of user Mary is weak ({HIDDEN})"
    assert redact_message(message, asked, {"userName": "Mary"}) == expected


def test_an_error_may_repeat_a_recorded_value() -> None:
    asked = {"UserName": "Mary", "Path": "/staff/"}
    message = "user Mary of /staff/ already exists"
    assert redact_message(message, asked, {"userName": "Mary", "path": "/staff/"}) == message


def test_an_error_with_too_many_values_is_hidden() -> None:
    values = [f"value-{i}" for i in range(MAX_HIDDEN_VALUES + 1)]
    assert redact_message("value-7 is too long", values[1:], []) == f"{HIDDEN} is too long"
    assert redact_message("value-7 is too long", values, []) == HIDDEN


@pytest.mark.parametrize("form", [quote, quote_plus, escape, json.dumps, str.strip])
def test_an_error_repeats_no_secret_in_another_form(form: Callable[[str], str]) -> None:
    secret = 'a "b" <c>&d/%+é'
    assert redact_message(f"no such value: {form(secret)}!", {"A": secret}, {}).count(HIDDEN) == 1
    assert "b" not in redact_message(form(secret), {"A": secret}, {})


@pytest.mark.parametrize(
    ("repeated", "shown"),
    [
        ("CORRECT HORSE BATTERY STAPLE", "{}"),
        ("correct horse bat", "{}"),
        ("Correct horse bat...", "{}..."),
        ("Corr...", "{}..."),
        ("…aple", "…{}"),
        ("battery staple", "{}"),
        ("cor****", "cor****"),
        ("correct", "correct"),
    ],
)
def test_error_repeats_no_part_of_secret(repeated: str, shown: str) -> None:
    asked = {"Password": "Correct horse battery staple"}
    message = redact_message(f"Value '{repeated}' is weak", asked, {})
    assert message == f"Value '{shown.replace('{}', HIDDEN)}' is weak"


def test_error_with_too_many_similar_values_is_hidden() -> None:
    values = [f"aaaa{'a' * 9}{number}" for number in range(10_000)]
    assert redact_message("aaaa bbbb" * 400, values, {}) == HIDDEN


def test_undecodable_body_is_compared_in_any_case() -> None:
    assert without_words_of(b"{Hunter2-and", "no HUNTER2 here", "") == f"no {HIDDEN} here"


def test_unrecorded_words_of_unreadable_bodies_are_hidden() -> None:
    hidden = without_words_of(b'{"a": "hunter%202', "no hunter 2: 'hunter%202' of /hunt", "/hunt")
    assert hidden == f"no {HIDDEN} 2: '{HIDDEN}' of /hunt"


def test_words_outside_the_body_stay_in_an_error() -> None:
    assert without_words_of(b"hunter", "malformed body: hunter", "") == f"malformed body: {HIDDEN}"


def test_overlong_message_on_an_unreadable_body_is_hidden() -> None:
    body = b"x" * 1_100_000 + b" hunter2"
    assert without_words_of(body, "malformed body: hunter2", "") == HIDDEN


def test_secret_containing_another_is_hidden_as_a_whole() -> None:
    asked = {"A": "secret", "B": "secret-and-more"}
    assert redact_message("secret-and-more secret", asked, {}) == f"{HIDDEN} {HIDDEN}"


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None)
@given(
    asked=st.dictionaries(
        st.text(max_size=3), st.text(st.sampled_from("abcd"), min_size=4, max_size=8), max_size=3
    ),
    around=st.text(max_size=5),
)
def test_no_error_repeats_a_hidden_string(asked: dict[str, str], around: str) -> None:
    message = around.join(["", *asked.values(), ""])
    found = redact_message(message, asked, {})
    assert not [secret for secret in asked.values() if secret in found]
