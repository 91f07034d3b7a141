"""Types: their names, and which coerce."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.lake.dialect.types import (
    Type,
    array,
    coerces,
    common,
    decimal,
    map_of,
    parse_type,
    row,
)

_PLAIN = st.sampled_from(
    [
        "boolean",
        "tinyint",
        "smallint",
        "integer",
        "bigint",
        "real",
        "double",
        "varchar",
        "varbinary",
        "json",
        "date",
        "ipaddress",
        "uuid",
    ]
).map(Type)
_TIMES = st.builds(
    Type,
    st.sampled_from(["timestamp", "timestamptz"]),
    st.just(()),
    st.just(()),
    st.integers(0, 6),
)
_DECIMALS = st.integers(1, 38).flatmap(
    lambda digits: st.integers(0, digits).map(lambda scale: decimal(digits, scale))
)
TYPES = st.recursive(
    _PLAIN | _TIMES | _DECIMALS,
    lambda inner: st.one_of(
        inner.map(array),
        st.builds(map_of, inner, inner),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda kinds: row(*((f"f{n}", kind) for n, kind in enumerate(kinds)))
        ),
    ),
    max_leaves=4,
)


@given(TYPES)
def test_a_type_is_read_from_its_name(kind: Type) -> None:
    assert parse_type(str(kind)) == kind


@given(TYPES, TYPES)
def test_both_types_coerce_to_their_common_type(a: Type, b: Type) -> None:
    both = common(a, b)
    assert (both is None) == (common(b, a) is None)
    if both is not None:
        assert coerces(a, both)
        assert coerces(b, both)


@pytest.mark.parametrize(
    "name",
    ["string", "varchar(", "decimal(50)", "time with time zone", "array", "timestamp(9)", ""],
)
def test_unknown_types_are_refused(name: str) -> None:
    assert parse_type(name) is None
