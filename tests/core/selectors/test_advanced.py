"""Advanced event selectors: fields, operators and values (cloudtrail-format §7.2)."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.core.errors import CloudTrailError
from opentrail.core.event_record import EventFields
from opentrail.core.selectors.advanced import (
    OPERATORS,
    AdvancedSelector,
    SelectorOwner,
    check_advanced,
    fields_test,
)

TRAIL, STORE = SelectorOwner.TRAIL, SelectorOwner.EVENT_DATA_STORE
Json = dict[str, Any]
DATA: dict[str, Json] = {
    "eventCategory": {"Equals": ["Data"]},
    "resources.type": {"Equals": ["AWS::S3::Object"]},
}
NETWORK: dict[str, Json] = {
    "eventCategory": {"Equals": ["NetworkActivity"]},
    "eventSource": {"Equals": ["s3.amazonaws.com"]},
}
MANAGEMENT: dict[str, Json] = {"eventCategory": {"Equals": ["Management"]}}
#: A valid value of each field.
VALUES = {
    "eventCategory": "Data",
    "readOnly": "true",
    "eventSource": "kms.amazonaws.com",
    "eventName": "PutObject",
    "eventType": "AwsApiCall",
    "resources.type": "AWS::S3::Object",
    "resources.ARN": "arn:aws:s3:::b/",
    "userIdentity.arn": "arn:aws:iam::111111111111:user/John",
    "sessionCredentialFromConsole": "true",
    "errorCode": "VpceAccessDenied",
    "vpcEndpointId": "vpce-1",
}
ANY, EQUALS, BOTH = tuple(OPERATORS), ("Equals",), ("Equals", "NotEquals")
TEXT_OF_STORE = dict.fromkeys(("eventSource", "eventName", "eventType", "userIdentity.arn"), ANY)
DATA_TABLE = {
    "readOnly": EQUALS,
    **TEXT_OF_STORE,
    "resources.type": EQUALS,
    "resources.ARN": ANY,
    "sessionCredentialFromConsole": BOTH,
}
NETWORK_TABLE = {
    "eventSource": EQUALS,
    "eventName": ANY,
    "errorCode": EQUALS,
    "vpcEndpointId": ANY,
}
#: The table of cloudtrail-format §7.2, repeated independently.
TABLE: dict[tuple[SelectorOwner, str], dict[str, tuple[str, ...]]] = {
    (TRAIL, "Management"): {"readOnly": EQUALS, "eventSource": ("NotEquals",)},
    (STORE, "Management"): {
        "readOnly": EQUALS,
        **TEXT_OF_STORE,
        "sessionCredentialFromConsole": BOTH,
    },
    (TRAIL, "Data"): DATA_TABLE,
    (STORE, "Data"): DATA_TABLE,
    (TRAIL, "NetworkActivity"): {**NETWORK_TABLE, "userIdentity.arn": ANY},
    (STORE, "NetworkActivity"): NETWORK_TABLE,
    **{
        (STORE, category): {}
        for category in ("Insight", "ConfigurationItem", "Evidence", "ActivityAuditLog")
    },
}
BASES = {"Management": MANAGEMENT, "Data": DATA, "NetworkActivity": NETWORK}


def selector(fields: dict[str, Json], **more: Any) -> Json:
    given = [{"Field": name, **operators} for name, operators in fields.items()]
    return {"FieldSelectors": given, **more}


def check(*given: Json, owner: SelectorOwner = TRAIL) -> None:
    check_advanced([AdvancedSelector.from_json(one) for one in given], owner)


def refusal(*given: Json, owner: SelectorOwner = TRAIL) -> str:
    with pytest.raises(CloudTrailError) as error:
        check(*given, owner=owner)
    assert error.value.code == "InvalidEventSelectorsException"
    return error.value.message


# JSON


@pytest.mark.parametrize("name", [None, "", "Log data events for only two S3 buckets"])
def test_values_are_read_back(name: str | None) -> None:
    fields = {**DATA, "eventName": {"Equals": ["a", "b"], "NotStartsWith": ["c"]}}
    given = selector(fields) if name is None else selector(fields, Name=name)
    assert AdvancedSelector.from_json(given).to_json() == given


def test_null_members_count_as_left_out() -> None:
    given = selector({"readOnly": {"Equals": ["true"], "StartsWith": None}}, Name=None)
    assert AdvancedSelector.from_json(given).to_json() == selector(
        {"readOnly": {"Equals": ["true"]}}
    )


# The table of fields and operators


@pytest.mark.parametrize(
    ("owner", "category"),
    TABLE,
    ids=[f"{owner.name} {category}" for owner, category in TABLE],
)
def test_each_category_has_only_its_fields_and_operators(
    owner: SelectorOwner, category: str
) -> None:
    table = TABLE[owner, category]
    base = BASES.get(category, {"eventCategory": {"Equals": [category]}})
    check(selector(base), owner=owner)
    for field, value in VALUES.items():
        if field == "eventCategory":
            continue
        for operator in OPERATORS:
            fields = {**base, field: {operator: [value]}}
            if operator in table.get(field, ()):
                check(selector(fields), owner=owner)
                continue
            message = refusal(selector(fields), owner=owner)
            if field in table:
                assert f"Operator {operator} is not supported for {field}" in message
                assert message.endswith(f"{', '.join(table[field])}.")
            else:
                assert f"Field {field} is not supported for {category} events" in message


@pytest.mark.parametrize("operator", OPERATORS[1:])
def test_a_category_needs_equals(operator: str) -> None:
    message = refusal(selector({"eventCategory": {operator: ["Data"]}}))
    assert f"Operator {operator} is not supported for eventCategory" in message


@pytest.mark.parametrize("category", ["management", "Insight", "ConfigurationItem", "*"])
def test_a_trail_accepts_events_of_three_categories(category: str) -> None:
    assert refusal(selector({"eventCategory": {"Equals": [category]}})) == (
        f"Value {category} for eventCategory is invalid with a trail. "
        "Valid values are Management, Data, NetworkActivity."
    )


@pytest.mark.parametrize("category", ["Insight", "ConfigurationItem", "Evidence"])
def test_a_store_of_another_category_accepts_only_that(category: str) -> None:
    other = selector({"eventCategory": {"Equals": [category]}})
    check(other, other, owner=STORE)
    message = refusal(selector(MANAGEMENT), other, owner=STORE)
    assert message.startswith(f"An event data store that takes {category} takes nothing else")
    check(*(selector(base) for base in BASES.values()), owner=STORE)


# Values


@pytest.mark.parametrize(
    ("base", "field", "operator", "value", "expected"),
    [
        (DATA, "readOnly", "Equals", "True", "Valid values are true, false."),
        (DATA, "sessionCredentialFromConsole", "NotEquals", "no", "Valid values are true, false."),
        (MANAGEMENT, "eventSource", "NotEquals", "iam.amazonaws.com", "rdsdata.amazonaws.com."),
        (NETWORK, "errorCode", "Equals", "AccessDenied", "Valid values are VpceAccessDenied."),
        (DATA, "resources.type", "Equals", "S3", "has the form AWS::S3::Object."),
        (DATA, "resources.type", "Equals", "AWS::S3::*", "has the form AWS::S3::Object."),
    ],
)
def test_invalid_value_is_named_with_field_and_expectation(
    base: dict[str, Json], field: str, operator: str, value: str, expected: str
) -> None:
    message = refusal(selector({**base, field: {operator: [value]}}))
    assert message.startswith(f"Value {value} for {field} is invalid")
    assert message.endswith(expected)


def test_types_that_aws_may_add_later_are_accepted() -> None:
    check(selector({**DATA, "resources.type": {"Equals": ["AWS::Brand::New"]}}))


def test_a_trail_can_exclude_both_event_sources() -> None:
    sources = ["kms.amazonaws.com", "rdsdata.amazonaws.com"]
    check(selector({**MANAGEMENT, "eventSource": {"NotEquals": sources}}))


@pytest.mark.parametrize(
    ("base", "field"),
    [
        (DATA, "eventCategory"),
        (DATA, "resources.type"),
        (NETWORK, "eventSource"),
    ],
)
def test_some_fields_have_exactly_one_value(base: dict[str, Json], field: str) -> None:
    (value,) = base[field]["Equals"]
    message = refusal(selector({**base, field: {"Equals": [value, value]}}))
    assert message == f"Equals of {field} must have exactly one value, but 2 are given."


@pytest.mark.parametrize(
    ("base", "field"), [(DATA, "resources.type"), (NETWORK, "eventSource"), (DATA, "eventCategory")]
)
def test_a_missing_required_field_is_named(base: dict[str, Json], field: str) -> None:
    fields = {name: operators for name, operators in base.items() if name != field}
    message = refusal(selector(fields or {"readOnly": {"Equals": ["true"]}}))
    assert message.startswith(f"Field {field} is required in ")


def test_a_repeated_field_is_refused() -> None:
    given = selector(DATA)
    given["FieldSelectors"].append({"Field": "resources.type", "Equals": ["AWS::SQS::Queue"]})
    expected = "Field resources.type occurs more than once in an event selector."
    assert refusal(given) == expected


def test_unknown_field_is_refused_with_the_supported_ones() -> None:
    message = refusal(selector({**DATA, "sourceIPAddress": {"Equals": ["192.0.2.1"]}}))
    assert message.startswith("Field sourceIPAddress is not supported. Supported fields are ")
    assert all(field in message for field in VALUES)


@pytest.mark.parametrize("operators", [{}, {"Equals": []}, {"Equals": None}])
def test_a_field_without_a_condition_is_refused(operators: Json) -> None:
    message = refusal(selector({**DATA, "eventName": operators}))
    assert message == "Field eventName has no operator with a value."


def test_a_required_and_excluded_value_is_a_conflict() -> None:
    check(selector({**DATA, "eventName": {"StartsWith": ["Put"], "NotEquals": ["PutObject"]}}))
    message = refusal(
        selector({**DATA, "eventName": {"Equals": ["a", "b"], "NotEquals": ["b", "c"]}})
    )
    assert message.startswith("Value b for eventName is in conflict")


# Limits


def test_a_selector_is_required() -> None:
    for owner in SelectorOwner:
        assert "at least one" in refusal(owner=owner)


def test_a_store_has_at_most_five_selectors() -> None:
    check(*[selector(DATA)] * 40)
    check(*[selector(DATA)] * 5, owner=STORE)
    assert refusal(*[selector(DATA)] * 6, owner=STORE) == (
        "An event data store has at most 5 advanced event selectors, but 6 are given."
    )


@pytest.mark.parametrize("owner", SelectorOwner, ids=lambda owner: owner.name)
def test_all_conditions_have_at_most_five_hundred_values(owner: SelectorOwner) -> None:
    def names(count: int) -> Json:
        return selector({**DATA, "eventName": {"Equals": [f"e{n}" for n in range(count)]}})

    check(names(248), names(248), owner=owner)
    assert refusal(names(248), names(249), owner=owner) == (
        "The conditions of all advanced event selectors have at most 500 values, but 501 are given."
    )


def test_messages_name_the_owner() -> None:
    assert {owner.value for owner in SelectorOwner} == {
        "trail",
        "event data store",
        "recording",
    }


# Tests of events


@pytest.mark.parametrize("field", sorted({field for table in TABLE.values() for field in table}))
def test_every_accepted_field_is_tested(field: str) -> None:
    needed = {"resources.type": DATA["resources.type"]} if field == "resources.ARN" else {}
    given = selector({**needed, field: {"Equals": [VALUES[field]]}})
    test = fields_test(AdvancedSelector.from_json(given).fields)
    assert test is not None
    assert not test(EventFields(resources=(("AWS::S3::Object", None),) if needed else ()))


@pytest.mark.parametrize("field", ["sourceIPAddress", "requestParameters"])
def test_an_unknown_stored_field_is_refused(field: str) -> None:
    stored = AdvancedSelector.from_json(selector({**DATA, field: {"Equals": ["a"]}}))
    with pytest.raises(CloudTrailError, match=f"Field {field} is not supported"):
        fields_test(stored.fields)
