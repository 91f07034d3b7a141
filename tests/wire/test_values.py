"""Scalars on the wire, and in JSON."""

import base64
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from botocore.model import Shape
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.wire.values import (
    ByShape,
    Decoder,
    JsonDocument,
    WireTime,
    from_json,
    from_text,
    timestamp,
)

NINE = datetime(2020, 1, 1, 9, tzinfo=UTC)


def shape(kind: str) -> Shape:
    return Shape("Example", {"type": kind})


# Text


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("integer", "42", 42),
        ("long", "-9223372036854775808", -(2**63)),
        ("integer", "many", "many"),
        ("integer", "", ""),
        ("float", "1.5", 1.5),
        ("double", "-1e3", -1000.0),
        ("float", "nan", "nan"),
        ("double", "Infinity", "Infinity"),
        ("double", "much", "much"),
        ("boolean", "true", True),
        ("boolean", "false", False),
        ("boolean", "True", True),
        ("boolean", "1", "1"),
        ("blob", "aGVsbG8=", b"hello"),
        ("blob", "no base64!", "no base64!"),
        ("timestamp", "2020-01-01T09:00:00Z", NINE),
        ("timestamp", "never", "never"),
        ("string", "42", "42"),
        ("character", "x", "x"),
    ],
)
def test_text_becomes_a_typed_value_or_stays(kind: str, text: str, value: object) -> None:
    decoded = from_text(shape(kind))(text)
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.hypothesis
@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_an_integer_is_read_back_from_its_text(number: int) -> None:
    assert from_text(shape("long"))(str(number)) == number


@pytest.mark.hypothesis
@settings(deadline=None)
@given(st.binary(max_size=40))
def test_bytes_are_read_back_from_base64(raw: bytes) -> None:
    assert from_text(shape("blob"))(base64.b64encode(raw).decode()) == raw
    assert from_json(shape("blob"))(base64.b64encode(raw).decode()) == raw


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=14))]) | st.none()),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


def test_time_finer_than_a_datetime_keeps_its_text() -> None:
    exact = timestamp("2025-01-21T17:39:10.379877250Z")
    assert isinstance(exact, WireTime)
    assert exact == datetime(2025, 1, 21, 17, 39, 10, 379877, UTC)
    assert exact.text == "2025-01-21T17:39:10.379877250Z"
    assert not isinstance(timestamp("2025-01-21T17:39:10.379877Z"), WireTime)


KINDS = ["integer", "float", "boolean", "blob", "timestamp", "string"]
EXTREMES = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), -1e300, 10**400]


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None, max_examples=300)
@given(kind=st.sampled_from(KINDS), value=ANYTHING | st.sampled_from(EXTREMES))
def test_any_json_or_cbor_value_is_decodable(kind: str, value: Any) -> None:
    from_json(shape(kind))(value)


@pytest.mark.hypothesis
@settings(deadline=None, max_examples=300)
@given(
    kind=st.sampled_from(KINDS),
    value=st.text(max_size=12)
    | st.text(st.sampled_from("0123456789.-+:eTZ GMTJan,"), max_size=30)
    | st.sampled_from(["9" * 5000, "9" * 400, "0001-01-01T00:00:00+14:00"])
    | st.just({"": "a form may hold more where a scalar belongs"}),
)
def test_text_of_any_kind_can_be_decoded(kind: str, value: Any) -> None:
    from_text(shape(kind))(value)


@pytest.mark.parametrize("extreme", EXTREMES[:2], ids=["first", "last"])
@pytest.mark.parametrize("hours", [-14, 14])
def test_time_outside_of_utcs_range_does_not_raise(extreme: datetime, hours: int) -> None:
    """CBOR's tag 0 can contain such a time (year 1 east of Greenwich)."""
    moment = extreme.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert timestamp(moment) is not None


@pytest.mark.parametrize("kind", ["string", "integer", "boolean", "double", "list"])
def test_valid_json_values_are_left_unchanged(kind: str) -> None:
    value = {"a": [1, True, None, "x"]}
    assert from_json(shape(kind))(value) is value


