"""The console's stories about an incident, a principal and a resource."""

from __future__ import annotations

import json

import pytest

from opentrail.api.v1 import stories
from tests.api.browser import Browser, most_reading
from tests.api.caller import filled
from tests.asking import assumed, at, did
from tests.factories import (
    ACCOUNT,
    a_record,
    an_assumed_role,
    an_iam_user,
    an_insight_record,
    event_id,
    some_records,
)
from tests.fakes import asynchronous

ANN = f"arn:aws:iam::{ACCOUNT}:user/Ann"


@asynchronous
async def test_incidents_are_listed_shown_and_marked_as_expected() -> None:
    browser = Browser()
    browser.api.world.clock.advance(3_600)
    browser.open_link()
    await browser.api.record([a_record(eventID=event_id(1)), an_insight_record()])
    (incident,) = (await browser.get("insights")).json["incidents"]
    shown = (await browser.get(f"insights/{incident['id']}")).json
    assert shown["sentence"] == incident["sentence"]
    assert shown["record"]["sharedEventID"] == incident["id"]
    context = shown["record"]["insightDetails"]["insightContext"]
    attributions = context["attributions"]
    assert {each["attribute"] for each in attributions} >= {"userIdentityArn"}
    marked = await browser.post(f"insights/{incident['id']}/expected", {"note": "load test"})
    assert marked.status == 200, marked.body
    (incident,) = (await browser.get("insights")).json["incidents"]
    assert incident["expected"] == "load test"
    assert (await browser.get("insights/status")).json["state"]
    wrong = await browser.post(f"insights/{incident['id']}/expected", {"note": 5})
    assert "note must be a string" in wrong.json["error"]


@asynchronous
async def test_one_answers_events_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser()
    await browser.api.record([a_record(userIdentity=an_iam_user("Ann"))])
    assert await most_reading(monkeypatch, lambda: browser.get(f"principals/{ANN}")) == 1


@asynchronous
async def test_a_principal_has_its_calls_and_their_times() -> None:
    browser = Browser()
    calls = [
        a_record(
            eventID=event_id(n),
            eventTime=f"2024-01-0{1 + n}T09:00:00Z",
            eventSource="ec2.amazonaws.com" if n else "iam.amazonaws.com",
            userIdentity=an_iam_user("Ann"),
        )
        for n in range(3)
    ]
    await browser.api.record([*calls, a_record(userIdentity=an_iam_user("Bob"))])
    found = (await browser.get(f"principals/{ANN}")).json
    assert (found["arn"], found["events"], found["agentsOf"]) == (ANN, 3, 3)
    assert found["sentence"] == "IAM user Ann"
    assert (found["first"], found["last"]) == ("2024-01-01T09:00:00Z", "2024-01-03T09:00:00Z")
    assert found["services"][0] == {"value": "ec2.amazonaws.com", "count": 2}
    # A Monday, a Tuesday and a Wednesday.
    assert [day[9] for day in found["hours"]] == [1, 1, 1, 0, 0, 0, 0]
    assert len(found["latest"]) == 3
    none = await browser.get("principals/arn:aws:iam::1:user/None")
    assert (none.status, none.json["code"]) == (404, "PrincipalNotFound")


@asynchronous
async def test_a_busy_principal_is_counted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stories, "_MAX_AGENTS_OF", 25)
    browser = Browser()
    await browser.api.record(
        [
            a_record(
                eventID=event_id(n),
                eventTime=f"2024-01-0{1 + n % 7}T{n % 24:02}:10:3{n % 10}Z",
                userIdentity=an_iam_user("Ann"),
                sourceIPAddress=f"192.0.2.{n % 2}",
                userAgent=f"agent-{n}",
            )
            for n in range(100)
        ]
    )
    found = (await browser.get(f"principals/{ANN}")).json
    assert (found["first"], found["events"]) == ("2024-01-01T00:10:30Z", 100)
    assert sum(map(sum, found["hours"])) == 100
    assert {each["count"] for each in found["ips"]} == {50}
    assert (found["agentsOf"], len(found["agents"]), len(found["latest"])) == (25, 10, 20)


@asynchronous
async def test_the_story_of_a_resource_equals_whos_answer() -> None:
    browser = Browser()
    await browser.api.record(
        [
            did(1, "CreateUser", {"userName": "Mary"}, eventID=event_id(1)),
            did(2, "UpdateUser", {"userName": "Mary"}),
            did(3, "UpdateUser", {"userName": "Mary"}),
            did(4, "DeleteUser", {"userName": "Mary"}),
        ]
    )
    answer = (await browser.get("resources", name="Mary")).json
    sentences = answer["story"]["sentences"]
    assert [sentence.split(", ", 2)[1][5:12] for sentence in sentences] == [
        "at 9:01",
        "at 9:03",
        "at 9:04",
    ]
    verbs = ("created", "changed", "deleted")
    for sentence, verb in zip(sentences, verbs, strict=True):
        assert f"{verb} IAM user Mary" in sentence
    assert answer["story"]["maker"]["eventId"] == event_id(1)
    assert len(answer["events"]) == 4
    assert "name must be given" in (await browser.get("resources")).json["error"]


