"""An event in lists."""

from __future__ import annotations

import msgspec
import pytest

from opentrail.core.errors import CloudTrailError
from opentrail.who.event_rows import find_event, rows_of
from opentrail.who.shapes import EventRow
from tests.api.caller import filled
from tests.factories import a_record, event_id
from tests.fakes import asynchronous


@asynchronous
async def test_row_has_the_declared_shape() -> None:
    agent = "aws-cli/2.15.0 md/Botocore#1.34 claude-code/1.0"
    api = await filled(a_record(eventID=event_id(1), userAgent=agent, errorCode="AccessDenied"))
    (row,) = await rows_of([await find_event(api.history, event_id(1))])
    assert msgspec.convert(row, EventRow) == row
    assert (row["eventId"], row["errorCode"]) == (event_id(1), "AccessDenied")
    assert "".join(part["text"] for part in row["parts"]) == row["clause"]
    assert row["sentence"].endswith(row["clause"])


@asynchronous
async def test_unknown_event_is_not_found() -> None:
    with pytest.raises(CloudTrailError) as raised:
        await find_event((await filled(a_record())).history, event_id(9))
    assert raised.value.code == "EventNotFound"
