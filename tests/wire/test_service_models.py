"""The light index of botocore's models, against the whole models."""

import json
import zlib
from dataclasses import astuple
from pathlib import Path

import botocore
import pytest
from botocore.loaders import Loader

from opentrail.wire.service_models import Service
from tests.factories import catalog

ALL = sorted(catalog().services)
#: The most important services, and every tenth of the others.
SAMPLE = sorted({"s3", "iam", "sts", "sqs", "dynamodb", "ec2", "kms", "lambda", *ALL[::13]})


def test_the_index_holds_every_service_of_botocore() -> None:
    assert sorted(Loader().list_available_services("service-2")) == ALL
    assert len(ALL) > 400
    assert len(SAMPLE) >= 40


@pytest.mark.parametrize("name", SAMPLE)
@pytest.mark.slow
def test_the_index_matches_the_whole_model(name: str) -> None:
    service = catalog().services[name]
    metadata = Loader().load_service_model(name, "service-2")["metadata"]
    expected = Service(
        name=name,
        api_version=metadata["apiVersion"],
        endpoint_prefix=metadata["endpointPrefix"],
        signing_name=metadata.get("signingName", metadata["endpointPrefix"]),
        protocols=tuple(metadata.get("protocols") or [metadata["protocol"]]),
        target_prefix=metadata.get("targetPrefix"),
        service_id=metadata["serviceId"],
        bearer=metadata.get("signatureVersion") == "bearer"
        or "smithy.api#httpBearerAuth" in metadata.get("auth", []),
    )
    assert astuple(service) == astuple(expected)
    assert service.model.metadata == metadata


def test_every_model_file_begins_as_expected() -> None:
    """The newest model of a service is botocore's own choice."""
    root = Path(botocore.__file__).parent / "data"
    for name, service in catalog().services.items():
        newest = Loader().determine_latest_version(name, "service-2")
        raw = (root / name / newest / "service-2.json.gz").read_bytes()
        head = zlib.decompressobj(31).decompress(raw, 20_000).decode(errors="ignore")
        assert f'"{service.api_version}"' in head
        assert service.api_version_folder == newest


def test_operation_is_found_by_its_name_or_not() -> None:
    iam = catalog().services["iam"]
    found = iam.operation("CreateUser")
    assert found is not None
    assert found.name == "CreateUser"
    assert iam.operation("createUser") is None
    assert iam.operation("") is None


def test_error_code_on_the_wire_finds_its_shape() -> None:
    shape = catalog().services["iam"].error_shape("NoSuchEntity")
    assert shape is not None
    assert shape.name == "NoSuchEntityException"
    assert catalog().services["iam"].error_shape("NoSuchCode") is None


def test_marks_in_requests_identify_services() -> None:
    known = catalog()
    assert {s.name for s in known.signed_as("rds")} == {"docdb", "neptune", "rds"}
    assert [s.name for s in known.targeted("DynamoDB_20120810")] == ["dynamodb"]
    assert [s.name for s in known.of_version("2010-05-08")] == ["iam"]
    assert [s.name for s in known.signed_as("monitoring")] == ["cloudwatch"]


def test_the_query_version_of_sqs_is_known() -> None:
    assert "sqs" in [s.name for s in catalog().of_version("2012-11-05")]


def test_an_unknown_mark_finds_nothing() -> None:
    known = catalog()
    assert known.signed_as("nobody") == []
    assert known.targeted("Nothing_1") == []
    assert known.of_version("1999-01-01") == []


def test_the_whole_model_matches_the_file() -> None:
    sts = catalog().services["sts"]
    file = (
        Path(botocore.__file__).parent / "data/sts" / sts.api_version_folder / "service-2.json.gz"
    )
    whole = json.loads(zlib.decompress(file.read_bytes(), 31))
    assert sorted(sts.model.operation_names) == sorted(whole["operations"])
