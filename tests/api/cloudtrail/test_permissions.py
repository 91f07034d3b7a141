"""The table of permissions against AWS's models, and the resources in inputs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.api.cloudtrail.permissions import (
    ACCESS_RULES,
    EVERYTHING,
    AccessLevel,
    NamedResource,
    Origin,
)
from opentrail.core.arns import TYPES
from tests.api.inputs import OPERATIONS, valid_inputs
from tests.factories import ACCOUNT, REGION

ORIGIN = Origin(ACCOUNT, REGION)
OTHER = "210987654321"
STORE_ID = "0aa1b2c3-1111-2222-3333-444455556666"


def own(rest: str) -> str:
    return f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:{rest}"


def needed(operation: str, **given: Any) -> list[tuple[str, str]]:
    """Returns the actions that a call needs, and their resources."""
    return [
        (permission.action, resource.arn)
        for permission in ACCESS_RULES[operation].permissions
        if permission.is_needed(given)
        for resource in permission.resources(given, ORIGIN)
    ]


def test_table_has_exactly_the_operations_of_awss_models() -> None:
    assert set(ACCESS_RULES) == set(OPERATIONS)
    services = {name: model.service_model.service_name for name, model in OPERATIONS.items()}
    assert {name: rule.service for name, rule in ACCESS_RULES.items()} == services


def test_the_tables_members_exist_in_the_input() -> None:
    for operation, rule in ACCESS_RULES.items():
        members = set(OPERATIONS[operation].input_shape.members)
        named = {member.member for each in rule.permissions for member in each.members}
        named |= {each.if_given for each in rule.permissions if each.if_given}
        assert named <= members, operation
        assert {"TagsList", "Tags"} & members == {rule.tags} - {None}, operation


def test_each_operation_but_one_has_its_own_action() -> None:
    for operation in OPERATIONS.keys() - {"ListInsightsMetricData"}:
        rule = ACCESS_RULES[operation]
        assert rule.permissions[0].action == f"{rule.service}:{operation}"
        assert rule.permissions[0].if_given is None, operation


def test_reading_operations_have_reading_names() -> None:
    reads = {name for name, rule in ACCESS_RULES.items() if rule.level.is_read_only}
    words = ("Get", "List", "Describe", "Lookup", "Search")
    assert reads == {name for name in OPERATIONS if name.startswith(words)}
    assert {n for n, r in ACCESS_RULES.items() if r.level is AccessLevel.TAGGING} == {
        "AddTags",
        "RemoveTags",
    }


@pytest.mark.parametrize(
    ("operation", "given", "expected"),
    [
        ("GetTrail", {"Name": "t"}, [("cloudtrail:GetTrail", own("trail/t"))]),
        ("GetTrail", {"Name": own("trail/t")}, [("cloudtrail:GetTrail", own("trail/t"))]),
        (
            "GetTrail",
            {"Name": "arn:aws-cn:cloudtrail:eu-west-1:210987654321:trail/t"},
            [("cloudtrail:GetTrail", f"arn:aws:cloudtrail:eu-west-1:{OTHER}:trail/t")],
        ),
        ("GetTrail", {"Name": "arn:aws:x"}, [("cloudtrail:GetTrail", "arn:aws:x")]),
        ("ListTrails", {}, [("cloudtrail:ListTrails", EVERYTHING)]),
        ("DescribeTrails", {"trailNameList": ["t"]}, [("cloudtrail:DescribeTrails", EVERYTHING)]),
        (
            "CreateTrail",
            {"Name": "t", "TagsList": []},
            [("cloudtrail:CreateTrail", own("trail/t"))],
        ),
        (
            "CreateTrail",
            {"Name": "t", "TagsList": [{"Key": "k"}]},
            [("cloudtrail:CreateTrail", own("trail/t")), ("cloudtrail:AddTags", own("trail/t"))],
        ),
        (
            "CreateTrail",
            {"Name": own("trail/t")},
            [("cloudtrail:CreateTrail", own(f"trail/{own('trail/t')}"))],
        ),
        (
            "CreateEventDataStore",
            {"Name": "events"},
            [("cloudtrail:CreateEventDataStore", own("eventdatastore/*"))],
        ),
        (
            "CreateChannel",
            {
                "Name": "c",
                "Destinations": [
                    {"Type": "EVENT_DATA_STORE", "Location": own("eventdatastore/e")},
                    {"Type": "AWS_SERVICE", "Location": "config"},
                ],
            },
            [
                ("cloudtrail:CreateChannel", own("channel/*")),
                ("cloudtrail:CreateChannel", own("eventdatastore/e")),
            ],
        ),
        ("CreateDashboard", {"Name": "d"}, [("cloudtrail:CreateDashboard", own("dashboard/d"))]),
        (
            "GetEventDataStore",
            {"EventDataStore": STORE_ID},
            [("cloudtrail:GetEventDataStore", own(f"eventdatastore/{STORE_ID}"))],
        ),
        ("GetChannel", {"Channel": "c"}, [("cloudtrail:GetChannel", own("channel/c"))]),
        ("GetDashboard", {"DashboardId": "d"}, [("cloudtrail:GetDashboard", own("dashboard/d"))]),
        (
            "ListTags",
            {"ResourceIdList": [own("trail/t"), own("channel/c"), "t"]},
            [
                ("cloudtrail:ListTags", own("trail/t")),
                ("cloudtrail:ListTags", own("channel/c")),
                ("cloudtrail:ListTags", "t"),
            ],
        ),
        (
            "PutInsightSelectors",
            {"TrailName": "t", "EventDataStore": "e", "InsightsDestination": "i"},
            [
                ("cloudtrail:PutInsightSelectors", own("trail/t")),
                ("cloudtrail:PutInsightSelectors", own("eventdatastore/e")),
                ("cloudtrail:PutInsightSelectors", own("eventdatastore/i")),
            ],
        ),
        ("StartQuery", {"QueryAlias": "a"}, [("cloudtrail:StartQuery", EVERYTHING)]),
        ("CancelQuery", {"QueryId": STORE_ID}, [("cloudtrail:CancelQuery", EVERYTHING)]),
        (
            "ListInsightsMetricData",
            {"EventName": "e"},
            [("cloudtrail:LookupEvents", EVERYTHING)],
        ),
        (
            "ListInsightsMetricData",
            {"EventName": "e", "TrailName": "t"},
            [
                ("cloudtrail:LookupEvents", EVERYTHING),
                ("cloudtrail:ListInsightsData", own("trail/t")),
            ],
        ),
        (
            "PutAuditEvents",
            {"channelArn": own("channel/c")},
            [("cloudtrail-data:PutAuditEvents", own("channel/c"))],
        ),
    ],
)
def test_a_call_needs_its_actions_on_its_resources(
    operation: str, given: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert needed(operation, **given) == expected


@pytest.mark.parametrize(
    ("operation", "text", "code"),
    [
        ("GetTrail", f"arn:aws:cloudtrail:{REGION}:{OTHER}:trail/t", "TrailNotFoundException"),
        ("GetTrail", f"arn:aws:cloudtrail:{REGION}:{OTHER}:channel/c", "TrailNotFoundException"),
        ("AddTags", f"arn:aws:cloudtrail:{REGION}:{OTHER}:trail/t", "ResourceNotFoundException"),
        (
            "ListInsightsData",
            f"arn:aws:cloudtrail:{REGION}:{OTHER}:trail/t",
            "InvalidParameterException",
        ),
        (
            "GetEventDataStore",
            f"arn:aws:cloudtrail:{REGION}:{OTHER}:eventdatastore/e",
            "EventDataStoreNotFoundException",
        ),
        (
            "GetChannel",
            f"arn:aws:cloudtrail:{REGION}:{OTHER}:channel/c",
            "ChannelNotFoundException",
        ),
        (
            "GetDashboard",
            f"arn:aws:cloudtrail:{REGION}:{OTHER}:dashboard/d",
            "ResourceNotFoundException",
        ),
        ("PutAuditEvents", f"arn:aws:cloudtrail:{REGION}:{OTHER}:channel/c", "ChannelNotFound"),
    ],
)
def test_a_resource_of_another_account_is_not_found(operation: str, text: str, code: str) -> None:
    rule = ACCESS_RULES[operation]
    [resource] = [
        each
        for permission in rule.permissions
        for member in permission.members
        for each in member.named_in({member.member: text}, ORIGIN)
    ]
    assert resource.account == OTHER
    error = rule.not_found(resource, ACCOUNT)
    assert error.code == code
    assert text in error.message
    assert code in [shape.name for shape in OPERATIONS[operation].error_shapes]


def test_queries_of_other_accounts_stores_are_not_found() -> None:
    rule = ACCESS_RULES["CancelQuery"]
    everything = NamedResource(EVERYTHING, None, OTHER, EVERYTHING)
    assert rule.not_found(everything, ACCOUNT).code == "EventDataStoreNotFoundException"


def test_condition_keys_require_tags_and_types() -> None:
    for operation, rule in ACCESS_RULES.items():
        has_tags, sets_tags = rule.tags is not None, operation != "RemoveTags"
        keys = rule.condition_keys
        assert ("aws:TagKeys" in keys) == has_tags, operation
        assert ("aws:RequestTag/${TagKey}" in keys) == (has_tags and sets_tags), operation
        assert set(rule.resource_types) <= set(TYPES), operation


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(max_examples=300)
@given(st.data())
def test_any_valid_input_names_known_resources(data: st.DataObject) -> None:
    operation = data.draw(st.sampled_from(sorted(OPERATIONS)))
    found = needed(operation, **data.draw(valid_inputs(operation)))
    assert {action for action, _ in found} <= {
        permission.action for permission in ACCESS_RULES[operation].permissions
    }
    assert found[0][0] == ACCESS_RULES[operation].permissions[0].action
