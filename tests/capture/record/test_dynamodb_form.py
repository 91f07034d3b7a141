"""The calls of "Understanding DynamoDB log file entries", and AWS's records of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.core.partiql import REDACTED
from tests.capture.record.test_assemble import recorded
from tests.factories import ACCOUNT, a_json_request, a_response, an_exchange

TABLE = {
    "accountId": ACCOUNT,
    "type": "AWS::DynamoDB::Table",
    "ARN": f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/Music",
}
KEY = {"Artist": {"S": "No One You Know"}, "SongTitle": {"S": "Call Me Today"}}
SHOWN_KEY = {"Artist": "No One You Know", "SongTitle": "Call Me Today"}


def call(operation: str, given: dict[str, Any], answer: bytes = b"{}") -> dict[str, Any]:
    request = a_json_request("dynamodb", f"DynamoDB_20120810.{operation}", given)
    return recorded(an_exchange(request, a_response(answer)))


@pytest.mark.parametrize(
    ("operation", "given", "shown"),
    [
        (
            "TransactWriteItems",
            {
                "TransactItems": [
                    {
                        "Put": {
                            "TableName": "Music",
                            "Item": {**KEY, "AlbumTitle": {"S": "CANARY"}},
                            "ConditionExpression": "#AT = :A",
                            "ExpressionAttributeNames": {"#AT": "AlbumTitle"},
                            "ExpressionAttributeValues": {":A": {"S": "CANARY"}},
                            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                        }
                    },
                    {
                        "Update": {
                            "TableName": "Music",
                            "Key": KEY,
                            "UpdateExpression": "SET #AT = :newval",
                        }
                    },
                    {"Delete": {"TableName": "Music", "Key": KEY}},
                    {"ConditionCheck": {"TableName": "Music", "Key": KEY}},
                ],
                "ReturnConsumedCapacity": "TOTAL",
            },
            {
                "requestItems": [
                    {
                        "operation": "Put",
                        "tableName": "Music",
                        "items": ["Artist", "SongTitle", "AlbumTitle"],
                        "conditionExpression": "#AT = :A",
                        "expressionAttributeNames": {"#AT": "AlbumTitle"},
                        "returnValuesOnConditionCheckFailure": "ALL_OLD",
                    },
                    {
                        "operation": "Update",
                        "tableName": "Music",
                        "key": SHOWN_KEY,
                        "updateExpression": "SET #AT = :newval",
                    },
                    {"operation": "Delete", "tableName": "Music", "key": SHOWN_KEY},
                    {"operation": "ConditionCheck", "tableName": "Music", "key": SHOWN_KEY},
                ],
                "returnConsumedCapacity": "TOTAL",
            },
        ),
        (
            "BatchExecuteStatement",
            {
                "Statements": [
                    {"Statement": "UPDATE Music SET Album = 'CANARY' WHERE Artist = 'No One'"},
                    {"Statement": "INSERT INTO Music VALUE {'Artist' : 'CANARY'}"},
                ]
            },
            {
                "requestItems": [
                    {"statement": "UPDATE Music SET Album = HID WHERE Artist = HID"},
                    {"statement": "INSERT INTO Music VALUE {'Artist' : HID}"},
                ]
            },
        ),
        (
            "ExecuteStatement",
            {"Statement": "SELECT * FROM Music WHERE nonKeyAttr = 'CANARY'"},
            {"statement": "SELECT * FROM Music WHERE nonKeyAttr = HID"},
        ),
    ],
)
def test_a_call_has_the_members_of_awss_records(
    operation: str, given: dict[str, Any], shown: dict[str, Any]
) -> None:
    record = call(operation, given)
    assert json.dumps(record["requestParameters"]).replace(REDACTED, "HID") == json.dumps(shown)
    assert record["responseElements"] is None
    assert record["resources"] == [TABLE]
    assert "CANARY" not in str(record)


def test_each_table_of_a_batch_is_listed_once() -> None:
    statements = [
        "SELECT * FROM Music",
        'DELETE FROM "Other" WHERE a = 1',
        "UPDATE Music SET a = 2",
    ]
    record = call("BatchExecuteStatement", {"Statements": [{"Statement": s} for s in statements]})
    assert [one["ARN"].rpartition("/")[2] for one in record["resources"]] == ["Music", "Other"]


@pytest.mark.parametrize(
    "given",
    [
        {"TransactItems": "text"},
        {"TransactItems": [{"Put": "text"}, "text", {}, {"Put": {}, "Delete": {}}]},
        {"Statements": {"Statement": 5}},
        {"Statements": [{"Statement": 5}, 5, None]},
        {"Statement": "nonsense"},
    ],
)
@pytest.mark.parametrize("operation", ["TransactWriteItems", "BatchExecuteStatement"])
def test_another_form_is_recorded_unchanged(operation: str, given: dict[str, Any]) -> None:
    record = call(operation, given)
    assert [one["type"] for one in record["resources"]] == ["AWS::DynamoDB::Table"]
    assert "ARN" not in record["resources"][0]


def test_the_answer_of_a_transaction_is_not_recorded() -> None:
    answer = (
        b'{"ItemCollectionMetrics": {"Music": [{"ItemCollectionKey": {"a": {"S": "CANARY"}}}]}}'
    )
    assert call("TransactWriteItems", {"TransactItems": []}, answer)["responseElements"] is None
