"""Template parameters are shown only if the template certainly allows it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.capture.record.template_parameters import (
    echoed_parameters,
    without_template_parameters,
)
from opentrail.core.secrets.secret_names import HIDDEN


@pytest.mark.parametrize(
    ("template", "echoed"),
    [
        ('{"Parameters": {"A": {}, "B": {"NoEcho": true}, "C": {"noecho": "x"}}}', {"A"}),
        ('{"Parameters": {"A": {"NoEcho": false}, "B": "x"}}', {"A"}),
        ("Parameters:\n  A:\n    Type: S\n  B:\n    NoEcho: true\n", {"A"}),
        (
            "---\nParameters: # all\n  'A':\n    NoEcho: 'false'\n\n  # B:\n  C: {NoEcho: on}\n",
            {"A"},
        ),
        ("Parameters:\n  A: {Description: 'x: {, NoEcho'}\n  B: {Type: S}\n", {"B"}),
        ("Parameters:\n  A: *x\n  B: &x {}\n  C: !Y\n  D:\n    <<: *x\n", set()),
        ('Parameters:\n  A:\n    "No\\u0045cho": true\n  B:\n    Type: S\n', {"B"}),
        ('Parameters: {A: {Type: S}, \'B\': {NoEcho: true}, C: {Default: "}\\""}}', {"A", "C"}),
        ("{Parameters: {A: {D: 'it''s'}, B: {NoEcho: \"true\"}}, R: [a, {b: c}]}", {"A"}),
        ("Resources:\n  Parameters:\n    A: {}\n", None),
        ("Parameters:\n  A: {}\nParameters:\n  A: {NoEcho: true}\n", None),
        ("Parameters:\n  A: {}\n  A: {NoEcho: true}\n", None),
        ("Parameters:\n  A: {}\n just text\n", None),
        ("Parameters: {A: {}, # comment\n B: {NoEcho: true}}", None),
        ("Parameters: &x\n  A: {}\n", None),
        ('{"Parameters": {"A": {}}, "Parameters": {}}', None),
        ('{"Parameters": []}', None),
        ("{Parameters: {A: {}", None),
        ("", None),
        ("[]", None),
    ],
)
def test_parameter_is_shown_if_the_template_allows_it(
    template: str, echoed: set[str] | None
) -> None:
    found = echoed_parameters(template)
    assert found == (None if echoed is None else frozenset(echoed))


@given(st.text() | st.text().map(lambda text: f"Parameters: {{{text}") | st.text().map(repr))
def test_any_text_is_accepted(text: str) -> None:
    assert echoed_parameters(text) is None or isinstance(echoed_parameters(text), frozenset)


@given(
    st.dictionaries(
        st.sampled_from(["A", "B", "C"]),
        st.fixed_dictionaries(
            {}, optional={"NoEcho": st.booleans(), "Type": st.just("String"), "Default": st.text()}
        ),
        min_size=1,
    )
)
def test_json_and_flow_style_give_the_same(parameters: dict[str, dict[str, Any]]) -> None:
    """Also if the JSON is invalid because of a final comma."""
    expected = frozenset(n for n, one in parameters.items() if not one.get("NoEcho"))
    text = json.dumps({"Parameters": parameters})
    assert echoed_parameters(text) == expected
    loose = echoed_parameters(text[:-1] + ",}")
    assert loose is None or loose <= expected


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        ("text", HIDDEN),
        (["text", {}], [HIDDEN, {}]),
        ([{"ParameterValue": "x"}], [{"ParameterValue": HIDDEN}]),
        ([{"ParameterKey": "A"}], [{"ParameterKey": "A"}]),
        (
            [{"ParameterKey": "B", "UsePreviousValue": True}],
            [{"ParameterKey": "B", "UsePreviousValue": True}],
        ),
        (
            [{"ParameterKey": "A", "ParameterValue": "x"}, {"ParameterKey": ["A"], "Value": "y"}],
            [
                {"ParameterKey": "A", "ParameterValue": "x"},
                {"ParameterKey": ["A"], "Value": HIDDEN},
            ],
        ),
    ],
)
def test_values_of_any_form_are_hidden(parameters: Any, shown: Any) -> None:
    body = '{"Parameters": {"A": {}, "B": {"NoEcho": true}}}'
    given_ = {"TemplateBody": body, "Parameters": parameters}
    assert without_template_parameters("cloudformation", given_)["Parameters"] == shown


def test_other_services_are_left_alone() -> None:
    given_ = {"Parameters": [{"ParameterKey": "A", "ParameterValue": "x"}]}
    assert without_template_parameters("rds", given_) is given_


def test_reading_a_template_takes_linear_time() -> None:
    backslashes = "\\" * 300_000
    assert echoed_parameters(f'Parameters:\n  A:\n    X: "{backslashes}') == frozenset("A")
    assert echoed_parameters(f'Parameters:\n  A:\n    "{backslashes}" : x') == frozenset()