# Times


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (1577869200, NINE),
        (1577869200.5, NINE + timedelta(seconds=0.5)),
        ("1577869200", NINE),
        ("1577869200.25", NINE + timedelta(seconds=0.25)),
        ("2020-01-01T09:00:00Z", NINE),
        ("2020-01-01T09:00:00", NINE),
        ("2020-01-01T10:00:00+01:00", NINE),
        ("2020-01-01T09:00:00.000Z", NINE),
        ("Wed, 01 Jan 2020 09:00:00 GMT", NINE),
        (NINE.astimezone(timezone(timedelta(hours=5))), NINE),
        (NINE.replace(tzinfo=None), NINE),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_every_form_of_time_from_sdks_is_read(value: Any, moment: datetime) -> None:
    found = timestamp(value)
    assert found == moment
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize("value", ["", "tomorrow", True, None, [], {}, 1e300, "nan", "inf", b"1"])
def test_an_invalid_time_is_unchanged(value: Any) -> None:
    found = timestamp(value)
    assert found == value
    assert type(found) is type(value)


# JSON


def test_json_is_read_unchanged() -> None:
    document = JsonDocument(b'{"a": [1, 2.5, true, null, "x"]}')
    assert document.value == {"a": [1, 2.5, True, None, "x"]}
    assert not document.duplicate_keys


def test_last_of_equal_keys_is_kept_and_marked() -> None:
    document = JsonDocument(b'{"a": {"b": 1, "b": 2}}')
    assert document.value == {"a": {"b": 2}}
    assert document.duplicate_keys


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32-le"])
def test_json_is_read_in_each_valid_encoding(encoding: str) -> None:
    document = JsonDocument('{"é": {"b": 1, "b": 1e400}}'.encode(encoding))
    assert document.value == {"é": {"b": "1e400"}}
    assert document.duplicate_keys


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", "9223372036854775808"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("1" * 5000, "1" * 5000),
        ("1e308", 1e308),
        ("1e400", "1e400"),
        ("-1e400", "-1e400"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("-Infinity", "-Infinity"),
    ],
)
def test_an_oversized_number_is_kept_as_text(text: str, value: object) -> None:
    found = JsonDocument(text.encode()).value
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"{'a': 1}", b'{"a":}', b"\xff", b'"\x01"', b"01", b"//"]
)
def test_invalid_json_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        JsonDocument(raw)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"a": {"b": 1, "b": 2}, "c":'])
def test_deeply_nested_json_is_refused(opening: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        JsonDocument(opening * 200_000)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)


@pytest.mark.hypothesis
@settings(deadline=None)
@given(JSON)
@pytest.mark.slow
def test_json_is_read_back(value: Any) -> None:
    document = JsonDocument(json.dumps(value).encode())
    assert document.value == value
    assert not document.duplicate_keys


@pytest.mark.hypothesis
@settings(deadline=None)
@given(st.binary(max_size=40) | st.text(st.sampled_from('{}[]",:01e-.NaInft\\u'), max_size=30))
def test_any_bytes_are_json_or_refused(raw: bytes | str) -> None:
    try:
        value = JsonDocument(raw if isinstance(raw, bytes) else raw.encode()).value
    except ValueError:
        return
    assert not isinstance(value, float) or math.isfinite(value)


# Functions by shape


def test_recursive_shape_has_one_function_on_all_threads() -> None:
    functions = ByShape()
    is_making, go_on = threading.Event(), threading.Event()
    made: list[str] = []

    def outer() -> Decoder:
        made.append("outer")
        inner = functions.memoize("inner", lambda: functions.memoize("outer", outer))
        is_making.set()
        assert go_on.wait(60)
        return lambda value: value if not value else inner(value[1:])

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(functions.memoize, "outer", outer)
        assert is_making.wait(60)
        # A function complete except for the outer one, and the outer one itself.
        others = [
            threads.submit(lambda: functions.memoize("inner", outer)("abc")),
            threads.submit(lambda: functions.memoize("outer", outer)("abc")),
        ]
        go_on.set()
        assert [other.result(60) for other in others] == ["", ""]
        assert first.result(60)("abc") == ""
    assert made == ["outer"]
