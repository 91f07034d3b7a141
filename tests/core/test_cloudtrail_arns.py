"""ARNs of CloudTrail's resources are read, and written in one form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.arns import TYPES, CloudTrailArn, read_cloudtrail_arn

TRAIL = "arn:aws:cloudtrail:us-east-1:123456789012:trail/my-trail"


def test_the_parts_of_an_arn_are_read() -> None:
    assert read_cloudtrail_arn(TRAIL) == CloudTrailArn(
        "trail", "us-east-1", "123456789012", "my-trail"
    )


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_one_resource_has_one_arn_in_every_partition(partition: str) -> None:
    read = read_cloudtrail_arn(TRAIL.replace("arn:aws:", f"arn:{partition}:"))
    assert str(read) == TRAIL


@pytest.mark.parametrize(
    "text",
    [
        "my-trail",
        "",
        "arn:aws:s3:::my-bucket",
        "arn:aws:cloudtrail:us-east-1:123456789012:trail/",
        "arn:aws:cloudtrail:us-east-1:123456789012:trail",
        "arn:aws:cloudtrail:us-east-1:12345678901:trail/my-trail",
        "arn:aws:cloudtrail:us-east-1:\u0661\u0662\u0663456789012:trail/my-trail",
        f"{TRAIL}\n",
        f" {TRAIL}",
        TRAIL.upper(),
    ],
)
def test_other_strings_are_not_arns_of_resources(text: str) -> None:
    assert read_cloudtrail_arn(text) is None


@pytest.mark.hypothesis
@given(
    st.sampled_from(TYPES),
    st.from_regex("[a-z0-9-]{1,12}", fullmatch=True),
    st.from_regex("[0-9]{12}", fullmatch=True),
    st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1),
)
def test_written_values_are_read_again(kind: str, region: str, account: str, name: str) -> None:
    arn = CloudTrailArn(kind, region, account, name)
    assert read_cloudtrail_arn(str(arn)) == arn


@pytest.mark.hypothesis
@given(st.text() | st.from_regex(r"arn:aws:cloudtrail:[a-z]+:[0-9]{12}:.*"))
def test_any_text_is_an_arn_or_refused(text: str) -> None:
    read = read_cloudtrail_arn(text)
    assert read is None or read_cloudtrail_arn(str(read)) == read
