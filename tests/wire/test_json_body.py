"""JSON values by shape."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.wire.body_formats import json_decoders
from tests.factories import catalog


def decode(service: str, operation: str, value: Any) -> Any:
    model = catalog().services[service].operation(operation)
    assert model is not None
    return json_decoders(service).decoder(model.input_shape)(value)


def test_scalars_become_values_of_their_shapes() -> None:
    asked = {"StartTime": 1577869200, "MaxResults": 5, "EventCategory": "insight"}
    assert decode("cloudtrail", "LookupEvents", asked) == {
        "StartTime": datetime(2020, 1, 1, 9, tzinfo=UTC),
        "MaxResults": 5,
        "EventCategory": "insight",
    }


def test_blob_is_read_from_base64_at_any_depth() -> None:
    asked = {
        "TableName": "t",
        "Item": {"k": {"B": "aGk="}, "l": {"L": [{"M": {"x": {"BS": ["aGk="]}}}]}},
    }
    assert decode("dynamodb", "PutItem", asked) == {
        "TableName": "t",
        "Item": {"k": {"B": b"hi"}, "l": {"L": [{"M": {"x": {"BS": [b"hi"]}}}]}},
    }


def test_member_has_the_models_name_not_the_wires() -> None:
    asked = {"brokerName": "b", "logs": {"audit": True}, "tags": {"brokerName": "kept"}}
    assert decode("mq", "CreateBroker", asked) == {
        "BrokerName": "b",
        "Logs": {"Audit": True},
        "Tags": {"brokerName": "kept"},
    }


def test_null_is_left_out_at_every_depth() -> None:
    asked = {"TableName": "t", "Key": {"k": {"S": "a", "N": None}}, "ReturnValues": None}
    assert decode("dynamodb", "DeleteItem", asked) == {"TableName": "t", "Key": {"k": {"S": "a"}}}


def test_unknown_members_keep_their_names() -> None:
    asked = {"TableName": "t", "Newest": {"x": [1]}}
    assert decode("dynamodb", "DescribeTable", asked) == asked


@pytest.mark.parametrize("value", ["text", 5, None, ["list"], True])
def test_value_of_the_wrong_kind_is_kept_unchanged(value: Any) -> None:
    assert decode("dynamodb", "PutItem", value) == value
    kept = decode("dynamodb", "PutItem", {"Item": value, "TableName": value})
    assert kept == ({} if value is None else {"Item": value, "TableName": value})


def test_a_document_is_kept_raw() -> None:
    """A document type has no shape: the caller chooses numbers, nulls and names."""
    schema = {"json": {"a": [None, 1, {"b": None}]}}
    asked = {
        "modelId": "m",
        "toolConfig": {"tools": [{"toolSpec": {"name": "n", "inputSchema": schema}}]},
    }
    assert decode("bedrock-runtime", "Converse", asked) == asked


def test_decoders_are_made_once_for_each_shape() -> None:
    shape = catalog().services["dynamodb"].model.shape_for("PutItemInput")
    assert json_decoders("dynamodb").decoder(shape) is json_decoders("dynamodb").decoder(shape)


def test_namesake_shapes_of_services_stay_separate() -> None:
    """Both services have a `Tag`, with other members."""
    iam = decode("sqs", "TagQueue", {"QueueUrl": "u", "Tags": {"Key": "v"}})
    assert iam == {"QueueUrl": "u", "Tags": {"Key": "v"}}
    dynamodb = decode("dynamodb", "TagResource", {"Tags": [{"Key": "k", "Value": "v"}]})
    assert dynamodb == {"Tags": [{"Key": "k", "Value": "v"}]}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=6) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["TableName", "Item", "Key", "S", "N", "B", "L", "M", "SS", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None, max_examples=200)
@given(JSON)
def test_decoding_any_json_loses_only_null_and_form(value: Any) -> None:
    decoded = decode("dynamodb", "PutItem", value)
    if isinstance(value, dict):
        assert set(decoded) == {name for name, item in value.items() if item is not None}
