"""Flat `A.B.1.C=value` pairs as nested parameters."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.wire.body_formats import form_decoders, tree_of
from tests.factories import catalog


def decode(
    service: str, operation: str, pairs: list[tuple[str, str]], protocol: str = "query"
) -> dict[str, Any]:
    model = catalog().services[service].operation(operation)
    assert model is not None
    decoder = form_decoders(protocol, service).decoder(model.input_shape, operation)
    decoded: dict[str, Any] = decoder(tree_of(pairs))
    return decoded


def test_pairs_become_a_tree_by_their_names() -> None:
    assert tree_of([("A", "1"), ("B.C", "2"), ("B.D.1", "3")]) == {
        "A": {None: "1"},
        "B": {"C": {None: "2"}, "D": {"1": {None: "3"}}},
    }


def test_the_last_of_equal_names_is_used() -> None:
    assert decode("iam", "CreateUser", [("UserName", "a"), ("UserName", "b")]) == {"UserName": "b"}


def test_lists_have_members_and_maps_have_entries() -> None:
    pairs = [
        ("UserName", "Mary"),
        ("Tags.member.1.Key", "team"),
        ("Tags.member.1.Value", "audit"),
        ("Tags.member.2.Key", "empty"),
        ("Tags.member.2.Value", ""),
    ]
    assert decode("iam", "CreateUser", pairs) == {
        "UserName": "Mary",
        "Tags": [{"Key": "team", "Value": "audit"}, {"Key": "empty", "Value": ""}],
    }
    sns = [
        ("Name", "t"),
        ("Attributes.entry.1.key", "DisplayName"),
        ("Attributes.entry.1.value", "x"),
    ]
    assert decode("sns", "CreateTopic", sns) == {"Name": "t", "Attributes": {"DisplayName": "x"}}


def test_list_is_in_the_order_of_its_numbers() -> None:
    pairs = [(f"ActionNames.member.{number}", f"s3:{number}") for number in (10, 2, 1)]
    decoded = decode("iam", "SimulateCustomPolicy", pairs)
    assert decoded == {"ActionNames": ["s3:1", "s3:2", "s3:10"]}


def test_an_empty_list_is_one_without_members() -> None:
    assert decode("iam", "CreateUser", [("Tags", "")]) == {"Tags": []}


@pytest.mark.parametrize("name", ["Tags.member.x", "Tags.member.-1", "Tags.member.¹", "Tags.x.1"])
def test_entry_without_a_number_is_not_a_member(name: str) -> None:
    assert decode("iam", "CreateUser", [(name, "v")]) == {"Tags": []}


def test_names_foreign_to_the_operation_are_left_out() -> None:
    assert decode("iam", "CreateUser", [("Nonsense", "v"), ("UserName", "x")]) == {"UserName": "x"}


def test_ec2_has_flat_lists_and_special_names() -> None:
    pairs = [
        ("InstanceId.1", "i-1"),
        ("InstanceId.2", "i-2"),
        ("Filter.1.Name", "vpc-id"),
        ("Filter.1.Value.1", "vpc-1"),
        ("Filter.1.Value.2", "vpc-2"),
        ("DryRun", "true"),
        ("MaxResults", "5"),
    ]
    assert decode("ec2", "DescribeInstances", pairs, "ec2") == {
        "InstanceIds": ["i-1", "i-2"],
        "Filters": [{"Name": "vpc-id", "Values": ["vpc-1", "vpc-2"]}],
        "DryRun": True,
        "MaxResults": 5,
    }


def test_sqs_is_read_by_its_old_models_names() -> None:
    pairs = [
        ("QueueUrl", "http://x/1/q"),
        ("MessageBody", "hello"),
        ("DelaySeconds", "5"),
        ("MessageAttribute.1.Name", "colour"),
        ("MessageAttribute.1.Value.DataType", "String"),
        ("MessageAttribute.1.Value.StringValue", "red"),
    ]
    assert decode("sqs", "SendMessage", pairs) == {
        "QueueUrl": "http://x/1/q",
        "MessageBody": "hello",
        "DelaySeconds": 5,
        "MessageAttributes": {"colour": {"DataType": "String", "StringValue": "red"}},
    }


def test_sqs_batches_and_attributes_and_tags() -> None:
    batch = [
        ("SendMessageBatchRequestEntry.1.Id", "a"),
        ("SendMessageBatchRequestEntry.1.MessageBody", "one"),
        ("SendMessageBatchRequestEntry.2.Id", "b"),
        ("SendMessageBatchRequestEntry.2.MessageBody", "two"),
    ]
    assert decode("sqs", "SendMessageBatch", batch) == {
        "Entries": [{"Id": "a", "MessageBody": "one"}, {"Id": "b", "MessageBody": "two"}]
    }
    create = [
        ("QueueName", "q"),
        ("Attribute.1.Name", "VisibilityTimeout"),
        ("Attribute.1.Value", "40"),
        ("Tag.1.Key", "team"),
        ("Tag.1.Value", "audit"),
    ]
    assert decode("sqs", "CreateQueue", create) == {
        "QueueName": "q",
        "Attributes": {"VisibilityTimeout": "40"},
        "tags": {"team": "audit"},
    }
    get = [("QueueUrl", "u"), ("AttributeName.1", "All")]
    assert decode("sqs", "GetQueueAttributes", get) == {
        "QueueUrl": "u",
        "AttributeNames": ["All"],
    }


@pytest.mark.parametrize(
    "pairs",
    [
        [("UserName", "Mary"), ("UserName.", "x")],
        [("UserName.", "x"), ("UserName", "Mary")],
        [("UserName.", "x")],
        [("UserName..", "x"), ("UserName", "Mary")],
        [("", "x"), (".", "y"), ("", "z")],
        [("Tags.member.1", "x"), ("Tags.member.1.Key", "y")],
        [("Tags.member.1.Key.", "x"), ("Tags.member.1.Key", "y")],
    ],
)
def test_name_with_an_empty_part_does_not_raise(pairs: list[tuple[str, str]]) -> None:
    decoded = decode("iam", "CreateUser", [*pairs, ("Path", "/")])
    assert decoded["Path"] == "/"
    assert isinstance(decoded.get("UserName", ""), str)


def test_a_very_long_name_does_not_raise() -> None:
    pairs = [("A." * 50_000, "x"), ("UserName", "Mary")]
    assert decode("iam", "CreateUser", pairs) == {"UserName": "Mary"}


NAMES = st.lists(
    st.sampled_from(["UserName", "Tags", "member", "1", "2", "Key", "Value", "", "entry", "é"]),
    max_size=5,
).map(".".join)


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None, max_examples=300)
@given(
    pairs=st.lists(st.tuples(NAMES, st.text(max_size=4)), max_size=6),
    target=st.sampled_from(
        [
            ("iam", "CreateUser", "query"),
            ("sns", "CreateTopic", "query"),
            ("sqs", "SendMessageBatch", "query"),
            ("ec2", "RunInstances", "ec2"),
            ("cloudwatch", "PutMetricData", "query"),
        ]
    ),
)
def test_any_names_give_parameters_of_the_model(
    pairs: list[tuple[str, str]], target: tuple[str, str, str]
) -> None:
    service, operation, protocol = target
    model = catalog().services[service].operation(operation)
    assert model is not None
    decoded = decode(service, operation, pairs, protocol)
    assert set(decoded) <= set(model.input_shape.members)
