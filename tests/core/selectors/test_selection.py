"""A set of selectors: its matching requests, and its unchanged document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from opentrail.api.cloudtrail.operation import validate
from opentrail.core.errors import CloudTrailError
from opentrail.core.selectors import (
    DEFAULT,
    STORE_DEFAULT,
    Selection,
    SelectorOwner,
    predicate_of,
    read_selection,
)
from opentrail.core.selectors.advanced import OPERATORS
from tests.core.selectors.test_advanced import VALUES
from tests.factories import catalog

Json = dict[str, Any]
INPUT = catalog().services["cloudtrail"].model.operation_model("PutEventSelectors").input_shape
DATA = [
    {"Field": "eventCategory", "Equals": ["Data"]},
    {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
]

# Any input that AWS's model accepts; often plausible, so that it gets far.
texts = st.text(min_size=1, max_size=8).filter(lambda text: "\n" not in text[:1])
names = st.sampled_from(sorted(VALUES)) | st.from_regex(r"[\w.]{1,12}", fullmatch=True)
good = st.sampled_from(
    [*VALUES.values(), "false", "Management", "NetworkActivity", "Insight", "rdsdata.amazonaws.com"]
)
conditions = st.dictionaries(
    st.sampled_from(OPERATORS), st.none() | st.lists(good | texts, min_size=1, max_size=3)
)
fields = st.builds(lambda field, given: {"Field": field, **given}, names, conditions)
category = st.sampled_from(["Management", "Data", "NetworkActivity", "Evidence"]).map(
    lambda value: {"Field": "eventCategory", "Equals": [value]}
)
advanced = st.builds(
    lambda first, more, named: {"FieldSelectors": [*first, *more], **named},
    st.lists(category, min_size=1, max_size=2),
    st.lists(fields, max_size=4),
    st.sampled_from([{}, {"Name": None}, {"Name": ""}, {"Name": "a name"}]),
)
arns = st.sampled_from(
    ["arn:aws:s3", "arn:aws:s3:::b/", "arn:aws:lambda", "arn:aws:dynamodb", "arn:aws:s3:::b"]
)
kinds = st.sampled_from(["AWS::S3::Object", "AWS::Lambda::Function", "AWS::DynamoDB::Table"])
resources = st.fixed_dictionaries(
    {},
    optional={
        "Type": st.none() | kinds | st.text(max_size=5),
        "Values": st.none() | st.lists(arns | st.text(max_size=5), max_size=3),
    },
)
basic = st.fixed_dictionaries(
    {},
    optional={
        "ReadWriteType": st.sampled_from([None, "All", "ReadOnly", "WriteOnly"]),
        "IncludeManagementEvents": st.none() | st.booleans(),
        "DataResources": st.none() | st.lists(resources, max_size=2),
        "ExcludeManagementEventSources": st.none() | st.lists(good, max_size=2),
    },
)
requests = st.fixed_dictionaries(
    {"TrailName": st.just("my-trail")},
    optional={
        "EventSelectors": st.none() | st.lists(basic, max_size=6),
        "AdvancedEventSelectors": st.none() | st.lists(advanced, max_size=3),
    },
)


def chosen_or_refused(request: Json, taker: SelectorOwner) -> Selection | CloudTrailError:
    try:
        return read_selection(request, taker)
    except CloudTrailError as error:
        return error


@pytest.mark.campaign
@pytest.mark.hypothesis
@pytest.mark.slow
@settings(deadline=None, max_examples=2_000)
@given(requests, st.sampled_from(SelectorOwner))
def test_model_inputs_are_accepted_or_refused(request: Json, taker: SelectorOwner) -> None:
    validate(INPUT, request)
    selection = chosen_or_refused(request, taker)
    if isinstance(selection, CloudTrailError):
        assert selection.code == "InvalidEventSelectorsException"
        assert selection.message
        return
    document = selection.document()
    validate(INPUT, {"TrailName": "my-trail", **document})
    assert Selection.from_document(json.loads(json.dumps(document))) == selection
    assert Selection.from_document(document).document() == document
    assert read_selection(document, taker) == selection
    predicate_of(selection)


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None)
@given(st.lists(advanced, min_size=1, max_size=3))
@example([{"FieldSelectors": DATA}])
def test_an_advanced_selector_is_serialized_unchanged(given: list[Json]) -> None:
    document = {
        "AdvancedEventSelectors": [
            {
                **({"Name": s["Name"]} if s.get("Name") is not None else {}),
                "FieldSelectors": [
                    {name: value for name, value in f.items() if value is not None}
                    for f in s["FieldSelectors"]
                ],
            }
            for s in given
        ]
    }
    assert Selection.from_document(document).document() == document


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None)
@given(st.lists(basic, min_size=1, max_size=3))
def test_a_basic_selector_is_serialized_with_its_defaults(given: list[Json]) -> None:
    document = Selection.from_document({"EventSelectors": given}).document()
    assert Selection.from_document(document).document() == document
    for before, after in zip(given, document["EventSelectors"], strict=True):
        assume("DataResources" not in before)
        assert {**after, **{k: v for k, v in before.items() if v is not None}} == after


# One kind or the other


def test_an_unconfigured_trail_selects_all_management_events() -> None:
    assert Selection.from_document(None) == DEFAULT
    assert DEFAULT.document() == {
        "EventSelectors": [
            {
                "ReadWriteType": "All",
                "IncludeManagementEvents": True,
                "DataResources": [],
                "ExcludeManagementEventSources": [],
            }
        ]
    }
    assert not DEFAULT.custom


def test_an_unconfigured_store_selects_the_same() -> None:
    assert STORE_DEFAULT.document() == {
        "AdvancedEventSelectors": [
            {
                "Name": "Default management events",
                "FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}],
            }
        ]
    }
    assert read_selection(STORE_DEFAULT.document(), SelectorOwner.EVENT_DATA_STORE) == STORE_DEFAULT
    assert predicate_of(STORE_DEFAULT).decides("Management") is True


@pytest.mark.parametrize(
    "given",
    [
        [{}],
        [{"ReadWriteType": "All", "IncludeManagementEvents": True, "DataResources": []}],
    ],
)
def test_the_default_selector_put_back_is_not_custom(given: list[Json]) -> None:
    assert not read_selection({"EventSelectors": given}, SelectorOwner.TRAIL).custom


@pytest.mark.parametrize(
    "given",
    [
        {"EventSelectors": [{"ReadWriteType": "WriteOnly"}]},
        {"EventSelectors": [{}, {}]},
        {
            "AdvancedEventSelectors": [
                {"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}]}
            ]
        },
    ],
)
def test_any_other_selection_is_custom(given: Json) -> None:
    assert read_selection(given, SelectorOwner.TRAIL).custom


def refusal(given: Json, taker: SelectorOwner = SelectorOwner.TRAIL) -> str:
    with pytest.raises(CloudTrailError) as error:
        read_selection(given, taker)
    assert error.value.code == "InvalidEventSelectorsException"
    return error.value.message


def test_a_document_has_exactly_one_kind_of_selectors() -> None:
    both = {"EventSelectors": [{}], "AdvancedEventSelectors": [{"FieldSelectors": DATA}]}
    assert refusal(both) == "Give either EventSelectors or AdvancedEventSelectors, not both."
    expected = "EventSelectors or AdvancedEventSelectors is required."
    assert refusal({}) == expected
    assert refusal({"EventSelectors": None, "AdvancedEventSelectors": []}) == expected
    assert "1 to 5" in refusal({"EventSelectors": []})


def test_empty_list_of_the_other_kind_is_ignored() -> None:
    advanced_only = {"EventSelectors": [], "AdvancedEventSelectors": [{"FieldSelectors": DATA}]}
    assert list(read_selection(advanced_only, SelectorOwner.TRAIL).document()) == [
        "AdvancedEventSelectors"
    ]
    basic_only: dict[str, Any] = {"EventSelectors": [{}], "AdvancedEventSelectors": []}
    assert list(read_selection(basic_only, SelectorOwner.TRAIL).document()) == ["EventSelectors"]


def test_an_event_data_store_has_advanced_selectors_only() -> None:
    assert "at least one advanced" in refusal(
        {"EventSelectors": [{}]}, SelectorOwner.EVENT_DATA_STORE
    )


def test_resource_types_of_both_kinds_are_returned() -> None:
    of_basic = [{"DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}]}]
    assert Selection.from_document({"EventSelectors": of_basic}).resource_types == {
        "AWS::S3::Object"
    }
    of_advanced = Selection.from_document({"AdvancedEventSelectors": [{"FieldSelectors": DATA}]})
    assert of_advanced.resource_types == {"AWS::S3::Object"}
    assert DEFAULT.resource_types == frozenset()


@pytest.mark.parametrize(
    ("more", "logs_writes"),
    [
        ([], True),
        ([{"Field": "readOnly", "Equals": ["true"]}], False),
        ([{"Field": "readOnly", "Equals": ["false"]}], True),
        ([{"Field": "eventSource", "NotEquals": ["kms.amazonaws.com"]}], True),
    ],
)
def test_a_selection_knows_whether_it_logs_writes(more: list[Json], logs_writes: bool) -> None:
    management = {"Field": "eventCategory", "Equals": ["Management"]}
    given = [{"FieldSelectors": [management, *more]}]
    selection = read_selection({"AdvancedEventSelectors": given}, SelectorOwner.TRAIL)
    assert selection.logs("Management")
    assert selection.logs("Management", only_writes=True) is logs_writes
    assert not selection.logs("Data")


@pytest.mark.parametrize(
    ("read_write", "logs_writes"), [("All", True), ("WriteOnly", True), ("ReadOnly", False)]
)
def test_basic_selection_that_logs_only_reads_still_logs(
    read_write: str, logs_writes: bool
) -> None:
    given = {"EventSelectors": [{"ReadWriteType": read_write}]}
    selection = read_selection(given, SelectorOwner.TRAIL)
    assert selection.logs("Management")
    assert selection.logs("Management", only_writes=True) is logs_writes
    assert not selection.logs("Data")
