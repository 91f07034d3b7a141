"""Numbers of events; tests/history compares them with a scan."""

from __future__ import annotations

import pytest

from tests.api.browser import Browser
from tests.factories import a_record, an_iam_user, event_id
from tests.fakes import asynchronous


async def with_events() -> Browser:
    browser = Browser()
    browser.api.world.clock.advance(3_600)
    browser.open_link()
    records = [
        a_record(
            eventID=event_id(n),
            eventTime=f"2024-01-01T{n:02}:00:00Z",
            eventName="DeleteUser" if n % 3 else "CreateUser",
            userIdentity=an_iam_user("Ann" if n < 4 else "Bob"),
            **({"errorCode": "AccessDenied"} if n == 5 else {}),
        )
        for n in range(6)
    ]
    await browser.api.record(records)
    return browser


@asynchronous
async def test_the_total_is_exact_while_it_is_small() -> None:
    browser = await with_events()
    assert (await browser.get("events/count")).json == {"value": 6, "relation": "eq"}
    found = await browser.get("events/count", expression="is:failure")
    assert found.json == {"value": 1, "relation": "eq"}


@asynchronous
async def test_bars_of_a_histogram_sum_to_the_total() -> None:
    browser = await with_events()
    period = {"since": "2024-01-01T00:00:00Z", "until": "2024-01-01T05:59:59Z"}
    found = (await browser.get("events/histogram", buckets="6", **period)).json
    assert found["seconds"] == 3_600
    assert [bucket["ok"] for bucket in found["buckets"]] == [1, 1, 1, 1, 1, 0]
    assert [bucket["failed"] for bucket in found["buckets"]] == [0, 0, 0, 0, 0, 1]
    assert found["buckets"][1]["time"] == "2024-01-01T01:00:00Z"


@asynchronous
@pytest.mark.parametrize("path", ["events/histogram", "events/overview"])
async def test_histogram_may_end_with_the_first_calendar_day(path: str) -> None:
    answer = await (await with_events()).get(path, until="0001-01-01")
    assert answer.status == 200
    assert answer.json.get("count", 0) == 0


@asynchronous
async def test_values_are_sorted_by_frequency() -> None:
    browser = await with_events()
    found = (await browser.get("events/facets", fields="eventName,username")).json["facets"]
    assert found == {
        "eventName": [{"value": "DeleteUser", "count": 4}, {"value": "CreateUser", "count": 2}],
        "username": [{"value": "Ann", "count": 4}, {"value": "Bob", "count": 2}],
    }
    begun = await browser.get("values", field="eventName", prefix="cre")
    assert begun.json == {"values": [{"value": "CreateUser", "count": 2}]}


@asynchronous
@pytest.mark.parametrize("expression", ["", "ann", "is:failure"])
@pytest.mark.parametrize("since", [None, "2024-01-01T01:00:00Z"])
async def test_an_overview_has_total_histogram_and_facets(
    expression: str, since: str | None
) -> None:
    browser = await with_events()
    search = {"expression": expression, **({"since": since} if since else {})}
    overview = (await browser.get("events/overview", buckets="6", **search)).json
    count = (await browser.get("events/count", **search)).json
    assert overview["count"] == count["value"]
    histogram = (await browser.get("events/histogram", buckets="6", **search)).json
    assert overview["histogram"] == histogram
    facets = (await browser.get("events/facets", **search)).json
    assert overview["facets"] == facets["facets"]


@asynchronous
async def test_suggestions_have_counts() -> None:
    browser = await with_events()
    (ann, bob) = (await browser.get("values", field="arn", prefix="arn:aws:iam")).json["values"]
    assert (ann["value"].endswith("user/Ann"), ann["count"]) == (True, 4)
    assert (bob["value"].endswith("user/Bob"), bob["count"]) == (True, 2)
    keys = (await browser.get("values", field="accessKeyId", prefix="akia")).json["values"]
    assert sum(each["count"] for each in keys) == 6
    data = a_record(eventID="data", eventCategory="Data", managementEvent=False)
    await browser.api.record([data])
    of_all = await browser.get("values", field="eventCategory", categories="all")
    counts = {each["value"]: each["count"] for each in of_all.json["values"]}
    assert counts == {"Management": 6, "Data": 1}


@pytest.mark.parametrize(
    ("path", "query", "words"),
    [
        ("events/facets", {"fields": "mood"}, "not 'mood'"),
        ("events/overview", {"fields": "mood"}, "not 'mood'"),
        ("events/overview", {"buckets": "121"}, "buckets must be 1 to 120"),
        ("values", {"field": ""}, "field must be one of"),
        ("events/histogram", {"buckets": "121"}, "buckets must be 1 to 120"),
    ],
)
@asynchronous
async def test_a_wrong_condition_is_named(path: str, query: dict[str, str], words: str) -> None:
    answer = await (await with_events()).get(path, **query)
    assert answer.status == 400
    assert words in answer.json["error"]