@asynchronous
async def test_a_story_has_earlier_names_and_resources() -> None:
    browser = Browser()
    await browser.api.record(
        [
            did(1, "CreateUser", {"userName": "Mary"}),
            did(2, "DeleteUser", {"userName": "Mary"}),
            did(3, "CreateUser", {"userName": "Mary"}),
            did(4, "UpdateUser", {"userName": "Mary", "newUserName": "Maria"}),
            did(5, "TagUser", {"userName": "Maria"}),
        ]
    )
    story = (await browser.get("resources", name="Mary")).json["story"]
    verbs = [sentence.split("IAM user ")[1].split()[1] for sentence in story["sentences"]]
    assert verbs == ["created", "renamed", "tagged"]
    (former,) = story["former"]
    assert [sentence.split("IAM user ")[1].split()[1] for sentence in former] == [
        "created",
        "deleted",
    ]


@asynchronous
async def test_who_suggests_the_nearest_names() -> None:
    browser = Browser()
    await browser.api.record([did(1, "CreateUser", {"userName": "Mary"})])
    wrong = (await browser.get("who", resource="mary")).json
    assert [item["nearest"] for item in wrong["nearest"]] == ["Mary"]
    wrong = (await browser.get("who", resource="Mary", type="usr")).json
    assert wrong["types"] == ["IAM user"]
    right = (await browser.get("who", resource="Mary", type="IAM user")).json
    assert right["sentence"]
    assert "types" not in right


@asynchronous
async def test_session_shows_the_life_story_of_its_role() -> None:
    browser = Browser()
    session = {**an_assumed_role("Release"), "accessKeyId": "ASIA1"}
    await browser.api.record(
        [
            did(1, "CreateUser", {"userName": "Ann"}, eventID=event_id(1)),
            did(2, "ListUsers", {}, userIdentity=an_iam_user("Ann"), readOnly=True),
            did(3, "CreateRole", {"roleName": "Release"}, eventID=event_id(3)),
            at(4, userIdentity=session),
        ]
    )
    story = (await browser.get(f"principals/{ANN}")).json["story"]
    (sentence,) = story["sentences"]
    assert "created IAM user Ann" in sentence
    assert story["maker"]["eventId"] == event_id(1)
    story = (await browser.get(f"principals/{session['arn']}")).json["story"]
    (sentence,) = story["sentences"]
    assert "created IAM role Release" in sentence
    assert story["maker"]["eventId"] == event_id(3)


@asynchronous
async def test_person_behind_a_call_has_the_leading_events() -> None:
    browser = Browser()
    session = {**an_assumed_role("Release"), "accessKeyId": "ASIA1"}
    events = [
        assumed(1, "ASIA1", an_iam_user("Alice"), "Release", eventID=event_id(1)),
        at(2, userIdentity=session, eventID=event_id(2)),
        at(3, userIdentity=session, eventID=event_id(3)),
    ]
    await browser.api.record(events)
    ids = [event["eventID"] for event in events]
    chain = (await browser.get(f"events/{ids[1]}/caller")).json
    assert [step["eventId"] for step in chain["steps"]] == ids[:1]
    assert chain["steps"][0]["clause"].startswith("IAM user Alice assumed IAM role Release")
    assert (chain["origin"], chain["kind"]) == ("IAM user Alice", "human")
    assert [step["eventId"] for step in chain["next"]] == ids[2:]
    chain = (await browser.get(f"events/{ids[0]}/caller")).json
    assert (chain["steps"], chain["origin"]) == ([], "IAM user Alice")
    assert (await browser.get("events/absent/caller")).status == 404


@asynchronous
async def test_the_person_behind_a_call_may_be_unknown() -> None:
    browser = Browser()
    await browser.api.record([a_record(eventID=event_id(1), userIdentity=an_assumed_role())])
    chain = (await browser.get(f"events/{event_id(1)}/caller")).json
    assert (chain["origin"], chain["kind"], chain["steps"]) == (None, "unknown", [])
    assert "no record of who assumed role DataRole" in chain["end"]


