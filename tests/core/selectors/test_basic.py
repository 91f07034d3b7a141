"""Basic event selectors: AWS's defaults and errors (cloudtrail-format §7.1)."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.core.errors import CloudTrailError
from opentrail.core.selectors.basic import (
    BasicSelector,
    DataResource,
    check_basic,
    means_every,
    refused,
    shorten,
)

S3, FUNCTION, TABLE = "AWS::S3::Object", "AWS::Lambda::Function", "AWS::DynamoDB::Table"


def refusal(*given: dict[str, Any]) -> str:
    with pytest.raises(CloudTrailError) as error:
        check_basic([BasicSelector.from_json(selector) for selector in given])
    assert error.value.code == "InvalidEventSelectorsException"
    return error.value.message


def of_values(kind: str, *values: str) -> dict[str, Any]:
    return {"DataResources": [{"Type": kind, "Values": list(values)}]}


def test_omitted_members_get_awss_defaults() -> None:
    expected = {
        "ReadWriteType": "All",
        "IncludeManagementEvents": True,
        "DataResources": [],
        "ExcludeManagementEventSources": [],
    }
    nothing = dict.fromkeys(expected)
    assert BasicSelector.from_json({}).to_json() == expected
    assert BasicSelector.from_json(nothing).to_json() == expected
    assert list(BasicSelector().to_json()) == list(expected)


def test_values_are_kept() -> None:
    given = {
        "ReadWriteType": "WriteOnly",
        "IncludeManagementEvents": False,
        "DataResources": [{"Type": S3, "Values": ["arn:aws:s3:::b/", "arn:aws:s3:::c/d"]}],
        "ExcludeManagementEventSources": [],
    }
    assert BasicSelector.from_json(given).to_json() == given


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (S3, "arn:aws:s3"),
        (S3, "arn:aws:s3:::"),
        (S3, "arn:aws-cn:s3"),
        (S3, "arn:aws:s3:::bucket/"),
        (S3, "arn:aws:s3:::bucket/prefix"),
        (S3, "arn:aws:s3:::my.bucket/a prefix/with ü?"),
        (S3, "arn:aws-us-gov:s3:::bucket/prefix"),
        (FUNCTION, "arn:aws:lambda"),
        (FUNCTION, "arn:aws:lambda:us-west-2:111111111111:function:helloworld"),
        (FUNCTION, "arn:aws-cn:lambda:cn-north-1:111111111111:function:hello_world-2"),
        (FUNCTION, "arn:aws:lambda:us-west-2:111111111111:function:helloworld:$LATEST"),
        (TABLE, "arn:aws:dynamodb"),
        (TABLE, "arn:aws:dynamodb:eu-west-1:111111111111:table/My.Table_1-x"),
        (TABLE, "arn:aws-us-gov:dynamodb:us-gov-west-1:111111111111:table/T"),
    ],
)
def test_values_of_awss_forms_are_accepted(kind: str, value: str) -> None:
    check_basic([BasicSelector.from_json(of_values(kind, value))])


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (S3, "arn:aws:s3:::*/*"),
        (S3, "arn:aws:s3:::bucket/*"),
        (S3, "arn:aws:s3:::*"),
        (S3, "arn:aws:s3:::bucket"),
        (S3, "bucket"),
        (S3, "bucket/prefix"),
        (S3, "arn:aws:s3:::/prefix"),
        (S3, "arn:aws:s3:us-east-1:111111111111:bucket/x"),
        (S3, "arn:other:s3:::bucket/"),
        (S3, ""),
        (S3, "arn:aws:s3:::bucket/" + "a" * 2048),
        (S3, "arn:aws:lambda"),
        (FUNCTION, "arn:aws:lambda:us-west-2:111111111111:function:*"),
        (FUNCTION, "arn:aws:lambda:us-west-2:111111111111:function"),
        (FUNCTION, "helloworld"),
        (FUNCTION, "arn:aws:s3"),
        (TABLE, "arn:aws:dynamodb:eu-west-1:111111111111:table/T/index/I"),
        (TABLE, "arn:aws:dynamodb:eu-west-1:111111111111:T"),
        (TABLE, "arn:aws:dynamodb:eu-west-1::table/T"),
        (TABLE, "T\n"),
    ],
)
def test_other_values_are_refused_as_by_aws(kind: str, value: str) -> None:
    shown = value if len(value) <= 200 else value[:200] + "…"
    expected = f"Value {shown} for DataResources.Values is invalid."
    assert refusal(of_values(kind, "arn:x", value), {})[:17] == "Value arn:x for D"
    assert refusal(of_values(kind, value)) == expected


def test_advanced_selector_type_is_refused_as_by_aws() -> None:
    message = refusal(of_values("AWS::S3::Bucket", "arn:aws:s3"))
    assert message.startswith("Value AWS::S3::Bucket for DataResources.Type is invalid. ")
    for kind in (S3, FUNCTION, TABLE):
        assert kind in message
    assert refusal({"DataResources": [{"Values": ["arn:aws:s3"]}]}).startswith("Value null for")


@pytest.mark.parametrize("values", [[], None])
def test_a_type_without_values_is_refused(values: list[str] | None) -> None:
    message = refusal({"DataResources": [{"Type": S3, "Values": values}]})
    assert message == f"DataResources.Values of {S3} must have at least one value."


def test_only_two_management_sources_can_be_excluded() -> None:
    for source in ("kms.amazonaws.com", "rdsdata.amazonaws.com"):
        check_basic([BasicSelector(excluded_sources=(source,))])
    message = refusal({"ExcludeManagementEventSources": ["iam.amazonaws.com"]})
    assert message == (
        "Value iam.amazonaws.com for ExcludeManagementEventSources is invalid. "
        "Valid values are kms.amazonaws.com and rdsdata.amazonaws.com."
    )
    message = refusal(
        {
            "IncludeManagementEvents": False,
            "ExcludeManagementEventSources": ["kms.amazonaws.com"],
        }
    )
    assert "IncludeManagementEvents is true" in message


def test_an_unknown_read_write_type_is_refused() -> None:
    assert refusal({"ReadWriteType": "read-only"}) == (
        "Value read-only for ReadWriteType is invalid. "
        "Valid values are All, ReadOnly and WriteOnly."
    )


@pytest.mark.parametrize("count", [0, 6, 100])
def test_a_trail_has_one_to_five_selectors(count: int) -> None:
    check_basic([BasicSelector()] * 5)
    assert refusal(*[{}] * count) == (f"A trail has 1 to 5 event selectors, but {count} are given.")


def test_a_trail_has_at_most_250_specific_values() -> None:
    def some(first: int, count: int) -> DataResource:
        values = [f"arn:aws:s3:::bucket-{n}/" for n in range(first, first + count)]
        return DataResource(S3, (*values, "arn:aws:s3"))

    most = [BasicSelector(resources=(some(0, 100), some(100, 100))), BasicSelector()]
    check_basic([*most, BasicSelector(resources=(some(200, 50),))])
    with pytest.raises(CloudTrailError, match=r"at most 250 values .* but 251 are given"):
        check_basic([*most, BasicSelector(resources=(some(200, 51),))])


def test_all_covers_only_the_types_own_service() -> None:
    assert means_every(FUNCTION, "arn:aws:lambda")
    assert not means_every(FUNCTION, "arn:aws:s3")
    assert not means_every(S3, "arn:aws:s3:::bucket/")
    assert DataResource(S3, ("arn:aws:s3:::bucket/", "arn:aws:s3")).every
    assert not DataResource(S3, ("arn:aws:s3:::bucket/",)).every


# Errors


def test_every_refusal_has_awss_one_code() -> None:
    error = refused("Field a is not supported.")
    assert (error.code, error.message, error.status) == (
        "InvalidEventSelectorsException",
        "Field a is not supported.",
        400,
    )


def test_a_long_value_is_shown_by_its_beginning() -> None:
    assert shorten("a" * 200) == "a" * 200
    assert shorten("a" * 2048) == "a" * 200 + "…"
