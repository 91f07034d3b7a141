"""The tables of resource types, against AWS's models."""

from functools import cache
from typing import Any

import pytest

from opentrail.core.arns import ARN_TYPES
from opentrail.core.resource_types import RESOURCE_MEMBERS, SPOKEN
from tests.factories import catalog

#: Event source without domain → its services, where the names differ.
SERVICES = {"elasticloadbalancing": ("elb", "elbv2")}
#: Members of records outside botocore's models, and the reason.
NOT_IN_THE_MODEL = {
    ("s3", "bucketName"): "S3's hand-made form (cloudtrail-format §4.3)",
}


def lowered(name: str) -> str:
    return name[:1].lower() + name[1:]


@cache
def members_of(service: str) -> frozenset[str]:
    """Returns every member of the service's structures, in the records' spelling."""
    model = catalog().services[service].model
    found: set[str] = set()
    for name in model.shape_names:
        shape: Any = model.shape_for(name)
        if shape.type_name == "structure":
            found.update(lowered(member) for member in shape.members)
    return frozenset(found)


@pytest.mark.parametrize(
    ("source", "member"),
    [
        (source, member)
        for source, table in RESOURCE_MEMBERS.items()
        for member in table
        if (source, member) not in NOT_IN_THE_MODEL
    ],
)
def test_a_members_resource_exists_in_the_service(source: str, member: str) -> None:
    services = SERVICES.get(source, (source,))
    assert any(member in members_of(service) for service in services)


def test_types_are_names_of_cloudformation() -> None:
    kinds = {kind for table in RESOURCE_MEMBERS.values() for kind in table.values()} | set(SPOKEN)
    for kind in kinds:
        parts = kind.split("::")
        assert len(parts) == 3
        assert parts[0] == "AWS"
        assert all(part.isalnum() for part in parts)


def test_every_mentioned_type_has_a_member_or_arn() -> None:
    named = {kind for table in RESOURCE_MEMBERS.values() for kind in table.values()}
    named |= {kind for kinds in ARN_TYPES.values() for kind in kinds.values()}
    assert set(SPOKEN) <= named


def test_spoken_names_fit_into_a_sentence() -> None:
    for words in SPOKEN.values():
        assert words == words.strip()
        assert words
        assert "::" not in words


def test_the_tables_cannot_be_changed_by_accident() -> None:
    with pytest.raises(TypeError):
        SPOKEN["AWS::New::Thing"] = "thing"  # type: ignore[index]
    with pytest.raises(TypeError):
        RESOURCE_MEMBERS["new"] = {}  # type: ignore[index]


def test_the_members_that_aws_documents_name_their_types() -> None:
    """A sample of cloudtrail-format §6."""
    assert RESOURCE_MEMBERS["iam"]["userName"] == "AWS::IAM::User"
    assert RESOURCE_MEMBERS["ec2"]["instanceId"] == "AWS::EC2::Instance"
    assert RESOURCE_MEMBERS["kms"]["aliasName"] == "AWS::KMS::Alias"
    assert RESOURCE_MEMBERS["cloudtrail"]["s3BucketName"] == "AWS::S3::Bucket"
    assert RESOURCE_MEMBERS["rds"]["dBInstanceIdentifier"] == "AWS::RDS::DBInstance"
    assert RESOURCE_MEMBERS["ssm"]["name"] == "AWS::SSM::Parameter"