@asynchronous
async def test_callers_behind_several_calls_are_one_answer() -> None:
    browser = Browser()
    first = {**an_assumed_role("First"), "accessKeyId": "ASIA1"}
    second = {**an_assumed_role("Second"), "accessKeyId": "ASIA2"}
    events = [
        assumed(1, "ASIA1", an_iam_user("Alice"), "First", eventID=event_id(1)),
        assumed(2, "ASIA2", first, "Second", eventID=event_id(2)),
        at(3, userIdentity=second, eventID=event_id(3)),
        at(4, userIdentity={**second, "accessKeyId": "ASIA3"}, eventID=event_id(4)),
    ]
    await browser.api.record(events)
    ids = [event["eventID"] for event in events]
    asked = ",".join([*ids[1:], "absent"])
    origins = (await browser.get("events/origins", ids=asked)).json["origins"]
    alice = {
        "kind": "human",
        "words": "IAM user Alice",
        "parts": [{"kind": "actor-type", "text": "IAM user "}, {"kind": "actor", "text": "Alice"}],
    }
    assert origins == {ids[1]: alice, ids[2]: alice}
    too_many = await browser.get("events/origins", ids=",".join(["x"] * 201))
    assert (too_many.status, too_many.json["code"]) == (400, "InvalidParameterException")


@pytest.mark.parametrize("name", ["Mary", "mary", " MARY "])
@asynchronous
async def test_a_name_gets_its_creator_and_later_events(name: str) -> None:
    browser = Browser()
    session = {**an_assumed_role("Release"), "accessKeyId": "ASIA1"}
    await browser.api.record(
        [
            assumed(1, "ASIA1", an_iam_user("Alice"), "Release", eventID=event_id(1)),
            at(2, userIdentity=session, eventID=event_id(2)),
            did(3, "UpdateUser", {"userName": "Mary"}, eventID=event_id(3)),
            did(4, "ListUsers", {}, userIdentity=an_iam_user("Mary"), readOnly=True),
            did(5, "GetUser", {}, userIdentity=an_iam_user("Mary"), errorCode="AccessDenied"),
        ]
    )
    answer = (await browser.get("answer", name=name)).json
    assert answer["name"] == "Mary"
    assert answer["sentence"].startswith("On January 1, 2020 at 9:02 AM UTC, role Release")
    assert answer["sentence"].endswith(answer["clause"])
    assert answer["event"]["eventId"] == event_id(2)
    assert answer["types"] == ["IAM user"]
    assert answer["behind"] == "IAM user Alice"
    assert answer["changes"] == 1
    assert "changed IAM user Mary" in answer["lastChange"]
    assert (answer["calls"], answer["failed"]) == (2, 1)


@asynchronous
async def test_a_user_without_creation_gets_the_last_call() -> None:
    browser = Browser()
    calls = [at(n, eventID=event_id(n), userIdentity=an_iam_user("Ann")) for n in range(3)]
    await browser.api.record(calls)
    answer = (await browser.get("answer", name="ann")).json
    assert (answer["name"], answer["calls"], answer["failed"]) == ("Ann", 3, 0)
    assert answer["event"]["eventId"] == event_id(2)
    assert answer["types"] == []


@asynchronous
async def test_invalid_names_have_no_answer() -> None:
    browser = Browser()
    await browser.api.record([a_record()])
    answer = (await browser.get("answer", name="denied")).json
    assert (answer["name"], answer["sentence"], answer["event"]) == ("denied", None, None)
    assert (await browser.get("answer", name=" ")).status == 400


WHO = "/api/v1/who"


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
async def test_who_finds_a_resource_by_arn() -> None:
    api = await filled(a_record(eventID="the-id"))
    answer = await api.ask(WHO, resource=f"arn:aws:iam::{ACCOUNT}:user/Mary")
    assert answer.json["evidence"]["eventId"] == "the-id"


@asynchronous
async def test_who_skips_refused_and_reading_calls() -> None:
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
async def test_who_finds_only_recorded_names() -> None:
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
async def test_who_can_be_narrowed_to_a_type() -> None:
    api = await filled(a_record())
    assert (await api.ask(WHO, resource="Mary", type="user")).json["sentence"]
    assert not (await api.ask(WHO, resource="Mary", type="role")).json["sentence"]


@asynchronous
async def test_who_can_be_narrowed_to_an_account() -> None:
    api = await filled(a_record(eventID="mine"))
    assert (await api.ask(WHO, resource="Mary", account=ACCOUNT)).json["sentence"]
    assert not (await api.ask(WHO, resource="Mary", account="210987654321")).json["sentence"]


@asynchronous
async def test_who_needs_a_resource() -> None:
    answer = await (await filled()).ask(WHO)
    assert answer.status == 400
    assert "resource" in answer.json["error"]
