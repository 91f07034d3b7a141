"""Names that sound like secrets, and others."""

from __future__ import annotations

import pytest

from opentrail.core.secrets.secret_names import (
    hidden_members,
    looks_secret,
    means_secret,
    names_environment,
    names_secret,
    naming_members,
    sounds_secret,
)


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "MasterUserPassword",
        "DB_PASSWORD",
        "secretAccessKey",
        "secret-access-key",
        "client_secret",
        "X-Amz-Security-Token",
        "sessionToken",
        "privateKey",
        "userData",
        "credentials",
        "x" * 300 + "password",
    ],
)
def test_a_secret_name_is_recognized(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    ["secretId", "nextToken", "keyId", "tokenCode", "publicKey", "pass", "credentialsId", ""],
)
def test_another_name_is_no_secret(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "PW",
        "export_pw",
        "dbPass",
        "SharedAccessKey",
        "*secure",
        "token",
        "API_KEY",
        "x-api-key",
        "secrets",
        "tokens",
        "db_pass",
        "Cookie",
        "set-cookie",
        "secretValue",
        "tokenValue",
        "masterKey",
        "hmacKey",
        "jwt",
        "bearer",
        "SENTRY_DSN",
        "GITHUB_PAT",
        "ssh_key",
        "kubeconfig",
        "dbpass",
        "storepass",
        "auths",
        "stringData",
        "API_TOKEN_2",
        "X-Goog-Signature",
        "DD-APPLICATION-KEY",
        "Ocp-Apim-Subscription-Key",
        "x-functions-key",
        "client-key-data",
        "aws_sec_key",
    ],
)
def test_names_mean_secrets_without_a_model(name: str) -> None:
    assert sounds_secret(name)
    assert not looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        *("nextToken", "ClientRequestToken", "max_tokens", "httpTokens", "compass", "spin"),
        *("secretId", "password-policy", "password-rotation", "PasswordResetRequired", "is_secret"),
        *(
            "hasPassword",
            "secretKeyRef",
            "aws:PrincipalTag/password-team",
            "password-team",
            "bypass",
        ),
        *("tokenUrl", "PasswordLastUsed", "get-secret-value", "GetSecretValue", "password_count"),
    ],
)
def test_a_listed_name_is_never_a_secret(name: str) -> None:
    assert not sounds_secret(name)


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("MasterUserPassword", True),
        ("Passwords", True),
        ("apiToken", True),
        ("IdToken", True),
        ("ProcurementPortalSharedSecret", True),
        ("NewPreSharedKey", True),
        ("fs.s3a.secret.key", True),
        ("MasterPasswordSecretArn", False),
        ("ClientSecretId", False),
        ("PasswordHashingAlgorithm", False),
        ("ValidTokens", False),
        ("nextToken", False),
    ],
)
def test_a_model_distinguishes_secrets_and_their_metadata(name: str, is_secret: bool) -> None:
    assert names_secret(name) == is_secret


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("environment", True),
        ("EnvironmentVariables", True),
        ("environmentVariablesOverride", True),
        ("RuntimeEnvironmentVariables", True),
        ("EnvironmentOverride", True),
        ("env", True),
        ("envVars", True),
        ("environmentId", False),
        ("environments", False),
        ("computeEnvironment", False),
        ("hostEnvironment", False),
    ],
)
def test_environment_variables_are_recognized_by_name(name: str, holds: bool) -> None:
    assert names_environment(name) == holds


@pytest.mark.parametrize(
    ("given", "hidden"),
    [
        ({"Key": "password", "Value": "x"}, {"Value"}),
        ({"name": "sessionToken", "values": ["x"]}, {"values"}),
        ({"TagKey": "db-password", "TagValue": "x"}, {"TagValue"}),
        ({"HeaderName": "X-Api-Key", "HeaderValue": "x", "Enabled": True}, {"HeaderValue"}),
        ({"op": "add", "path": "/variables/PW", "value": "x"}, {"value"}),
        ({"id": "*password", "stringValue": "x"}, {"stringValue"}),
        ({"Name": "Pw", "Value": "x", "DefaultValue": "y"}, {"Value", "DefaultValue"}),
        ({"Key": "Password", "Value": "x", "UsePreviousValue": True}, {"Value"}),
        ({"name": "team", "value": "password"}, set()),
        ({"name": ["password"], "value": "x"}, set()),
        ({"name": "DB_PASSWORD", "valueFrom": "arn"}, set()),
        ({"password": "x"}, set()),
        ({"kind": "Secret", "data": {"a": "x"}, "type": "Opaque"}, {"data"}),
        ({"kind": "ConfigMap", "data": {"a": "x"}}, set()),
        ({"Name": "n", "Type": "SecureString", "Value": "x"}, {"Value"}),
        ({"Name": "password-policy", "Value": "x"}, set()),
    ],
)
def test_a_name_may_be_next_to_its_value(given: dict[str, object], hidden: set[str]) -> None:
    assert set(hidden_members(given)) == hidden


def test_a_structure_can_be_a_pair() -> None:
    assert naming_members({"key": 1}) is None
    assert naming_members({"value": 1}) is None
    assert naming_members(["Key", "Value", "More"]) == (("Key",), ("Value",))


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("/app/db/password", True),
        ("/tokens/0/x", True),
        ("/stages/nextToken", False),
        ("/description", False),
        (5, False),
        (None, False),
    ],
)
def test_one_part_makes_a_path_secret(name: object, means: bool) -> None:
    assert means_secret(name) == means


@pytest.mark.parametrize("member", ["pendingModifiedValues", "PendingModifiedValues"])
def test_old_settings_do_not_name_new_ones(member: str) -> None:
    assert hidden_members({"DBName": "password", member: {"NodeType": "x"}}) == ()


def test_reading_a_long_name_takes_linear_time() -> None:
    assert sounds_secret("max" * 30_000 + "token")
    assert not sounds_secret("x" * 30_000 + "maxTokens")
