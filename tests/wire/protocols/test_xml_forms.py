"""Documents of a known form read as if they had been parsed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.wire.protocols.xml_body import Element, parse_xml
from opentrail.wire.protocols.xml_forms import XmlForms

FORM = '<a xmlns="urn:x"><b>{}</b>\n <c><d>{}</d></c><b>{}</b></a>'


def as_data(element: Element) -> Any:
    children = [as_data(child) for child in element.children]
    return element.name, element.local_name, element.attributes, element.text, children


def forms_that_know(*documents: str) -> XmlForms:
    forms = XmlForms()
    for document in documents:
        forms.read("key", document.encode(), as_data)
    return forms


@given(st.lists(st.text(max_size=8), min_size=3, max_size=3))
def test_texts_of_every_kind_read_as_the_parser_reads_them(texts: list[str]) -> None:
    forms = forms_that_know(*[FORM.format("1", "2", "3")] * 3)
    raw = FORM.format(*texts).encode("utf-8", "replace")
    try:
        parsed = as_data(parse_xml(raw))
    except ValueError:
        with pytest.raises(ValueError, match="XML"):
            forms.read("key", raw, as_data)
        return
    assert forms.read("key", raw, as_data) == parsed


@pytest.mark.parametrize(
    "known",
    [
        FORM.format("", " ", "x"),
        f"<?xml version='1.0' encoding='UTF-8'?>\n{FORM.format(1, 2, 3)}\n",
        f"<?xml version='1.0' encoding='latin-1'?>{FORM.format(1, 2, 3)}",
        "<a><b/><c>x</c></a>",
        '<a b="x>y"><c>x</c></a>',
        "<a><!-- b --><c>x</c></a>",
        "<a><c><![CDATA[x]]></c></a>",
        "<a><c>&lt;</c></a>",
        "<p:a xmlns:p='u'><p:c>x</p:c></p:a>",
        "<a>x<c>x</c>y</a>",
        "<a>x</a>",
        "<a>" * 100 + "x" + "</a>" * 100,
    ],
)
def test_documents_read_the_same_however_often_they_came(known: str) -> None:
    forms = forms_that_know(*[known] * 3)
    for raw in (known.encode(), known.replace(">x<", ">é&amp;<").encode(), known.encode() + b" "):
        assert forms.read("key", raw, as_data) == as_data(parse_xml(raw))


@pytest.mark.parametrize(
    "other",
    [
        "<a><b>1</b></a>",
        FORM.format("1", "2", "<e/>"),
        "<!DOCTYPE a [<!ENTITY e 'x'>]>" + FORM.format("1", "2", "&e;"),
        FORM.format("1", "2", "\x01"),
        FORM.format("1", "2", "3") + "more",
        FORM.format("1", "2", "3</b><b>4"),
    ],
)
def test_other_documents_are_parsed(other: str) -> None:
    forms = forms_that_know(*[FORM.format("1", "2", "3")] * 3)
    raw = other.encode()
    try:
        parsed = as_data(parse_xml(raw))
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error)[:10]):
            forms.read("key", raw, as_data)
        return
    assert forms.read("key", raw, as_data) == parsed


def test_a_reader_that_fails_leaves_the_form_as_it_was() -> None:
    forms = forms_that_know(*[FORM.format("1", "2", "3")] * 3)

    def fail(_: Element) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        forms.read("key", FORM.format("4", "5", "6").encode(), fail)
    raw = FORM.format("7", "8", "9").encode()
    assert forms.read("key", raw, as_data) == as_data(parse_xml(raw))
