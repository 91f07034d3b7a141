"""The CloudTrail API over HTTP: refusals, and the form of every answer."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import replace
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from hypothesis import HealthCheck, given, settings

from opentrail.api.cloudtrail.operation import REGISTER
from opentrail.api.cloudtrail.server import CloudTrailApi
from opentrail.capture.proxy.endpoint import SCOPE_KEY, ApiCall
from opentrail.core.errors import INTERNAL_FAILURE, StorageFailed
from opentrail.wire.service_models import ServiceCatalog
from tests.api.caller import TARGET, Answer, Api, send
from tests.api.inputs import OPERATIONS, invalid_inputs, minimal_input, valid_inputs
from tests.factories import ACCOUNT, REGION, an_identity, catalog
from tests.fakes import MemoryControl, asynchronous

MODEL = catalog().services["cloudtrail"].model


def own_call() -> dict[str, Any]:
    return {SCOPE_KEY: ApiCall("e", an_identity(), ACCOUNT, REGION, "192.0.2.10")}


# Targets


@pytest.mark.parametrize(
    "target",
    [
        "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.ListTrails",
        "CloudTrail_20131101.ListTrails",
    ],
)
@asynchronous
async def test_long_and_the_short_target_name_the_operation(target: str) -> None:
    assert await Api().ok("", target=target) == {"Trails": []}


# Replays


@asynchronous
async def test_a_replayed_call_is_refused() -> None:
    api = Api()
    missing = {"Name": "missing", "signature": "0" * 64}
    assert (await api.error("DeleteTrail", **missing))[0] == "TrailNotFoundException"
    api.world.clock.advance(1)
    assert (await api.error("DeleteTrail", **missing))[0] == "TrailNotFoundException"
    api.world.clock.advance(2)
    assert await api.error("DeleteTrail", **missing) == (
        "InvalidSignatureException",
        "This request was received before; sign it again.",
    )
    for _ in range(2):
        api.world.clock.advance(3)
        await api.ok("ListTrails", signature="1" * 64)


UNBUILT = sorted(set(OPERATIONS) - set(REGISTER))


@pytest.mark.parametrize("name", UNBUILT)
@asynchronous
async def test_unsupported_operation_is_named_with_its_missing_part(name: str) -> None:
    code, text = await Api().error(name, **minimal_input(name))
    assert code == "UnsupportedOperationException"
    assert text.startswith(f"opentrail does not support operation {name}: it has no ")
    assert text.endswith(" yet")


@pytest.mark.parametrize(
    "name", [name for name in UNBUILT if OPERATIONS[name].input_shape.required_members]
)
@asynchronous
async def test_the_input_of_an_unsupported_operation_is_checked(name: str) -> None:
    code, text = await Api().error(name)
    assert code == "ValidationException"
    for member in OPERATIONS[name].input_shape.required_members:
        assert f"'{member[:1].lower()}{member[1:]}'" in text


def test_most_operations_are_unsupported() -> None:
    assert len(MODEL.operation_names) >= 59


@pytest.mark.parametrize("name", ["NoSuchOperation", "listtrails", "ListTrails ", "__class__", "."])
@asynchronous
async def test_operation_that_aws_does_not_have_is_unknown(name: str) -> None:
    code, _ = await Api().error(name)
    assert code == "UnknownOperationException"


@asynchronous
async def test_a_request_without_a_target_has_no_action() -> None:
    api = Api()
    code, text = await api.error("", target="")
    assert code == "MissingActionException"
    assert "X-Amz-Target" in text


@asynchronous
async def test_put_audit_events_answers_at_its_path() -> None:
    api = Api()
    given = {"auditEvents": [{"id": "1", "eventData": "{}"}]}
    path = "/PutAuditEvents?channelArn=arn:aws:cloudtrail:us-east-1:123456789012:channel/c"
    answer = await send(api.app, "POST", path, {}, json.dumps(given).encode(), **own_call())
    assert answer.status == 400
    code, text = answer.error
    assert (code, "channel/c" in text) == ("ChannelNotFound", True)


@asynchronous
async def test_an_operation_of_a_newer_model_is_unsupported() -> None:
    newer = ServiceCatalog()
    service = newer.services["cloudtrail"]
    description = Loader().load_service_model("cloudtrail", "service-2")
    operation = {**description["operations"]["ListTrails"], "name": "PaintTrail"}
    operations = {**description["operations"], "PaintTrail": operation}
    model = ServiceModel({**description, "operations": operations}, "cloudtrail")
    service.__dict__["model"] = model
    app = CloudTrailApi(Api().services, newer, SCOPE_KEY).app
    answer = await send(app, "POST", "/", {"X-Amz-Target": TARGET + "PaintTrail"}, **own_call())
    assert answer.error == (
        "UnsupportedOperationException",
        "opentrail does not support operation PaintTrail yet",
    )


# Parameters


NESTED: dict[str, Any] = {
    "MaxEventSize": "Large",
    "ContextKeySelectors": [{"Type": "TagContext", "Equals": ["team"]}],
    "AggregationConfigurations": [{"Templates": ["USER_ACTIONS"], "EventCategory": "Data"}],
    "DeliveryS3Uri": "s3://my-bucket/results",
    "EventDataStoreOwnerAccountId": "210987654321",
    "QueryAlias": "my-alias",
    "QueryParameters": ["2026-01-01"],
    "RefreshId": "12345678901234567890",
}


def unsupported_parameters() -> list[tuple[str, str]]:
    return [(name, member) for name, op in REGISTER.items() for member in sorted(op.without)]


def a_value_for(name: str, member: str) -> Any:
    shape = MODEL.operation_model(name).input_shape.members[member]
    if member in NESTED:
        return NESTED[member]
    return {
        "string": "arn:aws:sns:us-east-1:123456789012:something",
        "boolean": True,
        "list": [{"Key": "k", "Value": "v"}],
        "integer": 1,
    }[shape.type_name]


@pytest.mark.parametrize(("name", "member"), unsupported_parameters())
@asynchronous
async def test_an_unsupported_parameter_is_named(name: str, member: str) -> None:
    api = Api()
    given = {
        "Name": "my-trail",
        "S3BucketName": "my-bucket",
        "InsightSelectors": [],
        "QueryId": "00000000-0000-4000-8000-000000000000",
        member: a_value_for(name, member),
    }
    if member == "AggregationConfigurations":  # of a trail, the others are of stores
        given["TrailName"] = "my-trail"
    if name == "UpdateEventDataStore":
        given["EventDataStore"] = given["QueryId"]
    code, text = await api.error(name, **given)
    assert code == "UnsupportedOperationException"
    assert f"{member} of {name}" in text
    assert (await api.ok("ListTrails"))["Trails"] == []


@asynchronous
async def test_an_unsupported_parameter_may_be_empty() -> None:
    api = Api()
    await api.ok(
        "CreateTrail",
        Name="my-trail",
        S3BucketName="my-bucket",
        IsOrganizationTrail=False,
        TagsList=[],
        SnsTopicName="",
        KmsKeyId=None,
    )


@pytest.mark.parametrize(
    "body",
    [b"{", b"nonsense", b"{'Name': 1}", b"\xff\xfe", b'{"a":NaN}', b"[" * 3_000, b'"\\ud800"'],
)
@asynchronous
async def test_an_invalid_json_body_is_a_serialization_error(body: bytes) -> None:
    code, _ = await Api().error("ListTrails", body=body)
    assert code == "SerializationException"


@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"true", b"null"])
@asynchronous
async def test_body_of_another_type_is_a_serialization_error(body: bytes) -> None:
    code, text = await Api().error("ListTrails", body=body)
    assert code == "SerializationException"
    assert "object" in text


@pytest.mark.parametrize("body", [b"", b"  \n", b"{}", b'{"NextToken":null}'])
@asynchronous
async def test_an_empty_body_has_no_parameters(body: bytes) -> None:
    assert await Api().ok("ListTrails", body=body) == {"Trails": []}


@pytest.mark.parametrize(
    ("operation", "given", "expected"),
    [
        ("GetTrail", {"Name": 5}, "SerializationException"),
        ("CreateTrail", {"Name": "my-trail", "S3BucketName": ["b"]}, "SerializationException"),
        (
            "CreateTrail",
            {"Name": "my-trail", "S3BucketName": "my-bucket", "IsMultiRegionTrail": "true"},
            "SerializationException",
        ),
        ("DescribeTrails", {"trailNameList": "my-trail"}, "SerializationException"),
        ("DescribeTrails", {"trailNameList": [None]}, "SerializationException"),
        ("LookupEvents", {"StartTime": "2020-01-01T00:00:00Z"}, "SerializationException"),
        ("GetTrail", {}, "ValidationException"),
        ("CreateTrail", {"Name": "my-trail"}, "ValidationException"),
        ("StartLogging", {"Name": None}, "ValidationException"),
    ],
)
@asynchronous
async def test_parameters_are_checked_against_the_model(
    operation: str, given: dict[str, Any], expected: str
) -> None:
    code, _ = await Api().error(operation, **given)
    assert code == expected


@asynchronous
async def test_a_missing_parameter_is_refused_with_awss_message() -> None:
    assert await Api().error("GetTrail") == (
        "ValidationException",
        "1 validation error detected: Value null at 'name' failed to satisfy constraint: "
        "Member must not be null",
    )


# Callers


@pytest.mark.parametrize("operation", ["ListTrails", "LookupEvents", "CreateTrail"])
@asynchronous
async def test_a_call_without_credentials_is_refused(operation: str) -> None:
    code, text = await Api().error(operation, anonymous=True)
    assert code == "MissingAuthenticationTokenException"
    assert text == "Missing Authentication Token"


@asynchronous
async def test_a_call_has_the_callers_account_and_region() -> None:
    api = Api()
    await api.ok("CreateTrail", Name="my-trail", S3BucketName="my-bucket", region="eu-west-1")
    assert len((await api.ok("ListTrails"))["Trails"]) == 1
    assert await api.ok("ListTrails", account="210987654321") == {"Trails": []}
    assert await api.ok("DescribeTrails") == {"trailList": []}
    assert len((await api.ok("DescribeTrails", region="eu-west-1"))["trailList"]) == 1


# Answers


@asynchronous
async def test_every_answer_has_json_and_request_id() -> None:
    api = Api()
    answers = [
        await api.call("ListTrails"),
        await api.call("ListTrails"),
        await api.call("GetTrail", Name="nothing"),
        await api.call("NoSuchOperation"),
        await api.call("AddTags"),
        await api.call("ListTrails", body=b"{"),
        await api.call("ListTrails", anonymous=True),
    ]
    ids = {answer.headers["x-amzn-requestid"] for answer in answers}
    assert len(ids) == len(answers)
    assert all(str(uuid.UUID(request_id)) == request_id for request_id in ids)
    assert {answer.headers["content-type"] for answer in answers} == {"application/x-amz-json-1.1"}
    assert [answer.status for answer in answers] == [200, 200, 400, 400, 400, 400, 400]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
@asynchronous
async def test_an_error_of_any_method_has_awss_form(method: str) -> None:
    answer = await send(Api().app, method, "/some/path", **own_call())
    code, _ = answer.error
    assert code
    assert "x-amzn-requestid" in answer.headers


@asynchronous
async def test_an_operation_may_have_any_path() -> None:
    headers = {"X-Amz-Target": TARGET + "ListTrails"}
    answer = await send(Api().app, "POST", "/some/path?x=y", headers, b"{}", **own_call())
    assert answer.json == {"Trails": []}


@asynchronous
async def test_non_ascii_text_is_returned_as_utf_8() -> None:
    code, text = await Api().error("GetTrail", Name="Zoë's trail")
    assert code == "InvalidTrailNameException"
    code, text = await Api().error("LookupEvents", LookupAttributes=[{"AttributeKey": "Zoë"}])
    assert "Zoë" in text


@asynchronous
async def test_a_failing_bucket_is_a_named_internal_failure() -> None:
    api = Api()
    api.world.objects.down = "SlowDown"
    answer = await api.call("CreateTrail", Name="my-trail", S3BucketName="my-bucket")
    assert answer.status == 500
    code, text = answer.error
    assert code == "InternalFailure"
    assert "SlowDown" in text
    assert await api.ok("ListTrails") == {"Trails": []}


@asynchronous
async def test_a_failing_state_store_is_an_internal_failure() -> None:
    class Failing(MemoryControl):
        async def scan(self, kind: str, prefix: str = "") -> Any:
            raise StorageFailed("state store failed: disk full")

    api = Api()
    api.world.control.__class__ = Failing
    answer = await api.call("ListTrails")
    assert answer.status == 500
    assert answer.error == ("InternalFailure", INTERNAL_FAILURE)


@asynchronous
async def test_an_error_has_only_code_and_text() -> None:
    answer = await Api().call("GetTrail", Name="nothing")
    assert json.loads(answer.body) == {
        "__type": "TrailNotFoundException",
        "Message": (
            f"Unknown trail: arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/nothing "
            f"for the user: {ACCOUNT}"
        ),
    }


# Every operation of the models


def parsed(name: str, answer: Answer) -> dict[str, Any]:
    """Returns botocore's reading of an answer."""
    protocol = "rest-json" if name == "PutAuditEvents" else "json"
    response = {"status_code": answer.status, "headers": answer.headers, "body": answer.body}
    found: dict[str, Any] = create_parser(protocol).parse(response, OPERATIONS[name].output_shape)
    return found


