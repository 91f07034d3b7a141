"""Patterns match like a plain matcher, in linear time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.policies.patterns import like_any
from tests.core.policies import naive

letters = st.text(st.sampled_from("ab*?.$\n"), max_size=12)


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(max_examples=2000, deadline=None)
@given(pattern=letters, text=st.text(st.sampled_from("ab.$\n"), max_size=16))
def test_patterns_match_like_a_plain_matcher(pattern: str, text: str) -> None:
    assert like_any([pattern], True)(text, {}) == naive.glob(pattern, text)


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(max_examples=2000, deadline=None)
@given(before=letters, value=letters, after=letters, text=letters)
def test_values_of_variables_are_literal(before: str, value: str, after: str, text: str) -> None:
    context = {"x:v": (value,)}
    pattern = f"{before}${{x:v}}{after}"
    assert like_any([pattern], True)(f"{value}", context) == naive.like(
        pattern, value, context, True
    )
    assert like_any(["${x:v}"], True)(text, context) == (text == value)


def test_many_wildcards_take_no_exponential_time() -> None:
    matches = like_any(["*a" * 200 + "b"], True)
    assert not matches("a" * 20_000, {})


def test_colons_and_slashes_match_like_letters() -> None:
    assert like_any(["arn:aws:s3:*"], True)("arn:aws:s3:::bucket/key", {})
