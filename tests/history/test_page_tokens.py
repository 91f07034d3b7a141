"""Page tokens are read back unchanged, with their own key and search only."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.errors import CloudTrailError
from opentrail.history.page_tokens import PageToken, PageTokens

KEY, SEARCH = b"k" * 32, {"account": "123456789012", "start": None}
numbers = st.integers(0, 2**62)
tokens = st.builds(PageToken, numbers, numbers, numbers, numbers)


@given(tokens)
def test_a_written_token_can_be_read(token: PageToken) -> None:
    assert PageTokens(KEY).read(PageTokens(KEY).write(token, SEARCH), SEARCH) == token


@given(tokens, st.data())
def test_a_token_with_another_byte_is_refused(token: PageToken, data: st.DataObject) -> None:
    raw = bytearray(base64.urlsafe_b64decode(PageTokens(KEY).write(token, SEARCH)))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CloudTrailError, match="next token is not valid"):
        PageTokens(KEY).read(base64.urlsafe_b64encode(raw).decode(), SEARCH)


def test_token_is_valid_only_for_its_search() -> None:
    text = PageTokens(KEY).write(PageToken(1, 2, 3, 4), SEARCH)
    for tokens_of, search in (
        (PageTokens(b"x" * 32), SEARCH),
        (PageTokens(KEY), {**SEARCH, "account": "210987654321"}),
    ):
        with pytest.raises(CloudTrailError, match="next token is not valid"):
            tokens_of.read(text, search)
