"""Names of a trail's topic, log group, role and KMS key (cloudtrail-format §8.1)."""

from __future__ import annotations

import re

from opentrail.core.errors import CloudTrailError

_TOPIC_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}")
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}")
_LOG_GROUP = re.compile(
    r"arn:aws[a-z-]*:logs:[a-z0-9-]+:(\d{12}):log-group:[A-Za-z0-9_/.#-]{1,512}:\*"
)
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/[\w+=,.@/-]{1,576}")
_KEY_ID = r"(mrk-)?[0-9a-f-]{32,36}"
_ALIAS = r"alias/[A-Za-z0-9/_-]{1,250}"
_KMS_KEY = re.compile(
    rf"{_KEY_ID}|{_ALIAS}|arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{{12}}:(key/{_KEY_ID}|{_ALIAS})"
)


def topic_arn(name_or_arn: str, region: str, account: str) -> str:
    """Returns the ARN of a topic, which is in the trail's Region and account if only named.

    Raises:
        CloudTrailError: `InvalidSnsTopicNameException`.

    >>> topic_arn("news", "us-east-1", "123456789012")
    'arn:aws:sns:us-east-1:123456789012:news'
    """
    if _TOPIC_NAME.fullmatch(name_or_arn):
        return f"arn:aws:sns:{region}:{account}:{name_or_arn}"
    if _TOPIC.fullmatch(name_or_arn):
        return name_or_arn
    raise CloudTrailError(
        "InvalidSnsTopicNameException",
        f"SnsTopicName {name_or_arn!r} is not valid: expected the ARN of a topic that is not FIFO, "
        "or a name of 1 to 256 letters, digits, hyphens and underscores.",
    )


def check_log_group(arn: str, account: str) -> None:
    """Raises `InvalidCloudWatchLogsLogGroupArnException` unless it is a group of the account."""
    match = _LOG_GROUP.fullmatch(arn)
    if match is None or match[1] != account:
        raise CloudTrailError(
            "InvalidCloudWatchLogsLogGroupArnException",
            f"CloudWatchLogsLogGroupArn {arn!r} is not valid: expected "
            f"arn:aws:logs:REGION:{account}:log-group:NAME:*",
        )


def check_log_role(arn: str, account: str) -> None:
    """Raises `InvalidCloudWatchLogsRoleArnException` unless it is a role of the account."""
    match = _ROLE.fullmatch(arn)
    if match is None or match[1] != account:
        raise CloudTrailError(
            "InvalidCloudWatchLogsRoleArnException",
            f"CloudWatchLogsRoleArn {arn!r} is not valid: expected "
            f"arn:aws:iam::{account}:role/NAME",
        )


def check_kms_key(key: str) -> None:
    """Raises `InvalidKmsKeyIdException` unless it is a key's id or ARN, an alias or its ARN."""
    if not _KMS_KEY.fullmatch(key):
        raise CloudTrailError(
            "InvalidKmsKeyIdException",
            f"KmsKeyId {key!r} is not valid: expected the id or ARN of a key, alias/NAME, or the "
            "ARN of an alias.",
        )
