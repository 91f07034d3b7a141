"""Fields of the query protocols."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.wire.form_fields import (
    field_values,
    form_text,
    last_value,
    query_pairs,
    unquoted,
)
from opentrail.wire.message import Request

FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.mark.hypothesis
@settings(deadline=None)
@given(st.text(st.sampled_from("aB=&;+% é\udc80\n") | st.characters(), max_size=60))
def test_fields_of_a_form_match_the_standard_library(text: str) -> None:
    body = text.encode("utf-8", "surrogatepass")
    read = body.decode("utf-8", "surrogateescape")
    expected = parse_qsl(read, keep_blank_values=True, errors="surrogateescape")
    assert query_pairs(Request("POST", "/", "", FORM, body)) == expected
    assert query_pairs(Request("POST", "/", text, {})) == parse_qsl(
        text, keep_blank_values=True, errors="surrogateescape"
    )


PARTS = ["Action", "%41ction", "Acti%6fn", "Acti%6Fn", "action", "%2541ction", "Actio", "n", "."]
PARTS += ["=", "=", "&", "&", "&", "+", "%26", "%3D", "x", "é", "\n", ";"]


@given(
    body=st.lists(st.sampled_from(PARTS), max_size=20).map("".join),
    query=st.lists(st.sampled_from(PARTS), max_size=9).map("".join),
)
def test_a_fields_values_come_from_all_its_occurrences(body: str, query: str) -> None:
    request = Request("POST", "/", query, FORM, body.encode())
    values = [value for name, value in query_pairs(request) if name == "Action"]
    given_values = map(unquoted, field_values(form_text(request), "Action"))
    assert list(dict.fromkeys(given_values)) == list(dict.fromkeys(values))
    of_form = query_pairs(Request("POST", "/", "", FORM, request.body))
    assert last_value(request, "Action") == dict(of_form).get("Action", "")
