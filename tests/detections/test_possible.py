"""Conditions that no record can match; `test_sigma.py` has them as rules."""

import pytest

from opentrail.capture.record_rules import rules
from opentrail.detections.possible import impossible
from opentrail.detections.rules import (
    AllOf,
    AnyOf,
    Condition,
    Exists,
    Like,
    Negation,
    OneOf,
    SameAs,
)
from tests.collection import collected_records

NEVER = OneOf("status", ("success",))
MAY = OneOf("eventName", ("CreateUser",))


def reasons(condition: Condition) -> tuple[list[str], list[str]]:
    warnings: list[str] = []
    return impossible(condition, warnings), warnings


def test_one_part_makes_all_of_them_impossible() -> None:
    assert reasons(AllOf((MAY, NEVER))) == (["records have no member 'status'"], [])


def test_one_possible_alternative_is_enough() -> None:
    assert reasons(AnyOf((NEVER, MAY))) == ([], ["records have no member 'status'"])
    assert reasons(AnyOf((NEVER, NEVER)))[0] != []


def test_a_negation_is_possible() -> None:
    assert reasons(Negation(NEVER)) == ([], ["records have no member 'status'"])


def test_fields_of_all_comparisons_are_checked() -> None:
    for condition in (Exists("x.y"), Like("*", "x"), SameAs("eventName", "x")):
        assert reasons(condition) == (["records have no member 'x'"], [])
    assert reasons(Like("*anything*")) == ([], [])


def test_names_in_records_are_possible() -> None:
    for service, names in rules("names")["event_name"].items():
        source = OneOf("eventSource", (f"{service.removesuffix('control')}.amazonaws.com",))
        for name in names.values():
            assert reasons(AllOf((source, OneOf("eventName", (name,))))) == ([], [])
    sign_in = OneOf("eventSource", ("signin.amazonaws.com",))
    assert reasons(AllOf((sign_in, OneOf("eventName", ("ConsoleLogin",))))) == ([], [])


@pytest.mark.slow
def test_the_sources_of_real_records_exist() -> None:
    found = {
        str(record["eventSource"]) for _, record in collected_records() if "eventName" in record
    }
    missing = {source for source in found if reasons(OneOf("eventSource", (source,)))[0]}
    assert missing <= {"aws:s3"}, "a test event of a publisher's, of another kind"
    assert len(found) > 25
