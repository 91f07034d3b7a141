"""Advanced event selectors of calls to record."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.core.errors import UsageError
from opentrail.core.event import DATA, MANAGEMENT
from opentrail.core.event_record import EventFields
from opentrail.core.selectors.selection import predicate_of, read_recording, records_all_management

Json = dict[str, Any]


def selector(category: str, *fields: Json) -> Json:
    return {"FieldSelectors": [{"Field": "eventCategory", "Equals": [category]}, *fields]}


def test_data_selectors_for_recording_need_no_type() -> None:
    writes = selector("Data", {"Field": "readOnly", "Equals": ["false"]})
    predicate = predicate_of(read_recording([selector("Management"), writes], "record"))
    assert predicate.decides(MANAGEMENT) is True
    assert predicate.matches(DATA, EventFields(read_only=False))
    assert not predicate.matches(DATA, EventFields(read_only=True))


@pytest.mark.parametrize(
    ("selectors", "is_whole"),
    [
        ([selector("Management")], True),
        ([selector("Data")], False),
        ([selector("Management", {"Field": "readOnly", "Equals": ["false"]})], False),
        (
            [
                selector("Management", {"Field": "readOnly", "Equals": ["false"]}),
                selector("Management"),
            ],
            True,
        ),
    ],
)
def test_full_management_events_need_an_unlimited_selector(
    selectors: list[Json], is_whole: bool
) -> None:
    assert records_all_management(read_recording(selectors, "record")) is is_whole


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "must be all, or a list of advanced event selectors: Expected `array`"),
        ([], "must be all, or have at least one advanced event selector"),
        ([{"FieldSelectors": "x"}], "at `$[0].FieldSelectors`"),
        ([selector("Network")], "selector 1: Value Network for eventCategory is invalid"),
        (
            [selector("Data"), selector("Data", {"Field": "resources.ARN", "Equals": ["a"]})],
            "selector 2: Field resources.ARN needs resources.type in the same event selector.",
        ),
        (
            [
                selector(
                    "Data",
                    {"Field": "resources.type", "Equals": ["AWS::SQS::Queue"]},
                    {"Field": "resources.ARN", "Equals": ["a"]},
                )
            ],
            "not AWS::SQS::Queue, which the body names",
        ),
        ([selector("Data", {"Field": "eventName", "Equals": ["a"] * 501})], "at most 500 values"),
    ],
)
def test_mistake_is_named(document: Any, said: str) -> None:
    with pytest.raises(UsageError) as error:
        read_recording(document, "record in a.toml")
    assert str(error.value).startswith("record in a.toml")
    assert said in str(error.value)
