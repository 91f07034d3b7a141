"""The parts of ARNs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.arns import ARN_TYPES, NAMESPACES, parse_arn, without_session


@pytest.mark.parametrize(
    ("text", "kind", "name", "account"),
    [
        ("arn:aws:iam::123456789012:user/Mary", "AWS::IAM::User", "Mary", "123456789012"),
        ("arn:aws:iam::123456789012:role/a/b/R", "AWS::IAM::Role", "R", "123456789012"),
        ("arn:aws:sqs:us-east-1:1:jobs", "AWS::SQS::Queue", "jobs", "1"),
        ("arn:aws:sns:us-east-1:1:news", "AWS::SNS::Topic", "news", "1"),
        ("arn:aws:s3:::logs", "AWS::S3::Bucket", "logs", ""),
        ("arn:aws:s3:::logs/in/a.csv", "AWS::S3::Object", "in/a.csv", ""),
        ("arn:aws:lambda:us-east-1:1:function:f", "AWS::Lambda::Function", "f", "1"),
        ("arn:aws:ssm:us-east-1:1:parameter/a/b", "AWS::SSM::Parameter", "/a/b", "1"),
        ("arn:aws:ssm:us-east-1:1:parameter/a", "AWS::SSM::Parameter", "a", "1"),
        ("arn:aws:logs:us-east-1:1:log-group:/aws/x:*", "AWS::Logs::LogGroup", "/aws/x", "1"),
        ("arn:aws-cn:ec2:cn-north-1:1:instance/i-1", "AWS::EC2::Instance", "i-1", "1"),
        ("arn:aws:kms:us-east-1:1:key/1234", "AWS::KMS::Key", "1234", "1"),
        ("arn:aws:new:us-east-1:1:thing/x", None, "x", "1"),
        ("arn:aws:new:us-east-1:1:thing/", None, "thing/", "1"),
    ],
)
def test_an_arn_has_type_name_and_account(
    text: str, kind: str | None, name: str, account: str
) -> None:
    arn = parse_arn(text)
    assert arn is not None
    assert (arn.type, arn.name, arn.account) == (kind, name, account)


@pytest.mark.parametrize("text", ["", "Mary", "arn:", "arn:aws", "arn:aws:s3::", "arn:aws:s3:::"])
def test_other_strings_are_no_arns(text: str) -> None:
    assert parse_arn(text) is None


def test_types_are_names_of_cloudformation() -> None:
    for kinds in ARN_TYPES.values():
        for kind in kinds.values():
            assert kind.startswith("AWS::")
            assert len(kind.split("::")) == 3
    for word in NAMESPACES.values():
        assert word.isalnum()


@pytest.mark.hypothesis
@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    for given_text in (text, f"arn:{text}", f"arn:aws:s3:::{text}", f"arn:aws:iam::1:{text}"):
        arn = parse_arn(given_text)
        assert arn is None or arn.name


@pytest.mark.parametrize(
    ("arn", "expected"),
    [
        ("arn:aws:sts::1:assumed-role/Deploy/a@b.c", "arn:aws:sts::1:assumed-role/Deploy"),
        ("arn:aws-cn:sts::1:assumed-role/Deploy/a/b", "arn:aws-cn:sts::1:assumed-role/Deploy"),
        ("arn:aws:sts::1:assumed-role/Deploy", "arn:aws:sts::1:assumed-role/Deploy"),
        ("arn:aws:sts::1:federated-user/Mary", "arn:aws:sts::1:federated-user/Mary"),
        ("arn:aws:iam::1:role/a/b", "arn:aws:iam::1:role/a/b"),
        ("", ""),
    ],
)
def test_only_role_session_arns_lose_a_part(arn: str, expected: str) -> None:
    assert without_session(arn) == expected
