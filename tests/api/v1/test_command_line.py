"""The console port: health and metrics for everybody, all else for bearers of the token."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.api.caller import Answer, Api, send
from tests.factories import (
    ACCOUNT,
    MOMENT,
    REGION,
    a_data_record,
    a_record,
    an_iam_user,
    event_id,
    some_records,
)
from tests.fakes import asynchronous
from tests.trails.world import BUCKET

EVENTS, WHO, FLUSH = "/api/v1/events", "/api/v1/who", "/api/v1/trails/flush"
DIGESTS = "/api/v1/trails/digests"


async def filled(*records: dict[str, Any]) -> Api:
    api = Api()
    api.world.clock.advance(3_600)
    await api.record(list(records))
    return api


def ids(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [event["EventId"] for event in answer.json["events"]]


# Health, metrics, token


@pytest.mark.parametrize(("state", "status"), [("ok", 200), ("failing", 503)])
@asynchronous
async def test_health_needs_no_token_and_its_status_shows_failure(state: str, status: int) -> None:
    api = Api()
    api.health = {"status": state, "journal": {"position": 5}}
    answer = await api.ask("/health", token=None)
    assert answer.status == status
    assert answer.json == api.health
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/health", "/metrics"])
@asynchronous
async def test_what_needs_no_token_is_not_for_pages_of_other_sites(path: str) -> None:
    api = Api()
    for host in ("localhost:4748", "LOCALHOST", "127.0.0.1:4748", "[::1]:4748", "opentrail:4748"):
        assert (await send(api.console, "GET", path, {"Host": host})).status == 200
    for host in ("evil.example:4748", "127.0.0.1.evil.example", "localhost.evil.example."):
        answer = await send(api.console, "GET", path, {"Host": host})
        assert answer.status == 421
        assert answer.json["code"] == "UnknownHost"


@asynchronous
async def test_metrics_are_prometheus_text_and_need_no_token() -> None:
    api = await filled(a_record())
    answer = await api.ask("/metrics", token=None)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "opentrail_history_position 1.0" in answer.body.decode().splitlines()


@pytest.mark.parametrize("path", [EVENTS, WHO, FLUSH])
@pytest.mark.parametrize("token", [None, "", "wrong", "the-toke", "the-token2", "THE-TOKEN", "ö"])
@asynchronous
async def test_everything_else_needs_the_token(path: str, token: str | None) -> None:
    api = await filled(a_record())
    answer = await api.ask(path, token, "POST" if path == FLUSH else "GET", resource="Mary")
    assert answer.status == 401
    assert set(answer.json) == {"error", "code", "requestId"}
    assert "Mary" not in answer.body.decode()


@asynchronous
async def test_what_is_not_there_is_not_found_and_get_never_writes() -> None:
    api = Api()
    assert (await api.ask("/api/v1/nothing")).status == 404
    assert (await api.ask("/")).status == 404
    assert (await api.ask(FLUSH)).status == 405
    assert (await api.ask(EVENTS, method="POST")).status == 405


@asynchronous
async def test_answers_are_not_to_be_stored_or_guessed_at() -> None:
    api = await filled(a_record())
    for answer in (
        await api.ask("/health", token=None),
        await api.ask("/metrics", token=None),
        await api.ask(EVENTS),
        await api.ask(EVENTS, token="wrong"),
        await api.ask(WHO, resource="Mary"),
    ):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


# Events


@asynchronous
async def test_events_are_shown_newest_first_with_their_records() -> None:
    records = some_records(60)
    api = await filled(*records)
    answer = await api.ask(EVENTS)
    assert ids(answer) == [event_id(number) for number in range(60, 10, -1)]
    assert json.loads(answer.json["events"][0]["CloudTrailEvent"]) == records[-1]
    assert len(ids(await api.ask(EVENTS, limit="3"))) == 3
    assert len(ids(await api.ask(EVENTS, limit="10000"))) == 60


@asynchronous
async def test_events_are_of_every_account_and_region_unless_one_is_given() -> None:
    api = await filled(
        a_record(eventID="mine"),
        a_record(eventID="theirs", recipientAccountId="210987654321"),
        a_record(eventID="there", awsRegion="eu-west-1"),
        a_data_record(eventID="data"),
    )
    assert sorted(ids(await api.ask(EVENTS))) == ["mine", "theirs", "there"]
    assert ids(await api.ask(EVENTS, account=ACCOUNT, region=REGION)) == ["mine"]
    assert ids(await api.ask(EVENTS, account="210987654321")) == ["theirs"]
    assert ids(await api.ask(EVENTS, region="eu-west-1")) == ["there"]
    assert sorted(ids(await api.ask(EVENTS, categories="all"))) == [
        *("data", "mine", "theirs", "there"),
    ]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("EventName=DeleteUser", [2]),
        (f"EventId={event_id(3)}", [3]),
        ('Username="a=b"', [4]),
        ("name=Delete* OR user=a*", [4, 2]),
        ("NOT name=Delete* last 24h", [4, 3, 1]),
        ("requestParameters.userName=Mary", [4, 3, 2, 1]),
        ("ReadOnly=true", []),
        ("ReadOnly=false", [4, 3, 2, 1]),
    ],
)
@asynchronous
async def test_events_are_found_by_an_expression(expression: str, expected: list[int]) -> None:
    records = some_records(4)
    records[1]["eventName"] = "DeleteUser"
    records[3]["userIdentity"] = an_iam_user("a=b")
    api = await filled(*records)
    found = await api.ask(EVENTS, expression=expression)
    assert ids(found) == [event_id(number) for number in expected]


@asynchronous
async def test_events_are_found_by_time() -> None:
    api = await filled(*some_records(6))

    async def found(**times: str) -> list[int]:
        answer = await api.ask(EVENTS, **times)
        return [number for number in range(6, 0, -1) if event_id(number) in ids(answer)]

    assert await found(since="2020-01-01T09:00:05Z") == [6, 5]
    assert await found(until="2020-01-01T09:00:02Z") == [2, 1]
    assert await found(since="2020-01-01T10:00:03+01:00", until="2020-01-01T09:00:04") == [4, 3]
    assert await found(since="2020-01-01") == [6, 5, 4, 3, 2, 1]
    assert await found(since="2020-01-02") == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"limit": "0"}, "InvalidMaxResultsException"),
        ({"limit": "10001"}, "InvalidMaxResultsException"),
        ({"limit": "-1"}, "InvalidMaxResultsException"),
        ({"limit": "many"}, "InvalidMaxResultsException"),
        ({"limit": "1.5"}, "InvalidMaxResultsException"),
        ({"limit": ""}, "InvalidMaxResultsException"),
        ({"limit": "²"}, "InvalidMaxResultsException"),
        ({"expression": "evntname=DeleteUser"}, "InvalidParameterException"),
        ({"expression": "(user=x"}, "InvalidParameterException"),
        ({"expression": "=x"}, "InvalidParameterException"),
        ({"since": "yesterday"}, "InvalidTimeRangeException"),
        ({"until": "2020-13-01"}, "InvalidTimeRangeException"),
        ({"since": "2020-01-01T25:00:00Z"}, "InvalidTimeRangeException"),
    ],
)
@asynchronous
async def test_a_question_that_does_not_fit_is_refused_with_its_reason(
    query: dict[str, str], code: str
) -> None:
    api = await filled(*some_records(2))
    answer = await api.ask(EVENTS, **query)
    assert answer.status == 400
    assert answer.json["code"] == code
    assert answer.json["error"]


# Who


@asynchronous
async def test_who_answers_in_a_sentence_with_the_evidence() -> None:
    record = a_record(eventID="the-id")
    api = await filled(record, *some_records(3, eventName="GetUser", responseElements=None))
    answer = await api.ask(WHO, resource="Mary")
    assert answer.status == 200
    said = answer.json
    assert "John" in said["sentence"]
    assert "Mary" in said["sentence"]
    assert "January 1, 2020" in said["sentence"]
    assert said["evidence"] == {
        "eventId": "the-id",
        "eventTime": "2020-01-01T09:00:00Z",
        "eventName": "CreateUser",
        "sourceIPAddress": record["sourceIPAddress"],
        "userAgent": record["userAgent"],
        "accessKeyId": record["userIdentity"]["accessKeyId"],
        "principal": record["userIdentity"]["arn"],
    }
    assert said["events"] == 4
    assert json.loads(said["record"]) == record


@asynchronous
async def test_who_finds_a_resource_by_its_arn_too() -> None:
    api = await filled(a_record(eventID="the-id"))
    answer = await api.ask(WHO, resource=f"arn:aws:iam::{ACCOUNT}:user/Mary")
    assert answer.json["evidence"]["eventId"] == "the-id"


@asynchronous
async def test_who_passes_over_calls_that_were_refused_or_only_read() -> None:
    refused = a_record(eventID="refused", errorCode="EntityAlreadyExists", responseElements=None)
    read = a_record(eventID="read", eventName="GetUser", readOnly=True, responseElements=None)
    api = await filled(a_record(eventID="made"), refused, read)
    assert (await api.ask(WHO, resource="Mary")).json["evidence"]["eventId"] == "made"
    api = await filled(refused, read)
    said = (await api.ask(WHO, resource="Mary")).json
    assert said["sentence"] is None
    assert said["events"] == 2
    assert [event["EventId"] for event in said["first"]] == ["refused"]


@asynchronous
async def test_who_describes_the_latest_creation() -> None:
    api = await filled(
        a_record(eventID="first"),
        a_record(eventID="deleted", eventTime="2020-01-01T09:01:00Z", eventName="DeleteUser"),
        a_record(
            eventID="second",
            eventTime="2020-01-01T09:02:00Z",
            userIdentity=an_iam_user("Jane"),
        ),
    )
    said = (await api.ask(WHO, resource="Mary")).json
    assert said["evidence"]["eventId"] == "second"
    assert "Jane" in said["sentence"]


@asynchronous
async def test_who_knows_nothing_of_what_no_event_names() -> None:
    api = await filled(a_record())
    said = (await api.ask(WHO, resource="Nobody")).json
    assert said == {
        "sentence": None,
        "events": 0,
        "resource": "Nobody",
        "answers": [],
        "first": [],
        "missing": [],
    }


@asynchronous
async def test_who_may_be_narrowed_to_a_type() -> None:
    api = await filled(a_record())
    assert (await api.ask(WHO, resource="Mary", type="user")).json["sentence"]
    assert not (await api.ask(WHO, resource="Mary", type="role")).json["sentence"]


@asynchronous
async def test_who_may_be_narrowed_to_an_account() -> None:
    api = await filled(a_record(eventID="mine"))
    assert (await api.ask(WHO, resource="Mary", account=ACCOUNT)).json["sentence"]
    assert not (await api.ask(WHO, resource="Mary", account="210987654321")).json["sentence"]


@asynchronous
async def test_who_needs_a_resource() -> None:
    answer = await (await filled()).ask(WHO)
    assert answer.status == 400
    assert "resource" in answer.json["error"]


# Flush


async def logging_trail() -> Api:
    api = await filled()
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET, EnableLogFileValidation=True)
    await api.ok("StartLogging", Name="my-trail")
    return api


def asked(**body: Any) -> bytes:
    return json.dumps(body).encode()


@asynchronous
async def test_a_flush_delivers_and_signs_and_returns_what_it_wrote() -> None:
    api = await logging_trail()
    arn = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/my-trail"
    answer = await api.post(FLUSH, asked(name="my-trail"))
    assert answer.status == 200
    assert answer.json["trail"] == arn
    delivered = await api.world.verified()
    assert answer.json["logFiles"] == [log.key for log in delivered.logs]
    assert answer.json["digestFiles"] == [digest.key for digest in delivered.digests]
    assert len(delivered.logs) == len(delivered.digests) == 1
    api.world.clock.advance(1)
    assert (await api.post(FLUSH, asked(name=arn))).json["logFiles"] == []
    await api.world.deliveries.stop()


@asynchronous
async def test_a_trails_first_and_newest_digests_are_known() -> None:
    api = await logging_trail()
    assert (await api.ask(DIGESTS, name="my-trail")).json["chains"] == []
    for _ in range(2):
        await api.post(FLUSH, asked(name="my-trail"))
        api.world.clock.advance(60)
    answer = await api.ask(DIGESTS, name="my-trail", account=ACCOUNT)
    assert answer.status == 200
    delivered = await api.world.verified()
    first, newest = delivered.chain()
    (chain,) = answer.json["chains"]
    assert [start["key"] for start in chain["starts"]] == [first.key]
    assert chain["newest"]["key"] == newest.key
    assert chain["newest"]["sha256"] == hashlib.sha256(newest.content).hexdigest()
    assert (chain["trail"], chain["region"], chain["ends"]) == ("my-trail", REGION, [])
    assert (await api.ask(DIGESTS, name="other")).status == 404
    await api.world.deliveries.stop()


@asynchronous
async def test_flushing_an_unknown_trail_is_not_found() -> None:
    api = await logging_trail()
    for body in (asked(name="nothing"), asked(), b"", asked(name="my-trail", account="1")):
        answer = await api.post(FLUSH, body)
        assert answer.status == 404, body
        assert answer.json["code"] == "TrailNotFoundException"
    await api.world.deliveries.stop()


@asynchronous
async def test_flushing_a_name_that_several_trails_have_names_them_all() -> None:
    api = await logging_trail()
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET, region="eu-west-1")
    answer = await api.post(FLUSH, asked(name="my-trail"))
    assert answer.status == 400
    for region in (REGION, "eu-west-1"):
        arn = f"arn:aws:cloudtrail:{region}:{ACCOUNT}:trail/my-trail"
        assert arn in answer.json["error"]
        assert (await api.post(FLUSH, asked(name=arn))).status == 200
    await api.world.deliveries.stop()


@asynchronous
async def test_flushing_to_a_bucket_that_fails_returns_its_error() -> None:
    api = await logging_trail()
    api.world.objects.down = "AccessDenied"
    answer = await api.post(FLUSH, asked(name="my-trail"))
    assert answer.status == 502
    assert answer.json["code"] == "AccessDenied"
    assert "bucket" in answer.json["error"]
    await api.world.deliveries.stop()


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[]", b'"my-trail"', b"5", b"null"])
@asynchronous
async def test_a_flush_whose_body_makes_no_sense_is_refused(body: bytes) -> None:
    api = await logging_trail()
    answer = await api.post(FLUSH, body)
    assert answer.status == 400
    assert answer.json["error"]
    assert api.world.clock.now() > MOMENT
    await api.world.deliveries.stop()
