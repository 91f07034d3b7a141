"""The list of incidents of unusual activity."""

from __future__ import annotations

import msgspec

from opentrail.questions.question import answer_type, load
from opentrail.who.shapes import IncidentRow
from tests.api.v1.test_incidents import INSIGHTS, at
from tests.factories import a_principal_record, an_insight_record, event_id
from tests.fakes import asynchronous


@asynchronous
async def test_newest_incidents_are_listed_up_to_a_limit() -> None:
    records = [
        {
            **an_insight_record(),
            "eventID": event_id(10 + n),
            "sharedEventID": event_id(20 + n),
            "eventTime": f"2020-01-01T09:0{n}:00Z",
        }
        for n in range(5)
    ]
    api = await at("2020-01-01T10:00:00Z", *records)
    answer = await api.ask(INSIGHTS, limit="2")
    assert [each["start"][14:16] for each in answer.json["incidents"]] == ["04", "03"]
    assert (await api.ask(INSIGHTS, limit="0")).status == 400


@asynchronous
async def test_answer_has_the_declared_shape() -> None:
    api = await at("2020-01-01T10:00:00Z", an_insight_record(), a_principal_record())
    answer = (await api.ask(INSIGHTS)).json
    assert len(answer["incidents"]) == 2
    msgspec.convert(answer, answer_type(load("insights")))
    msgspec.convert(answer["incidents"], list[IncidentRow])
