"""A record's limits, and its JSON bytes for any strings and numbers."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.capture.record_limits import encode_record, to_bytes, truncate
from tests.factories import a_record, record_bytes

FITTING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
ANY_TEXT = st.text(st.characters(), max_size=8)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(2**62, 2**66) | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=10,
)


def written(value: Any) -> Any:
    return json.loads(to_bytes(value).decode("utf-8", "strict"))


def opentrail_block(record: dict[str, Any]) -> dict[str, Any]:
    return dict((written(record).get("additionalEventData") or {}).get("opentrail") or {})


# Valid JSON stays unchanged


@pytest.mark.hypothesis
@settings(deadline=None)
@given(FITTING)
def test_a_valid_json_value_is_read_back(value: Any) -> None:
    assert written(value) == value


def test_bytes_are_compact_in_member_order() -> None:
    assert to_bytes(a_record()) == record_bytes(a_record())
    assert to_bytes({"b": 1, "a": "ü"}) == '{"b":1,"a":"ü"}'.encode()


def test_record_that_needs_no_change_gets_no_mark() -> None:
    assert to_bytes(a_record()) == record_bytes(a_record())
    assert "additionalEventData" not in written(a_record())


# Other values are converted and marked


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None, max_examples=200)
@given(ANYTHING)
def test_any_input_becomes_valid_utf8_json(value: Any) -> None:
    raw = to_bytes(value)
    json.loads(raw.decode("utf-8", "strict"), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\ud800", "\ufffd"),
        ("a\udfffb", "a\ufffdb"),
        ("\udc80\udc81", "\ufffd\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\udfff\ud800x", "\ufffd\ufffdx"),
    ],
)
def test_a_lone_surrogate_becomes_the_replacement_character(text: str, shown: str) -> None:
    assert written([text, {text: 1}]) == [shown, {shown: 1}]


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**30])
def test_a_number_beyond_64_bits_becomes_text(number: int) -> None:
    """Beyond a signed one: databases and other languages have such integers."""
    assert written({"n": number}) == {"n": str(number)}


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 0])
def test_a_number_of_64_bits_stays_a_number(number: int) -> None:
    assert written({"n": number}) == {"n": number}


@pytest.mark.parametrize("value", ["\ud800", 2**63, 2**70, float("nan"), float("inf")])
def test_a_changed_record_is_marked(value: Any) -> None:
    record = a_record(requestParameters={"x": value})
    assert opentrail_block(record) == {"altered": True}


def test_the_mark_is_added_to_the_blocks_members() -> None:
    record = a_record(
        requestParameters={"x": "\ud800"},
        additionalEventData={"SignatureVersion": "SigV4", "opentrail": {"duplicateKeys": True}},
    )
    shown = written(record)["additionalEventData"]
    assert shown == {
        "SignatureVersion": "SigV4",
        "opentrail": {"duplicateKeys": True, "altered": True},
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_infinite_float_is_recorded_as_text(value: float) -> None:
    shown = written({"x": value})["x"]
    assert isinstance(shown, str)
    assert str(float(shown)) == str(value)


def test_values_of_other_types_are_recorded_as_text() -> None:
    """CBOR can contain decimals and tuples."""
    assert written({"x": Decimal("1.50")}) == {"x": "1.50"}
    assert written({"x": (1, "\ud800")}) == {"x": [1, "\ufffd"]}
    assert written({"x": datetime(2020, 1, 1, 9, tzinfo=UTC)})["x"].startswith("2020-01-01")
    assert isinstance(written({"x": b"\xff"})["x"], str)


def test_names_of_other_types_become_text() -> None:
    assert written({1: "a", None: "b", "c": "d"}) == {"1": "a", "None": "b", "c": "d"}


@pytest.mark.parametrize("surrogate", ["", "\ud800"])
@pytest.mark.parametrize("depth", [250, 300, 512])
def test_a_deeply_nested_value_does_not_raise(depth: int, surrogate: str) -> None:
    """Bodies may be nested 512 levels deep without losing their record."""
    value: Any = surrogate
    for _ in range(depth // 2):
        value = {"a": [value]}
    assert written({"eventID": "e", "x": value})["eventID"] == "e"


# Sizes


@given(st.text(max_size=3_000))
def test_string_is_cut_at_a_kilobyte_between_characters(text: str) -> None:
    shown = truncate(text)
    assert len(shown.encode("utf-8", "replace")) <= 1_024
    assert (
        text.encode("utf-8", "replace")
        .decode()
        .startswith(shown.encode("utf-8", "replace").decode())
    )
    if len(text.encode("utf-8", "replace")) <= 1_024:
        assert len(shown) == len(text)


@pytest.mark.parametrize(
    ("member", "limit"),
    [
        ("requestParameters", 102_400),
        ("responseElements", 102_400),
        ("additionalEventData", 28_672),
    ],
)
def test_an_oversized_part_becomes_awss_mark(member: str, limit: int) -> None:
    frame = len('{"a":""}')
    for size, is_kept in ((limit - frame, True), (limit - frame + 1, False)):
        record: dict[str, Any] = {"eventName": "E", "other": [1], member: {"a": "x" * size}}
        found = json.loads(encode_record(dict(record)))
        assert (found == record) is is_kept
        if not is_kept:
            mark = found.pop(member)
            assert found == {"eventName": "E", "other": [1]}
            assert mark == {
                "omitted": True,
                "originalSize": limit + 1,
                "reason": f"{member} too large: more than {limit} bytes",
            }


def test_missing_entries_are_not_marked() -> None:
    record: dict[str, Any] = {
        "requestParameters": None,
        "responseElements": {},
        "userAgent": "u" * 40_000,
    }
    assert json.loads(encode_record(dict(record))) == record
