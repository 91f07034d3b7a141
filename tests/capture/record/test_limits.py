"""Sizes of records and texts, as AWS limits them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.capture.record.limits import cut, limited


@given(st.text(max_size=3_000))
def test_a_text_is_cut_at_a_kilobyte_and_never_within_a_character(text: str) -> None:
    shown = cut(text)
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
def test_a_part_beyond_its_limit_is_replaced_by_awss_mark(member: str, limit: int) -> None:
    frame = len('{"a":""}')
    for size, is_kept in ((limit - frame, True), (limit - frame + 1, False)):
        record: dict[str, Any] = {"eventName": "E", "other": [1], member: {"a": "x" * size}}
        found = json.loads(limited(dict(record)))
        assert (found == record) is is_kept
        if not is_kept:
            mark = found.pop(member)
            assert found == {"eventName": "E", "other": [1]}
            assert mark == {
                "omitted": True,
                "originalSize": limit + 1,
                "reason": f"{member} too large: more than {limit} bytes",
            }


def test_what_is_not_there_is_not_marked() -> None:
    record = {"requestParameters": None, "responseElements": {}, "userAgent": "u" * 40_000}
    assert json.loads(limited(dict(record))) == record
