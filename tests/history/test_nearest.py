"""Searches for other values than the requested ones."""

from __future__ import annotations

import pytest

from opentrail.core.expression import parse
from opentrail.history.event_history import Search
from opentrail.history.nearest import Nearest, with_values
from tests.api.caller import filled
from tests.factories import MOMENT, a_record, event_id
from tests.fakes import asynchronous

JOHN = Nearest("username", "john", "John", 3, "case")
STAR = Nearest("username", "joh*n", "Joh*n", 1, "case")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("user=john", "user=John"),
        ("user=john name=CreateUser last 1h", "user=John name=CreateUser last 1h"),
        ("user=john OR user=Mary", "user=John OR user=Mary"),
        ("(user=john OR is:read) error:x", "(user=John OR is:read) error:x"),
        ("user IN (john, Mary)", "user IN (John, Mary)"),
        (r"user=joh\*n", r"user=Joh\*n"),
        ("user!=john", "user!=john"),
        ("NOT user=john", "NOT user=john"),
        ("name=john", "name=john"),
        ("user=joh?", "user=joh?"),
        ("john", "john"),
    ],
)
def test_only_the_comparison_with_the_value_changes(before: str, after: str) -> None:
    search = Search(expression=parse(before, MOMENT), region="us-east-1")
    other = with_values(search, [JOHN, STAR])
    assert other == Search(expression=parse(after, MOMENT), region="us-east-1")


def test_a_search_without_an_expression_remains() -> None:
    assert with_values(Search(), [JOHN]) == Search()


@asynchronous
async def test_parts_of_words_and_paths_are_hinted_at() -> None:
    parts = {"keys": [{"kind": "prizoex"}], "tags": {"aws:team": "x"}}
    api = await filled(
        a_record(eventID=event_id(1), requestParameters={"userName": "Zoe"}),
        a_record(eventID=event_id(2), requestParameters=parts),
    )
    answer = (await api.ask("/api/v1/events", expression="zoe", nearest="true")).json
    assert [event["EventId"] for event in answer["events"]] == [event_id(1)]
    assert answer["parts"] == {
        "words": ["zoe"],
        "events": 1,
        "complete": True,
        "members": [{"value": "requestParameters.keys.kind", "count": 1}],
    }
    for path, expected in {
        "requestParameters.usrName": "requestParameters.userName",
        "requestParameters.tags.aws.team": r"requestParameters.tags.aws\:team",
        "requestParameters.team.kind": "requestParameters.keys.kind",
    }.items():
        answer = (await api.ask("/api/v1/events", expression=f"{path}=x", nearest="true")).json
        assert answer["nearest"][0]["nearest"] == expected
    answer = (
        await api.ask("/api/v1/events", expression="requestParameters.userName=x", nearest="true")
    ).json
    assert answer["nearest"] == []
