"""Input against AWS's model: JSON types, required members, ranges, enums, patterns."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.model import ServiceModel
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.api.cloudtrail.operation import validate
from opentrail.core.errors import CloudTrailError
from tests.factories import catalog

TEXT = {"type": "string", "min": 2, "max": 4, "pattern": "^[a-z]*$"}
SHAPES: dict[str, Any] = {
    "In": {
        "type": "structure",
        "required": ["Name"],
        "members": {
            "Name": {"shape": "Text"},
            "Count": {"shape": "Count"},
            "Flag": {"shape": "Flag"},
            "When": {"shape": "When"},
            "Kind": {"shape": "Kind"},
            "Items": {"shape": "Items"},
            "Tags": {"shape": "Tags"},
            "Counts": {"shape": "Counts"},
            "Words": {"shape": "Words"},
        },
    },
    "Text": TEXT,
    "Count": {"type": "integer", "min": 1, "max": 50},
    "Flag": {"type": "boolean"},
    "When": {"type": "timestamp"},
    "Kind": {"type": "string", "enum": ["one", "two"]},
    "Words": {"type": "string", "pattern": "^[\\p{L}\\p{Z}\\p{N}_.]*$"},
    "Items": {"type": "list", "member": {"shape": "Item"}, "min": 1, "max": 2},
    "Item": {
        "type": "structure",
        "required": ["Key"],
        "members": {"Key": {"shape": "Text"}, "Value": {"shape": "Any"}},
    },
    "Any": {"type": "string"},
    "Tags": {"type": "map", "key": {"shape": "Any"}, "value": {"shape": "Text"}},
    "Counts": {"type": "map", "key": {"shape": "Kind"}, "value": {"shape": "Count"}},
}
SHAPE = ServiceModel({"metadata": {}, "shapes": SHAPES, "operations": {}}).shape_for("In")


def refused(**value: Any) -> tuple[str, str]:
    with pytest.raises(CloudTrailError) as error:
        validate(SHAPE, value)
    return error.value.code, error.value.message


def judged(shape: Any, value: dict[str, Any]) -> str | None:
    """Returns the code of a value's refusal, None if it passes."""
    try:
        validate(shape, value)
    except CloudTrailError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"Count": 1},
        {"Count": 50, "Flag": False, "When": 0, "Kind": "two"},
        {"When": 1.5},
        {"Items": [{"Key": "ab"}, {"Key": "abcd", "Value": ""}]},
        {"Tags": {}},
        {"Tags": {"any key": "ab"}},
        {"Counts": {"one": 1, "two": 2}},
        {"Words": "Zoë 1_."},
        {"Unknown": object()},
        {"Count": None, "Items": None},
    ],
)
def test_values_within_limits_pass(value: dict[str, Any]) -> None:
    validate(SHAPE, {"Name": "ab", **value})


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"Name": 1}, "name"),
        ({"Name": ["ab"]}, "name"),
        ({"Count": "1"}, "count"),
        ({"Count": 1.0}, "count"),
        ({"Count": True}, "count"),
        ({"Flag": 1}, "flag"),
        ({"Flag": "true"}, "flag"),
        ({"When": "2020-01-01"}, "when"),
        ({"When": False}, "when"),
        ({"Items": {"Key": "ab"}}, "items"),
        ({"Items": ["ab"]}, "items.1.member"),
        ({"Items": [{"Key": "ab"}, None]}, "items.2.member"),
        ({"Items": [{"Key": {}}]}, "items.1.member.key"),
        ({"Tags": []}, "tags"),
        ({"Tags": {"a": 1}}, "tags.value"),
    ],
)
def test_wrong_json_type_is_named_with_its_place(value: dict[str, Any], place: str) -> None:
    code, message = refused(**{"Name": "ab", **value})
    assert code == "SerializationException"
    assert message.startswith(f"{place} ")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (
            {"Name": None},
            "Value null at 'name' failed to satisfy constraint: Member must not be null",
        ),
        (
            {"Name": "a"},
            "Value 'a' at 'name' failed to satisfy constraint: "
            "Member must have length greater than or equal to 2",
        ),
        (
            {"Name": "abcde"},
            "Value 'abcde' at 'name' failed to satisfy constraint: "
            "Member must have length less than or equal to 4",
        ),
        (
            {"Name": "AB"},
            "Value 'AB' at 'name' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: ^[a-z]*$",
        ),
        (
            {"Name": "abc\n"},
            "Value 'abc\n' at 'name' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: ^[a-z]*$",
        ),
        (
            {"Count": 0},
            "Value '0' at 'count' failed to satisfy constraint: "
            "Member must have value greater than or equal to 1",
        ),
        (
            {"Count": 51},
            "Value '51' at 'count' failed to satisfy constraint: "
            "Member must have value less than or equal to 50",
        ),
        (
            {"Kind": "three"},
            "Value 'three' at 'kind' failed to satisfy constraint: "
            "Member must satisfy enum value set: [one, two]",
        ),
        (
            {"Counts": {"one": 1, "three": 3}},
            "Value 'three' at 'counts.key' failed to satisfy constraint: "
            "Member must satisfy enum value set: [one, two]",
        ),
        (
            {"Items": [{}]},
            "Value null at 'items.1.member.key' failed to satisfy constraint: "
            "Member must not be null",
        ),
    ],
)
def test_an_invalid_value_is_refused_with_awss_message(value: dict[str, Any], problem: str) -> None:
    code, message = refused(**{"Name": "ab", **value})
    assert code == "ValidationException"
    assert message == f"1 validation error detected: {problem}"


def test_all_problems_are_in_one_message() -> None:
    code, message = refused(Count=0, Kind="three", Items=[])
    assert code == "ValidationException"
    assert message.startswith("4 validation errors detected: Value null at 'name' ")
    assert message.count("; Value ") == 3


def test_long_values_are_cut_in_messages() -> None:
    _, message = refused(Name="x" * 10_000)
    assert len(message) < 500
    assert "…" in message


def test_letters_of_any_language_are_letters() -> None:
    validate(SHAPE, {"Name": "ab", "Words": "日本語 Ünïcode ٣"})
    code, _ = refused(Name="ab", Words="semi;colon")
    assert code == "ValidationException"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
members = st.sampled_from([*SHAPES["In"]["members"], "Other"])


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None)
@given(value=st.dictionaries(members, json_values, max_size=5))
def test_any_json_passes_or_gets_a_code(value: dict[str, Any]) -> None:
    code = judged(SHAPE, value)
    assert code in (None, "SerializationException", "ValidationException")
    assert code is not None or isinstance(value["Name"], str)


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None)
@given(data=st.data())
def test_any_json_for_any_operation_gets_a_verdict(data: st.DataObject) -> None:
    model = catalog().services["cloudtrail"].model
    shape = model.operation_model(data.draw(st.sampled_from(model.operation_names))).input_shape
    named = st.dictionaries(st.sampled_from([*shape.members, "x"]), json_values, max_size=4)
    value = data.draw(named)
    code = judged(shape, value)
    assert code in (None, "SerializationException", "ValidationException")
    missing = [name for name in shape.required_members if value.get(name) is None]
    assert code is not None or not missing
