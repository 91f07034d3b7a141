"""Decoded parameters in CloudTrail's form: casing, times, redaction, DynamoDB."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.capture.record.model_form import renderers
from opentrail.capture.record_rules import lower_first
from opentrail.capture.redaction import REMOVED_MARK
from opentrail.core.secrets.secret_names import HIDDEN
from opentrail.wire.values import timestamp
from tests.factories import catalog

NINE = datetime(2023, 7, 10, 9, 4, 5, tzinfo=UTC)


def asked(service: str, operation: str, value: Any) -> Any:
    """Returns the recorded form of request parameters."""
    known = catalog().services[service]
    model = known.operation(operation)
    assert model is not None
    return renderers(known).of(model.input_shape)(value)


def answered(service: str, operation: str, value: Any) -> Any:
    """Returns the recorded form of response elements."""
    known = catalog().services[service]
    model = known.operation(operation)
    assert model is not None
    return renderers(known).of(model.output_shape)(value)


# Names


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("InstanceId", "instanceId"),
        ("DBInstanceIdentifier", "dBInstanceIdentifier"),
        ("SAMLAssertionID", "sAMLAssertionID"),
        ("already", "already"),
        ("X", "x"),
        ("", ""),
        ("Ärger", "ärger"),
    ],
)
def test_only_a_names_first_capital_is_lowered(name: str, shown: str) -> None:
    assert lower_first(name) == shown


def test_names_are_lowered_but_values_are_not() -> None:
    value = {"UserName": "Mary", "Tags": [{"Key": "Team", "Value": "A B"}]}
    assert asked("iam", "CreateUser", value) == {
        "userName": "Mary",
        "tags": [{"key": "Team", "value": "A B"}],
    }


def test_keys_of_a_map_are_the_callers_own() -> None:
    value = {"QueueName": "q", "Attributes": {"VisibilityTimeout": "40"}}
    assert asked("sqs", "CreateQueue", value) == {
        "queueName": "q",
        "attributes": {"VisibilityTimeout": "40"},
    }


def test_four_services_keep_their_capitals() -> None:
    value = {"TimePeriod": {"Start": "a", "End": "b"}, "Granularity": "DAILY"}
    assert asked("ce", "GetCostAndUsage", value) == value


def test_a_listed_member_keeps_its_capitals() -> None:
    value = {"QueueUrl": "u", "Label": "l", "AWSAccountIds": ["1"], "Actions": ["*"]}
    assert asked("sqs", "AddPermission", value) == {
        "queueUrl": "u",
        "label": "l",
        "AWSAccountIds": ["1"],
        "actions": ["*"],
    }


def test_unknown_members_are_shown_by_the_same_rule() -> None:
    value = {"UserName": "Mary", "NewThing": {"InnerThing": [1, {"Deep": None}]}}
    assert asked("iam", "CreateUser", value) == {
        "userName": "Mary",
        "newThing": {"innerThing": [1, {"deep": None}]},
    }


@pytest.mark.parametrize("value", ["text", 5, None, ["list"]])
def test_value_of_the_wrong_kind_is_shown_unchanged(value: Any) -> None:
    assert asked("iam", "CreateUser", {"Tags": value, "UserName": value}) == {
        "tags": value,
        "userName": value,
    }


def test_names_of_other_types_do_not_raise() -> None:
    """CBOR maps may have keys of any kind."""
    shown = asked("cloudwatch", "PutMetricData", {1: "a", "Namespace": "n", b"x": "b"})
    assert shown["namespace"] == "n"


# Times


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (NINE, "Jul 10, 2023, 9:04:05 AM"),
        (NINE.replace(hour=0), "Jul 10, 2023, 12:04:05 AM"),
        (NINE.replace(hour=12), "Jul 10, 2023, 12:04:05 PM"),
        (NINE.replace(hour=23, day=1), "Jul 1, 2023, 11:04:05 PM"),
    ],
)
def test_a_time_of_sts_has_two_commas(moment: datetime, shown: str) -> None:
    answer = {"Credentials": {"AccessKeyId": "ASIA", "Expiration": moment}}
    assert answered("sts", "AssumeRole", answer)["credentials"]["expiration"] == shown


@pytest.mark.parametrize(
    ("service", "operation", "answer", "path"),
    [
        (
            "iam",
            "CreateUser",
            {"User": {"UserName": "Mary", "CreateDate": NINE}},
            ("user", "createDate"),
        ),
        (
            "ssm",
            "SendCommand",
            {"Command": {"RequestedDateTime": NINE}},
            ("command", "requestedDateTime"),
        ),
    ],
)
def test_time_of_iam_and_ssm_has_one_comma(
    service: str, operation: str, answer: dict[str, Any], path: tuple[str, str]
) -> None:
    shown = answered(service, operation, answer)
    assert shown[path[0]][path[1]] == "Jul 10, 2023 9:04:05 AM"


def test_a_time_of_bedrock_has_the_answers_digits() -> None:
    """A real record has nine digits (stratus-red-team's UpdateGuardrail)."""
    nine = "2025-01-21T17:39:10.379877250Z"
    answer = {"updatedAt": timestamp(nine), "version": "DRAFT"}
    assert answered("bedrock", "UpdateGuardrail", answer) == {"updatedAt": nine, "version": "DRAFT"}
    answer = {"updatedAt": NINE}
    assert answered("bedrock", "UpdateGuardrail", answer) == {"updatedAt": "2023-07-10T09:04:05Z"}


def test_a_time_of_ec2_is_epoch_milliseconds() -> None:
    answer = {"Instances": [{"LaunchTime": NINE}]}
    shown = answered("ec2", "RunInstances", answer)
    assert shown["instances"][0]["launchTime"] == 1688979845000


def test_an_invalid_time_is_recorded_unchanged() -> None:
    answer = {"Credentials": {"Expiration": "tomorrow"}}
    assert answered("sts", "AssumeRole", answer) == {"credentials": {"expiration": "tomorrow"}}


# Redaction


@pytest.mark.parametrize(
    ("service", "operation", "value", "shown"),
    [
        (
            "iam",
            "CreateLoginProfile",
            {"UserName": "Mary", "Password": "CANARY", "PasswordResetRequired": True},
            {"userName": "Mary", "passwordResetRequired": True},
        ),
        ("iam", "ChangePassword", {"OldPassword": "CANARY", "NewPassword": "CANARY"}, {}),
        (
            "sts",
            "AssumeRole",
            {"RoleArn": "r", "SerialNumber": "m", "TokenCode": "CANARY"},
            {"roleArn": "r", "serialNumber": "m", "tokenCode": HIDDEN},
        ),
        (
            "sts",
            "AssumeRoleWithWebIdentity",
            {"RoleArn": "r", "WebIdentityToken": "CANARY", "ProviderId": "p"},
            {"roleArn": "r", "providerId": "p"},
        ),
        (
            "kms",
            "Decrypt",
            {"KeyId": "k", "CiphertextBlob": b"CANARY", "EncryptionContext": {"a": "b"}},
            {"keyId": "k", "encryptionContext": {"a": "b"}},
        ),
        (
            "secretsmanager",
            "CreateSecret",
            {"Name": "n", "SecretString": "CANARY", "SecretBinary": b"CANARY"},
            {"name": "n"},
        ),
        (
            "ssm",
            "PutParameter",
            {"Name": "n", "Value": "CANARY", "Type": "SecureString"},
            {"name": "n", "value": HIDDEN, "type": "SecureString"},
        ),
        (
            "ec2",
            "RunInstances",
            {"MinCount": 1, "UserData": "CANARY"},
            {"minCount": 1, "userData": REMOVED_MARK},
        ),
        (
            "lambda",
            "CreateFunction",
            {
                "FunctionName": "f",
                "Code": {"ZipFile": b"CANARY", "S3Bucket": "b"},
                "Environment": {"Variables": {"A": "CANARY"}},
            },
            {"functionName": "f", "code": {"s3Bucket": "b"}, "environment": {}},
        ),
        (
            "sqs",
            "SendMessage",
            {"QueueUrl": "u", "MessageBody": "CANARY", "MessageAttributes": {"a": "CANARY"}},
            {"queueUrl": "u", "messageBody": HIDDEN, "messageAttributes": HIDDEN},
        ),
        (
            "sns",
            "Publish",
            {"TopicArn": "t", "Message": "CANARY", "Subject": "CANARY"},
            {"topicArn": "t", "message": HIDDEN, "subject": HIDDEN},
        ),
        (
            "rds",
            "CreateDBInstance",
            {"DBInstanceIdentifier": "d", "MasterUserPassword": "CANARY"},
            {"dBInstanceIdentifier": "d", "masterUserPassword": HIDDEN},
        ),
        (
            "rolesanywhere",
            "CreateProfile",
            {"name": "p", "tags": [{"key": "CANARY", "value": "CANARY"}]},
            {"name": "p", "tags": [{"key": HIDDEN, "value": HIDDEN}]},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_secret_is_handled_as_by_aws(
    service: str, operation: str, value: dict[str, Any], shown: dict[str, Any]
) -> None:
    assert asked(service, operation, value) == shown


def test_answers_secret_is_omitted_its_key_is_shown() -> None:
    answer = {
        "AccessKey": {
            "UserName": "Mary",
            "AccessKeyId": "AKIA",
            "Status": "Active",
            "SecretAccessKey": "CANARY",
        }
    }
    assert answered("iam", "CreateAccessKey", answer) == {
        "accessKey": {"userName": "Mary", "accessKeyId": "AKIA", "status": "Active"}
    }


def test_session_token_is_hidden_though_aws_shows_it() -> None:
    answer = {
        "Credentials": {
            "AccessKeyId": "ASIA",
            "SecretAccessKey": "CANARY",
            "SessionToken": "CANARY",
        }
    }
    assert answered("sts", "GetSessionToken", answer) == {
        "credentials": {"accessKeyId": "ASIA", "sessionToken": HIDDEN}
    }


def test_cognito_shows_identity_providers_without_tokens() -> None:
    logins = {"idp.example.com/pool": "CANARY", "graph.facebook.com": "CANARY"}
    assert asked("cognito-identity", "GetId", {"IdentityPoolId": "p", "Logins": logins}) == {
        "identityPoolId": "p",
        "logins": dict.fromkeys(logins, HIDDEN),
    }
    for operation in ("GetOpenIdToken", "GetOpenIdTokenForDeveloperIdentity"):
        answer = {"IdentityId": "i", "Token": "CANARY"}
        assert answered("cognito-identity", operation, answer) == {"identityId": "i"}
    credentials = {"AccessKeyId": "ASIA", "SecretKey": "CANARY", "SessionToken": "CANARY"}
    assert answered(
        "cognito-identity", "GetCredentialsForIdentity", {"Credentials": credentials}
    ) == {"credentials": {"accessKeyId": "ASIA", "sessionToken": HIDDEN}}


def test_kms_leaves_messages_and_recipients_out() -> None:
    value = {"KeyId": "k", "Message": b"CANARY", "MacAlgorithm": "HMAC_SHA_512"}
    assert asked("kms", "GenerateMac", value) == {"keyId": "k", "macAlgorithm": "HMAC_SHA_512"}
    recipient = {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": b"CANARY"}
    assert asked("kms", "GenerateRandom", {"Recipient": recipient}) == {}


def test_mfa_codes_of_iam_are_left_out() -> None:
    value = {"UserName": "Mary", "SerialNumber": "arn", "AuthenticationCode1": "123456"}
    value["AuthenticationCode2"] = "654321"
    assert asked("iam", "EnableMFADevice", value) == {"userName": "Mary", "serialNumber": "arn"}


def test_message_structure_of_sns_is_shown() -> None:
    value = {"TopicArn": "arn", "Message": "CANARY", "MessageStructure": "json"}
    assert asked("sns", "Publish", value) == {
        "topicArn": "arn",
        "message": HIDDEN,
        "messageStructure": "json",
    }


def test_a_marked_member_is_hidden_as_a_whole() -> None:
    """SendCommand's parameters are marked sensitive; AWS hides the whole object (7 records)."""
    value = {"DocumentName": "d", "Parameters": {"commands": ["CANARY"]}}
    assert asked("ssm", "SendCommand", value) == {"documentName": "d", "parameters": HIDDEN}


@pytest.mark.parametrize(
    ("service", "operation", "value"),
    [
        ("sqs", "SendMessage", {"messageBody": "CANARY"}),
        ("sqs", "SendMessage", {"MESSAGEBODY": "CANARY"}),
        ("ssm", "PutParameter", {"value": "CANARY"}),
        ("ssm", "SendCommand", {"parameters": {"commands": ["CANARY"]}}),
        ("kinesis", "PutRecord", {"data": "CANARY", "DATA": b"CANARY"}),
        ("apigateway", "CreateApiKey", {"value": "CANARY"}),
        ("events", "PutEvents", {"Entries": [{"Detail": "CANARY"}]}),
        ("events", "PutPartnerEvents", {"Entries": [{"Detail": "CANARY"}]}),
        ("logs", "PutLogEvents", {"logEvents": [{"timestamp": 1, "message": "CANARY"}]}),
        ("rds-data", "ExecuteStatement", {"sql": "CANARY", "parameters": [{"x": "CANARY"}]}),
        ("athena", "StartQueryExecution", {"QueryString": "CANARY"}),
        ("redshift-data", "BatchExecuteStatement", {"Sqls": ["CANARY"]}),
        ("ses", "SendEmail", {"Message": {"Subject": {"Data": "CANARY"}}}),
        ("sesv2", "SendEmail", {"Content": {"Simple": {"Body": {"Text": {"Data": "CANARY"}}}}}),
        ("bedrock-runtime", "Converse", {"messages": [{"content": [{"text": "CANARY"}]}]}),
        ("translate", "TranslateText", {"Text": "CANARY"}),
        (
            "batch",
            "RegisterJobDefinition",
            {"containerProperties": {"environment": [{"name": "API_TOKEN", "value": "CANARY"}]}},
        ),
    ],
)
def test_file_contents_and_unmodelled_spellings_are_hidden(
    service: str, operation: str, value: dict[str, Any]
) -> None:
    assert "CANARY" not in str(asked(service, operation, value))


def test_the_marks_of_athena_and_rds_are_awss() -> None:
    assert asked("athena", "StartQueryExecution", {"QueryString": "x"}) == {
        "queryString": "***OMITTED***"
    }
    assert asked("rds-data", "ExecuteStatement", {"sql": "x", "database": "d"}) == {
        "sql": "**********",
        "database": "**********",
    }


def test_an_unknown_secret_sounding_member_is_hidden() -> None:
    value = {"UserName": "Mary", "NewSecretKey": "CANARY", "Inner": {"Passphrase": "CANARY"}}
    assert asked("iam", "CreateUser", value) == {
        "userName": "Mary",
        "newSecretKey": HIDDEN,
        "inner": {"passphrase": HIDDEN},
    }


@pytest.mark.parametrize(
    ("service", "operation", "value"),
    [
        ("elasticache", "CreateCacheCluster", {"AuthToken": "CANARY"}),
        ("apigateway", "CreateDomainName", {"certificatePrivateKey": "CANARY"}),
        ("autoscaling", "CreateLaunchConfiguration", {"UserData": "CANARY"}),
    ],
)
def test_secret_sounding_members_of_unmarked_models_are_hidden(
    service: str, operation: str, value: dict[str, Any]
) -> None:
    shapes = catalog().services[service].model
    marked = [n for n in shapes.shape_names if shapes.shape_for(n).metadata.get("sensitive")]
    assert marked == []
    assert list(asked(service, operation, value).values()) == [HIDDEN]


@pytest.mark.parametrize(
    ("service", "operation", "value"),
    [
        ("emr", "RunJobFlow", {"KerberosAttributes": {"KdcAdminPassword": "CANARY"}}),
        ("glue", "UpdateJobFromSourceControl", {"AuthToken": "CANARY"}),
        ("redshift", "CreateHsmConfiguration", {"HsmPartitionPassword": "CANARY"}),
        ("lightsail", "CreateInstances", {"userData": "CANARY"}),
        ("sns", "VerifySMSSandboxPhoneNumber", {"OneTimePassword": "CANARY"}),
    ],
)
def test_a_secret_unmarked_by_the_model_is_hidden(
    service: str, operation: str, value: dict[str, Any]
) -> None:
    """These models mark other members: list, mark and name each catch different ones."""
    assert "CANARY" not in str(asked(service, operation, value))


def test_bytes_are_never_shown() -> None:
    value = {"FunctionName": "f", "Payload": b"CANARY", "Unknown": b"CANARY"}
    assert "CANARY" not in str(asked("lambda", "Invoke", value))


def test_text_in_the_place_of_bytes_is_hidden() -> None:
    value = {"KeyId": "k", "Plaintext": "CANARY"}
    assert "CANARY" not in str(asked("kms", "Encrypt", value))


# DynamoDB: keys are shown, data is not


def test_key_is_shown_without_types_values_are_not() -> None:
    value = {
        "TableName": "Music",
        "Key": {"Artist": {"S": "No One You Know"}, "Year": {"N": "1999"}, "Bin": {"B": b"hi"}},
        "ExpressionAttributeValues": {":v": {"S": "CANARY"}},
        "ExpressionAttributeNames": {"#a": "Album"},
        "UpdateExpression": "SET #a = :v",
    }
    assert asked("dynamodb", "UpdateItem", value) == {
        "tableName": "Music",
        "key": {"Artist": "No One You Know", "Year": "1999", "Bin": "aGk="},
        "expressionAttributeNames": {"#a": "Album"},
        "updateExpression": "SET #a = :v",
    }


def test_an_item_is_shown_by_its_attribute_names() -> None:
    value = {"TableName": "Music", "Item": {"Song": {"S": "CANARY"}, "Artist": {"S": "CANARY"}}}
    assert asked("dynamodb", "PutItem", value) == {
        "tableName": "Music",
        "item": ["Song", "Artist"],
    }


def test_batches_and_transactions_show_keys_and_names_only() -> None:
    batch = {
        "RequestItems": {
            "Music": [
                {"PutRequest": {"Item": {"Song": {"S": "CANARY"}}}},
                {"DeleteRequest": {"Key": {"Artist": {"S": "a"}}}},
            ]
        }
    }
    assert asked("dynamodb", "BatchWriteItem", batch) == {
        "requestItems": {
            "Music": [
                {"putRequest": {"items": ["Song"]}},
                {"deleteRequest": {"key": {"Artist": "a"}}},
            ]
        }
    }


@pytest.mark.parametrize(
    ("operation", "member", "value"),
    [
        ("UpdateItem", "AttributeUpdates", {"a": {"Action": "PUT", "Value": {"S": "CANARY"}}}),
        ("UpdateItem", "Expected", {"a": {"Value": {"S": "CANARY"}}}),
        ("UpdateItem", "Expected", {"a": {"AttributeValueList": [{"S": "CANARY"}]}}),
        ("Query", "KeyConditions", {"a": {"AttributeValueList": [{"S": "CANARY"}]}}),
        ("Query", "QueryFilter", {"a": {"AttributeValueList": [{"L": [{"S": "CANARY"}]}]}}),
        ("Scan", "ScanFilter", {"a": {"AttributeValueList": [{"S": "CANARY"}]}}),
        ("ExecuteStatement", "Parameters", [{"S": "CANARY"}]),
        ("PutItem", "Item", {"a": {"M": {"b": {"SS": ["CANARY"]}}}}),
        ("PutItem", "Item", "CANARY"),
        ("PutItem", "Item", ["CANARY"]),
    ],
)
def test_no_attribute_value_is_recorded_at_any_depth(
    operation: str, member: str, value: Any
) -> None:
    assert "CANARY" not in str(asked("dynamodb", operation, {"TableName": "t", member: value}))


@pytest.mark.parametrize("key", ["text", {"a": "raw"}, {"a": {}}, {"a": {"S": "x", "N": "1"}}])
def test_key_of_an_unknown_form_does_not_raise(key: Any) -> None:
    assert asked("dynamodb", "GetItem", {"TableName": "t", "Key": key})["tableName"] == "t"


# Recursive shapes, large values


def test_a_recursive_shape_is_shown_to_any_depth() -> None:
    rule: dict[str, Any] = {"Name": "deepest"}
    for _ in range(40):
        rule = {"NotStatement": {"Statement": rule}}
    shown = asked("wafv2", "CreateRuleGroup", {"Name": "g", "Rules": [{"Statement": rule}]})
    assert str(shown).count("notStatement") == 40


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["TableName", "Item", "Key", "Expected", "AttributeUpdates", "S", "M", "L", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.hypothesis
@settings(deadline=None, max_examples=200)
@given(value=st.dictionaries(st.sampled_from(["TableName", "Item", "Key", "x"]), VALUES))
@pytest.mark.slow
def test_any_parameters_are_shown_without_their_bytes(value: dict[str, Any]) -> None:
    def holds_bytes(shown: Any) -> bool:
        if isinstance(shown, dict):
            return any(map(holds_bytes, shown.values()))
        if isinstance(shown, list):
            return any(map(holds_bytes, shown))
        return isinstance(shown, bytes)

    for service, operation in (("dynamodb", "PutItem"), ("dynamodb", "UpdateItem")):
        assert not holds_bytes(asked(service, operation, value))


def test_pipeline_options_and_variables_are_hidden() -> None:
    variables = '[{"name":"PLAIN","value":"hunter2","type":"PLAINTEXT"}]'
    action = {"configuration": {"EnvironmentVariables": variables, "Environment": "prod"}}
    shown = asked(
        "codepipeline", "CreatePipeline", {"pipeline": {"stages": [{"actions": [action]}]}}
    )
    assert "hunter2" not in str(shown)
    assert shown["pipeline"]["stages"][0]["actions"][0]["configuration"]["Environment"] == "prod"
    step = {"hadoopJarStep": {"Args": ["export", "--password", "hunter2", "--verbose"]}}
    steps = asked("emr", "RunJobFlow", {"Steps": [{"HadoopJarStep": step["hadoopJarStep"]}]})
    assert steps == {
        "steps": [{"hadoopJarStep": {"args": ["export", "--password", HIDDEN, "--verbose"]}}]
    }
