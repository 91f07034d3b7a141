"""Lists of resources that cannot be created yet."""

from __future__ import annotations

import pytest

from tests.api.caller import Api
from tests.fakes import asynchronous


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"MaxResults": 0}, "InvalidMaxResultsException"),
        ({"MaxResults": 1001}, "InvalidMaxResultsException"),
        ({"NextToken": "abc"}, "InvalidNextTokenException"),
        ({"NextToken": "a-token-of-nobody"}, "InvalidNextTokenException"),
        ({"MaxResults": "many"}, "SerializationException"),
    ],
)
@asynchronous
async def test_an_impossible_page_is_refused_as_by_aws(given: dict[str, object], code: str) -> None:
    assert (await Api().error("ListEventDataStores", **given))[0] == code


@pytest.mark.parametrize(
    ("operation", "member"),
    [("ListChannels", "Channels"), ("ListDashboards", "Dashboards")],
)
@asynchronous
async def test_inventories_of_unsupported_resources_are_empty(operation: str, member: str) -> None:
    assert await Api().ok(operation) == {member: []}
    assert (await Api().error(operation, NextToken="abcd"))[0] == "InvalidNextTokenException"
