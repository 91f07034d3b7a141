"""Expressions as JSON values."""

from __future__ import annotations

import json

import pytest

from opentrail.core.expression import from_document, parse, to_document
from tests.factories import MOMENT


@pytest.mark.parametrize(
    "text",
    [
        "name=Create* AND NOT user=admin last 2h",
        "a-text OR requestParameters.bucketName:logs",
        "is:failure (source!=iam OR ip=10.0.0.0/8) 2020-01-01..2020-01-02",
        "time>=2020-01-01 NOT (is:read user IN (a, b))",
    ],
)
def test_an_expression_comes_back_from_its_document(text: str) -> None:
    expression = parse(text, MOMENT)
    document = json.loads(json.dumps(to_document(expression)))
    assert from_document(document) == expression


def test_what_is_no_document_of_an_expression_is_refused() -> None:
    with pytest.raises(ValueError, match="'Xor' is no kind"):
        from_document(["Xor"])
