"""Insight selectors of a trail: defaults, and the events that the trail must log for them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.errors import CloudTrailError
from opentrail.core.event import DATA, MANAGEMENT
from opentrail.core.insight_types import (
    CALL_RATE,
    ERROR_RATE,
    InsightSelector,
    check_insights,
    insight_selectors,
)
from opentrail.core.selectors import DEFAULT, Selection


def test_an_insights_type_covers_management_events_by_default() -> None:
    assert insight_selectors([{"InsightType": CALL_RATE}]) == (InsightSelector(CALL_RATE),)
    nothing: tuple[list[str] | None, ...] = (None, [])
    for categories in nothing:
        document = {"InsightType": ERROR_RATE, "EventCategories": categories}
        assert insight_selectors([document]) == (InsightSelector(ERROR_RATE, (MANAGEMENT,)),)
    twice = {"InsightType": ERROR_RATE, "EventCategories": [DATA, DATA]}
    assert insight_selectors([twice]) == (InsightSelector(ERROR_RATE, (DATA,)),)


@given(
    st.builds(
        InsightSelector,
        st.sampled_from([CALL_RATE, ERROR_RATE]),
        st.sampled_from([(MANAGEMENT,), (DATA,), (DATA, MANAGEMENT)]),
    )
)
@pytest.mark.hypothesis
def test_an_insight_selector_is_serialized_unchanged(selector: InsightSelector) -> None:
    document = json.loads(json.dumps(selector.to_json()))
    assert insight_selectors([document]) == (selector,)


def management(*read_only: str) -> dict[str, Any]:
    fields: list[dict[str, Any]] = [{"Field": "eventCategory", "Equals": ["Management"]}]
    if read_only:
        fields.append({"Field": "readOnly", "Equals": list(read_only)})
    return {"FieldSelectors": fields}


OBJECTS = {
    "FieldSelectors": [
        {"Field": "eventCategory", "Equals": ["Data"]},
        {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
    ]
}


@pytest.mark.parametrize(
    ("advanced", "call_rate", "error_rate", "data"),
    [
        ([management()], True, True, False),
        ([management("false")], True, True, False),
        ([management("true")], False, True, False),
        ([management("true", "false")], True, True, False),
        ([management("true"), management("false")], True, True, False),
        ([OBJECTS], False, False, True),
        ([OBJECTS, management("true")], False, True, True),
    ],
)
def test_insights_type_requires_its_events_in_the_trail(
    advanced: list[dict[str, Any]], call_rate: bool, error_rate: bool, data: bool
) -> None:
    selection = Selection.from_document({"AdvancedEventSelectors": advanced})
    for selector, allowed in (
        (InsightSelector(CALL_RATE), call_rate),
        (InsightSelector(ERROR_RATE), error_rate),
        (InsightSelector(CALL_RATE, (DATA,)), data),
        (InsightSelector(ERROR_RATE, (DATA,)), data),
        (InsightSelector(CALL_RATE, (DATA, MANAGEMENT)), data and call_rate),
    ):
        if allowed:
            check_insights([selector], selection, "arn")
        else:
            with pytest.raises(CloudTrailError, match="but trail arn does not") as error:
                check_insights([selector], selection, "arn")
            assert error.value.code == "InvalidInsightSelectorsException"


def test_a_new_trail_logs_all_management_events() -> None:
    check_insights([InsightSelector(CALL_RATE), InsightSelector(ERROR_RATE)], DEFAULT, "arn")
