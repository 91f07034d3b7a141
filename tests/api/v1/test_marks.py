"""Events between two marks, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.api.v1.tail import MAX_POSITIONS
from tests.api.caller import Answer, Api
from tests.factories import a_data_record, a_record, some_records
from tests.fakes import asynchronous

MARKS = "/api/v1/marks"


async def set_mark(api: Api) -> int:
    answer = await api.ask(MARKS, method="POST")
    assert answer.status == 200, answer.body
    position: int = answer.json["position"]
    return position


async def read(api: Api, mark: int | str, **query: str) -> Answer:
    return await api.ask(f"{MARKS}/{mark}/records", **query)


def ids(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [record["eventID"] for record in answer.json["records"]]


@asynchronous
async def test_mark_is_the_position_of_the_newest_record() -> None:
    api = Api()
    assert await set_mark(api) == 0
    await api.record([a_record(), a_record()])
    assert await set_mark(api) == 2


@asynchronous
async def test_records_after_a_mark_are_sorted_oldest_first() -> None:
    api = Api()
    await api.record([a_record(eventID="before")])
    mark = await set_mark(api)
    later: list[dict[str, Any]] = [
        a_record(eventID="mine"),
        a_data_record(eventID="data"),
        a_record(eventID="theirs", recipientAccountId="210987654321"),
        a_record(eventID="there", awsRegion="eu-west-1"),
    ]
    await api.record(later)
    answer = await read(api, mark)
    assert answer.json == {"position": 5, "complete": True, "records": later}


@asynchronous
async def test_a_second_mark_ends_the_interval() -> None:
    api = Api()
    first = await set_mark(api)
    await api.record([a_record(eventID="inside")])
    second = await set_mark(api)
    await api.record([a_record(eventID="after")])
    assert ids(await read(api, first, until=str(second))) == ["inside"]
    assert ids(await read(api, second)) == ["after"]
    assert ids(await read(api, second, until=str(second))) == []


@asynchronous
async def test_records_are_selected_by_every_condition() -> None:
    api = Api()
    await api.record(
        [
            a_record(eventID="mine"),
            a_data_record(eventID="data"),
            a_record(eventID="theirs", recipientAccountId="210987654321"),
            a_record(eventID="there", awsRegion="eu-west-1", eventName="DeleteUser"),
        ]
    )
    assert ids(await read(api, 0, account="210987654321")) == ["theirs"]
    assert ids(await read(api, 0, region="eu-west-1")) == ["there"]
    assert ids(await read(api, 0, categories="management")) == ["mine", "theirs", "there"]
    assert ids(await read(api, 0, expression="EventName=Delete*")) == ["there"]


@asynchronous
async def test_an_incomplete_answer_is_continued_at_its_position() -> None:
    api = Api()
    records = some_records(7)
    await api.record(records)
    found: list[dict[str, Any]] = []
    position, complete = 0, False
    while not complete:
        answer = (await read(api, position, limit="3", expression="name=*")).json
        found += answer["records"]
        assert position < answer["position"] <= position + 3
        position, complete = answer["position"], answer["complete"]
    assert found == records


@pytest.mark.parametrize(
    ("mark", "query", "message"),
    [
        ("9", {}, "mark must be a position of this server's journal, 0 to 2, not '9'"),
        ("first", {}, "mark must be a position"),
        ("0", {"until": "3"}, "until must be a position"),
        ("2", {"until": "1"}, "until must not be before the mark 2, but is 1"),
        ("0", {"limit": "0"}, f"limit must be 1 to {MAX_POSITIONS}"),
        ("0", {"since": "2020-01-01"}, "records after a mark have no since"),
        ("0", {"expression": "name="}, ""),
    ],
)
@asynchronous
async def test_mark_problems_are_reported(mark: str, query: dict[str, str], message: str) -> None:
    api = Api()
    await api.record([a_record(), a_record()])
    answer = await read(api, mark, **query)
    assert answer.status == 400
    assert message in answer.json["error"]


@asynchronous
async def test_marks_need_the_token() -> None:
    api = Api()
    assert (await api.ask(MARKS, None, "POST")).status == 401
    assert (await api.ask(f"{MARKS}/0/records", "wrong")).status == 401
    assert (await api.ask(MARKS)).status == 405
