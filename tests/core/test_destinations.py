"""Names of topics, log groups, roles and keys, and their errors (cloudtrail-format §8.1)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from opentrail.core.errors import CloudTrailError
from opentrail.core.trail import check_kms_key, check_log_group, check_log_role, topic_arn

ACCOUNT = "123456789012"
KEY = "12345678-1234-1234-1234-123456789012"


def refused(check: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(CloudTrailError) as caught:
        check()
    return caught.value.code, caught.value.message


@pytest.mark.parametrize("name", ["news", "a-b_C9", "n" * 256])
def test_topic_is_in_the_trails_region_and_account(name: str) -> None:
    assert topic_arn(name, "eu-west-1", ACCOUNT) == f"arn:aws:sns:eu-west-1:{ACCOUNT}:{name}"


def test_the_arn_of_a_topic_stays_unchanged() -> None:
    for arn in ("arn:aws:sns:us-east-1:210987654321:t", "arn:aws-cn:sns:cn-north-1:210987654321:t"):
        assert topic_arn(arn, "eu-west-1", ACCOUNT) == arn


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "n" * 257,
        "t.fifo",
        "arn:aws:sqs:us-east-1:123456789012:t",
        "arn:aws:sns:::t",
        "\u00e9",
    ],
)
def test_an_invalid_topic_is_refused(name: str) -> None:
    code, message = refused(lambda: topic_arn(name, "eu-west-1", ACCOUNT))
    assert code == "InvalidSnsTopicNameException"
    assert repr(name) in message


GROUP = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:"


@pytest.mark.parametrize("name", ["trail", "aws-cloudtrail-logs-1/a_b.c#d"])
def test_a_log_group_ends_with_a_star(name: str) -> None:
    check_log_group(f"{GROUP}{name}:*", ACCOUNT)


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "trail",
        f"{GROUP}trail",
        f"{GROUP}:*",
        f"{GROUP}a b:*",
        f"{GROUP}trail:*".replace(ACCOUNT, "210987654321"),
        f"{GROUP}trail:*".replace("logs", "sns"),
    ],
    ids=["empty", "name", "no star", "no name", "space", "other account", "other service"],
)
def test_an_invalid_log_group_is_refused(arn: str) -> None:
    code, message = refused(lambda: check_log_group(arn, ACCOUNT))
    assert code == "InvalidCloudWatchLogsLogGroupArnException"
    assert ACCOUNT in message


@pytest.mark.parametrize(
    "arn", [f"arn:aws:iam::{ACCOUNT}:role/r", f"arn:aws:iam::{ACCOUNT}:role/a/b"]
)
def test_a_role_of_the_account_may_write_logs(arn: str) -> None:
    check_log_role(arn, ACCOUNT)


@pytest.mark.parametrize(
    "arn",
    ["", "role", f"arn:aws:iam::{ACCOUNT}:user/u", "arn:aws:iam::210987654321:role/r"],
    ids=["empty", "name", "user", "other account"],
)
def test_an_invalid_role_is_refused(arn: str) -> None:
    code, message = refused(lambda: check_log_role(arn, ACCOUNT))
    assert code == "InvalidCloudWatchLogsRoleArnException"
    assert "role/NAME" in message


KMS = f"arn:aws:kms:us-east-1:{ACCOUNT}:"


@pytest.mark.parametrize(
    "key", [KEY, f"mrk-{KEY.replace('-', '')}", f"{KMS}key/{KEY}", "alias/a/b", f"{KMS}alias/x"]
)
def test_key_may_be_an_id_arn_or_alias(key: str) -> None:
    check_kms_key(key)


@pytest.mark.parametrize(
    "key", ["", "key", "alias/", f"{KMS}{KEY}", f"arn:aws:s3:::{KEY}", "alias/a b"]
)
def test_an_invalid_key_is_refused(key: str) -> None:
    code, message = refused(lambda: check_kms_key(key))
    assert code == "InvalidKmsKeyIdException"
    assert repr(key) in message
