"""JSON in parts, with unchanged bytes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.imports.json_records import (
    DUPLICATE_MEMBER,
    NOT_JSON,
    NOT_UTF8,
    TOO_DEEP,
    InvalidText,
    members_of,
    split,
)

#: Strings with quotation marks, backslashes and halves of surrogate pairs.
TEXTS = st.text(st.characters() | st.sampled_from('"\\u{}[],:\ud800\udc00'), max_size=12)
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def written(value: Any, indent: int | None) -> bytes:
    return json.dumps(value, indent=indent).encode()


@pytest.mark.slow
@pytest.mark.hypothesis
@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 0, 2]))
def test_a_list_is_split_into_its_elements(values: list[Any], indent: int | None) -> None:
    elements = [bytes(element) for element in split(written(values, indent))]
    assert [json.loads(element) for element in elements] == json.loads(written(values, indent))
    if indent is None:
        assert b", ".join(elements) == written(values, None)[1:-1]


@pytest.mark.slow
@pytest.mark.hypothesis
@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=5), st.sampled_from([None, 0, 2]))
def test_an_object_is_split_into_its_members(members: dict[str, Any], indent: int | None) -> None:
    cut = members_of(json.dumps(members, indent=indent).encode())
    assert len(cut) == len(members)
    assert [json.loads(bytes(part)) for part in cut.values()] == [
        json.loads(json.dumps(value)) for value in members.values()
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a":1,"a":1}', DUPLICATE_MEMBER),
        (b'{"a":1,"\\u0061":2}', DUPLICATE_MEMBER),
        (b'{"a":"\\ud800","a":1}', DUPLICATE_MEMBER),
        (b'{"\xff":1}', NOT_UTF8),
        (b'{"a":', NOT_JSON),
        (b'{"a":"\\ud83d\\ude00"', NOT_JSON),
        (b'{"a":1} {', NOT_JSON),
        (b"[]", NOT_JSON),
        (b'{"a":' + b"[" * 100_000, TOO_DEEP),
    ],
)
def test_an_invalid_object_is_rejected_with_a_reason(text: bytes, reason: str) -> None:
    with pytest.raises(InvalidText) as refused:
        members_of(text)
    assert refused.value.reason == reason


@pytest.mark.parametrize("text", [b"[", b"[1", b"[1] 2", b"[1,]", b"{}", b'["\\ud83d\\ude00"'])
def test_an_invalid_list_is_rejected(text: bytes) -> None:
    with pytest.raises(InvalidText) as refused:
        split(text)
    assert refused.value.reason == NOT_JSON


def test_detail_of_an_early_end_is_its_position() -> None:
    with pytest.raises(InvalidText) as refused:
        split(b'["\\ud83d\\ude00", ')
    assert refused.value.detail == "it ends early, at byte 17"