@pytest.mark.slow
@pytest.mark.hypothesis
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_any_valid_input_gets_awss_form(name: str) -> None:
    api = Api()

    with asyncio.Runner() as runner:

        @settings(max_examples=30, suppress_health_check=list(HealthCheck))
        @given(given=valid_inputs(name))
        def check(given: dict[str, Any]) -> None:
            answer = runner.run(api.call(name, **given))
            assert answer.status in (200, 400), answer.body
            found = parsed(name, answer)
            if answer.status == 200:
                assert "Error" not in found
            else:
                assert found["Error"]["Code"] == answer.error[0]
                assert found["Error"]["Message"] == answer.error[1]
                assert found["Error"]["Code"] not in ("ValidationException", "InternalFailure")

        check()


@pytest.mark.slow
@pytest.mark.hypothesis
@pytest.mark.parametrize(
    "name", sorted(name for name, model in OPERATIONS.items() if model.input_shape.members)
)
def test_any_invalid_input_is_refused_by_member(name: str) -> None:
    api = Api()

    with asyncio.Runner() as runner:

        @settings(max_examples=30, suppress_health_check=list(HealthCheck))
        @given(drawn=invalid_inputs(name))
        def check(drawn: tuple[dict[str, Any], str]) -> None:
            given, member = drawn
            answer = runner.run(api.call(name, **given))
            assert answer.status == 400, answer.body
            assert parsed(name, answer)["Error"]["Code"] == answer.error[0]
            assert member.lower() in answer.error[1].lower()

        check()


@asynchronous
async def test_server_without_event_history_answers_for_trails_and_stores() -> None:
    api = Api()
    recorder = replace(api.services, kept_history=None, queries=None)
    api.app = CloudTrailApi(recorder, catalog(), SCOPE_KEY).app
    assert (await api.call("ListTrails")).json == {"Trails": []}
    made = await api.call("CreateEventDataStore", Name="everything")
    assert made.status == 200
    (refused,) = [await api.call("StartQuery", QueryStatement="SELECT 1 FROM event_history")]
    assert (refused.status, refused.json["__type"]) == (400, "OperationNotPermittedException")
