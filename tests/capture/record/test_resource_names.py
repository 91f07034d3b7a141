"""One resource has one name, however a request spells it: in record, search and selector."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.capture.proxy.refusals import NoAnswer
from opentrail.capture.record.assemble import Assembler
from opentrail.core.attributes import attributes_of
from opentrail.core.event_record import EventRecord
from opentrail.core.identity import unknown
from opentrail.core.selectors import SelectorOwner, predicate_of, read_selection
from opentrail.wire.message import Request
from tests.capture.proxy.test_call import signed, transcript
from tests.factories import ACCOUNT, a_json_request, a_request, an_exchange

OBJECT, BUCKET = "arn:aws:s3:::evidence/a/b", "arn:aws:s3:::evidence"
FUNCTION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:audit"
FOREIGN = "arn:aws:lambda:eu-west-1:210987654321:function:audit"
QUEUE = f"arn:aws:sqs:us-east-1:{ACCOUNT}:jobs"
TABLE = f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/Music"
STREAM = f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/clicks"


def recorded(request: Request) -> dict[str, Any]:
    made = Assembler(lambda key: unknown(ACCOUNT, key)).assemble(an_exchange(request))
    record: dict[str, Any] = json.loads(made.entry.record)
    return record


def is_selected(record: dict[str, Any], resource_type: str, arn: str) -> bool:
    """Returns whether a trail on this resource delivers a record."""
    selector = {
        "IncludeManagementEvents": False,
        "DataResources": [{"Type": resource_type, "Values": [arn]}],
    }
    selection = read_selection({"EventSelectors": [selector]}, SelectorOwner.TRAIL)
    fields = EventRecord(json.dumps(record).encode()).fields
    return predicate_of(selection).matches(record["eventCategory"], fields)


def s3(path: str, host: str = "127.0.0.1:4747", method: str = "PUT") -> Request:
    return a_request("s3", method, path, headers={"host": host})


SPELLINGS = [
    ("/evidence/a/b", "127.0.0.1:4747"),
    ("//evidence/a/b", "127.0.0.1:4747"),
    ("///evidence/a/b", "127.0.0.1"),
    ("/%2Fevidence/a/b", "127.0.0.1"),
    ("/%2f%2Fevidence/a/b", "127.0.0.1"),
    ("/evidence%2Fa/b", "localhost"),
    ("/evidence%2fa%2Fb", "localhost"),
    ("/%65vidence/a/b", "localhost"),
    ("/evidence/%61/b", "localhost."),
    ("/evidence/a%2Fb", "LOCALHOST:4747"),
    ("/a/b", "evidence.localhost"),
    ("/a/b", "EVIDENCE.localhost:4747"),
    ("/a/b", "Evidence.LocalHost.:4747"),
    ("/a/b", "evidence.s3.amazonaws.com"),
    ("/a/b", "EVIDENCE.s3.amazonaws.com:443"),
    ("/a/b", "evidence.S3.eu-west-1.AMAZONAWS.com."),
    ("/a/b", "eVidence.s3.localhost"),
    ("/a%2Fb", "EVIDENCE.127.0.0.1:4747"),
]


@pytest.mark.parametrize(("path", "host"), SPELLINGS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_object_has_one_name(path: str, host: str, method: str) -> None:
    record = recorded(s3(path, host, method))
    assert record["eventName"] == {"GET": "GetObject", "PUT": "PutObject"}.get(
        method, "DeleteObject"
    )
    parameters = record["requestParameters"]
    assert (parameters["bucketName"], parameters["key"]) == ("evidence", "a/b")
    assert {each["ARN"] for each in record["resources"]} == {OBJECT, BUCKET}
    names = {resource.name for resource in attributes_of(record).resources}
    assert {"evidence", OBJECT, BUCKET} <= names
    assert is_selected(record, "AWS::S3::Object", f"{BUCKET}/")
    assert not is_selected(record, "AWS::S3::Object", "arn:aws:s3:::other/")


@pytest.mark.parametrize(
    ("path", "host", "key"),
    [
        ("/evidence//a", "localhost", "/a"),
        ("/evidence/a//b", "localhost", "a//b"),
        ("//a", "evidence.localhost", "/a"),
        ("/evidence/./a", "localhost", "./a"),
        ("/evidence/a/../b", "localhost", "a/../b"),
        ("/evidence/A", "localhost", "A"),
    ],
)
def test_key_stays_as_sent(path: str, host: str, key: str) -> None:
    parameters = recorded(s3(path, host))["requestParameters"]
    assert (parameters["bucketName"], parameters["key"]) == ("evidence", key)


@pytest.mark.parametrize("path", ["/", "//", "/%2F", "///"])
def test_slashes_without_a_name_are_no_bucket(path: str) -> None:
    assert recorded(s3(path, method="GET"))["eventName"] == "ListBuckets"


NAMED = [
    *(
        (a_request("lambda", "POST", f"{before}{name}/invocations"), "AWS::Lambda::Function", arn)
        for before in ("/2015-03-31/functions/", "//2015-03-31//functions/")
        for name, arn in (
            ("audit", FUNCTION),
            ("audit:live", FUNCTION),
            ("audit%3Alive", FUNCTION),
            (f"{ACCOUNT}:function:audit", FUNCTION),
            (f"{ACCOUNT}:audit", FUNCTION),
            ("function:audit", FUNCTION),
            ("function:audit:7", FUNCTION),
            (f"{ACCOUNT}:function:audit:live", FUNCTION),
            (f"us-east-1:{ACCOUNT}:function:audit", FUNCTION),
            (FUNCTION, FUNCTION),
            (FUNCTION.replace(":", "%3A"), FUNCTION),
            (f"{FUNCTION}:$LATEST", FUNCTION),
            (f"{FOREIGN}:1", FOREIGN),
        )
    ),
    *(
        (
            a_json_request("sqs", "AmazonSQS.SendMessage", {"QueueUrl": url}),
            "AWS::SQS::Queue",
            QUEUE,
        )
        for url in (
            f"http://127.0.0.1:4747/{ACCOUNT}/jobs",
            f"http://127.0.0.1:4747/{ACCOUNT}/jobs/",
            f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/jobs",
            f"https://SQS.us-east-1.amazonaws.com./{ACCOUNT}/jobs",
            f"http://localhost//{ACCOUNT}//jobs",
            f"http://localhost/queue/us-east-1/{ACCOUNT}/jobs",
            "jobs",
        )
    ),
    *(
        (
            a_json_request("dynamodb", "DynamoDB_20120810.GetItem", {"TableName": name}),
            "AWS::DynamoDB::Table",
            TABLE,
        )
        for name in ("Music", TABLE)
    ),
    *(
        (
            a_json_request("kinesis", "Kinesis_20131202.PutRecord", given),
            "AWS::Kinesis::Stream",
            STREAM,
        )
        for given in ({"StreamName": "clicks"}, {"StreamARN": STREAM})
    ),
]


@pytest.mark.parametrize(("request_", "resource_type", "arn"), NAMED)
def test_data_event_has_one_arn(request_: Request, resource_type: str, arn: str) -> None:
    record = recorded(request_)
    assert [each["ARN"] for each in record["resources"]] == [arn]
    assert record["resources"][0]["type"] == resource_type
    assert arn in {resource.name for resource in attributes_of(record).resources}
    if resource_type in ("AWS::Lambda::Function", "AWS::DynamoDB::Table"):  # basic selectors
        assert is_selected(record, resource_type, arn)


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/./evidence/a", "localhost"),
        ("/other/../evidence/a", "localhost"),
        ("/other/%2e%2E/evidence/a", "localhost"),
        ("/other/..%2Fevidence/a", "localhost"),
        ("/other/a/../../evidence/a", "localhost"),
        ("/..//evidence/a", "localhost"),
        ("/../other/a", "evidence.localhost"),
        ("/a/../../other", "evidence.localhost"),
    ],
)
def test_path_that_leaves_the_bucket_is_refused(target: str, host: str) -> None:
    call = transcript(b"GET", target.encode(), signed("s3", host=host.encode()))
    with pytest.raises(NoAnswer) as refused:
        call.refuse_ambiguous()
    assert (refused.value.refusal.status, refused.value.refusal.code) == (400, "InvalidURI")


@pytest.mark.parametrize("target", ["/clusters/a/../b", "/clusters/./b", "/x/%2e%2e/clusters/b"])
def test_dots_in_other_paths_are_refused(target: str) -> None:
    with pytest.raises(NoAnswer):
        transcript(b"GET", target.encode(), signed("eks")).refuse_ambiguous()


@pytest.mark.parametrize(
    "target", ["/evidence/a/../b", "/evidence/.a", "/evidence/...", "/a.b/c.."]
)
def test_dots_in_a_key_pass(target: str) -> None:
    transcript(b"GET", target.encode(), signed("s3", host=b"localhost")).refuse_ambiguous()
