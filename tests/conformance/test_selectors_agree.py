"""Selectors over a collection of real records: two evaluators agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from opentrail.core.event_record import EventRecord
from tests.collection import at_least, collected_records
from tests.core.selectors.agreement import ENOUGH, PAIRS, judge
from tests.core.selectors.generated import conditions, variants
from tests.factories import record_bytes

pytestmark = pytest.mark.conformance


def collection() -> list[dict[str, Any]]:
    return [record for _, record in collected_records() if "eventName" in record]


def test_the_naive_evaluator_agrees_about_every_real_record(
    record_property: Any,
) -> None:
    found = judge(variants(collection(), 1_400))
    assert found.pairs >= PAIRS
    for category, field, operator in conditions():
        condition = f"{category} {field} {operator}"
        assert min(found.matches[condition], found.refusals[condition]) >= ENOUGH, condition
    figures = (
        f"selectors: {found.pairs:,} pairs agree; the rarest of {len(found.matches)} conditions "
        f"fits {min(found.matches.values())} and not {min(found.refusals.values())} events"
    )
    record_property("figures", figures)


def test_odd_member_spares_the_others_of_real_records() -> None:
    count = 0
    for record in collection():
        fields = EventRecord(record_bytes(record)).fields
        odd = EventRecord(record_bytes({**record, "vpcEndpointId": 7})).fields
        assert odd == replace(fields, vpc_endpoint_id=None)
        count += 1
    assert count > at_least(15_000, 200)
