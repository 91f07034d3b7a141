"""An event as lists and pages show it."""

from __future__ import annotations

import json

import pytest

from opentrail.core.errors import CloudTrailError
from opentrail.who.event_rows import find_event, rows_of
from tests.api.caller import filled
from tests.factories import a_record, event_id
from tests.fakes import asynchronous


@asynchronous
async def test_row_says_what_happened_in_parts_that_make_its_clause() -> None:
    api = await filled(a_record())
    (row,) = await rows_of([await find_event(api.services.history, event_id(1))])
    assert row["eventId"] == event_id(1)
    assert row["sentence"].endswith(row["clause"])
    assert "".join(part["text"] for part in row["parts"]) == row["clause"]
    assert json.loads(json.dumps(row)) == row


@asynchronous
async def test_absent_event_is_named() -> None:
    api = await filled(a_record())
    with pytest.raises(CloudTrailError, match="event nothing not found") as raised:
        await find_event(api.services.history, "nothing")
    assert raised.value.status == 404
