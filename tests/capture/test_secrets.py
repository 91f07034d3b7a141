"""Canaries: no secret of a call is in its record, in whatever disguise (guarantee S4)."""

import base64
import binascii
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote, unquote_plus

import pytest

from opentrail.capture.record.assemble import Assembler
from opentrail.core.identity import unknown
from opentrail.wire.message import Request, Response
from tests.factories import (
    ACCOUNT,
    KEY,
    a_json_request,
    a_query_request,
    a_request,
    an_exchange,
    an_s3_request,
)

QUEUE = f"http://127.0.0.1:4747/{ACCOUNT}/q"
IAM, STS, SQS = "2010-05-08", "2011-06-15", "2012-11-05"


def canary(number: int) -> str:
    """Returns a unique secret."""
    return f"Cnry{number:03d}Zq"


def b64(number: int) -> str:
    return base64.b64encode(canary(number).encode() * 3).decode()


@dataclass(frozen=True)
class Case:
    """A call with secrets in request and answer, each by the number of its canary."""

    name: str
    canaries: tuple[int, ...]
    request: Request
    answer: bytes = b""
    status: int = 200
    answer_headers: tuple[tuple[str, str], ...] = ()


def iam(action: str, **parameters: str) -> Request:
    return a_query_request("iam", action, IAM, parameters)


def sts(action: str, signed: bool = True, **parameters: str) -> Request:
    return a_query_request("sts", action, STS, parameters, signed=signed)


def result(action: str, inside: str) -> bytes:
    return (
        f"<{action}Response><{action}Result>{inside}</{action}Result></{action}Response>".encode()
    )


def credentials(secret: int, token: int) -> str:
    return (
        f"<Credentials><AccessKeyId>ASIAX</AccessKeyId><SecretAccessKey>{canary(secret)}"
        f"</SecretAccessKey><SessionToken>{canary(token)}</SessionToken>"
        "<Expiration>2020-01-01T10:00:00Z</Expiration></Credentials>"
    )


def sqs(operation: str, **parameters: object) -> Request:
    return a_json_request("sqs", f"AmazonSQS.{operation}", {"QueueUrl": QUEUE, **parameters})


def dynamodb(operation: str, **parameters: object) -> Request:
    return a_json_request("dynamodb", f"DynamoDB_20120810.{operation}", parameters)


def text(number: int) -> dict[str, str]:
    """Returns an attribute value of DynamoDB."""
    return {"S": canary(number)}


def old_sqs(action: str, **parameters: str) -> Request:
    return a_query_request("sqs", action, SQS, {"QueueUrl": QUEUE, **parameters})


def signed_in(number: int, token: int) -> dict[str, str]:
    """Returns headers of a client with temporary credentials."""
    scope = f"{KEY}/20200101/us-east-1/s3/aws4_request"
    signature = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature="
    return {
        "authorization": signature + canary(number),
        "x-amz-security-token": canary(token),
    }


PRESIGNED = (
    f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={KEY}%2F20200101%2Fus-east-1%2F"
    "{service}%2Faws4_request&X-Amz-Date=20200101T090000Z&X-Amz-Expires=60&"
    "X-Amz-SignedHeaders=host&X-Amz-Security-Token={token}&X-Amz-Signature={signature}"
)

CASES = [
    # iam
    Case(
        "iam CreateLoginProfile",
        (1,),
        iam("CreateLoginProfile", UserName="Mary", Password=canary(1)),
        result("CreateLoginProfile", "<LoginProfile><UserName>Mary</UserName></LoginProfile>"),
    ),
    Case(
        "iam UpdateLoginProfile",
        (2,),
        iam("UpdateLoginProfile", UserName="Mary", Password=canary(2)),
    ),
    Case(
        "iam ChangePassword",
        (3, 4),
        iam("ChangePassword", OldPassword=canary(3), NewPassword=canary(4)),
    ),
    Case(
        "iam CreateAccessKey",
        (5,),
        iam("CreateAccessKey", UserName="Mary"),
        result(
            "CreateAccessKey",
            "<AccessKey><UserName>Mary</UserName><AccessKeyId>AKIAX</AccessKeyId>"
            f"<SecretAccessKey>{canary(5)}</SecretAccessKey></AccessKey>",
        ),
    ),
    Case(
        "iam CreateServiceSpecificCredential",
        (6,),
        iam("CreateServiceSpecificCredential", UserName="Mary", ServiceName="codecommit"),
        result(
            "CreateServiceSpecificCredential",
            "<ServiceSpecificCredential><UserName>Mary</UserName>"
            f"<ServicePassword>{canary(6)}</ServicePassword></ServiceSpecificCredential>",
        ),
    ),
    Case(
        "iam CreateServiceSpecificCredential for an API key",
        (7,),
        iam("CreateServiceSpecificCredential", UserName="Mary", ServiceName="bedrock"),
        result(
            "CreateServiceSpecificCredential",
            "<ServiceSpecificCredential><ServiceCredentialSecret>"
            f"{canary(7)}</ServiceCredentialSecret></ServiceSpecificCredential>",
        ),
    ),
    Case(
        "iam ResetServiceSpecificCredential",
        (8,),
        iam("ResetServiceSpecificCredential", ServiceSpecificCredentialId="ACCAX"),
        result(
            "ResetServiceSpecificCredential",
            "<ServiceSpecificCredential><ServicePassword>"
            f"{canary(8)}</ServicePassword></ServiceSpecificCredential>",
        ),
    ),
    Case(
        "iam CreateVirtualMFADevice",
        (9, 10),
        iam("CreateVirtualMFADevice", VirtualMFADeviceName="m"),
        result(
            "CreateVirtualMFADevice",
            f"<VirtualMFADevice><SerialNumber>s</SerialNumber><Base32StringSeed>{b64(9)}"
            f"</Base32StringSeed><QRCodePNG>{b64(10)}</QRCodePNG></VirtualMFADevice>",
        ),
    ),
    Case(
        "iam EnableMFADevice",
        (11, 12),
        iam(
            "EnableMFADevice",
            UserName="Mary",
            SerialNumber="s",
            AuthenticationCode1=canary(11),
            AuthenticationCode2=canary(12),
        ),
    ),
    Case(
        "iam ResyncMFADevice",
        (13, 14),
        iam("ResyncMFADevice", AuthenticationCode1=canary(13), AuthenticationCode2=canary(14)),
    ),
    Case(
        "iam UploadServerCertificate",
        (15,),
        iam("UploadServerCertificate", ServerCertificateName="c", PrivateKey=canary(15)),
    ),
    Case(
        "iam UpdateSAMLProvider",
        (16,),
        iam("UpdateSAMLProvider", SAMLProviderArn="arn", AddPrivateKey=canary(16)),
    ),
    Case(
        "iam CreateSAMLProvider",
        (17,),
        iam("CreateSAMLProvider", Name="n", AddPrivateKey=canary(17)),
    ),
    Case(
        "iam with a parameter that the model does not know",
        (18,),
        iam("CreateUser", UserName="Mary", SecretAccessKey=canary(18)),
    ),
    Case(
        "iam with an action that the model does not know",
        (19, 20),
        iam("CreateRobot", Password=canary(19), ClientSecret=canary(20)),
    ),
    Case(
        "iam of version 2 of signatures",
        (21, 22),
        iam("GetUser", Signature=canary(21), SecurityToken=canary(22), SignatureVersion="2"),
    ),
    Case(
        "iam refused with the password in the error's text",
        (23,),
        iam("ChangePassword", OldPassword="x", NewPassword=canary(23)),
        b"<ErrorResponse><Error><Code>ValidationError</Code><Message>Value '%s' at 'newPassword' "
        b"failed to satisfy constraint</Message></Error></ErrorResponse>" % canary(23).encode(),
        400,
    ),
    # sts
    Case(
        "sts AssumeRole",
        (24, 25, 26),
        sts("AssumeRole", RoleArn="r", SerialNumber="s", TokenCode=canary(24)),
        result("AssumeRole", credentials(25, 26)),
    ),
    Case(
        "sts GetSessionToken",
        (27, 28, 29),
        sts("GetSessionToken", SerialNumber="s", TokenCode=canary(27)),
        result("GetSessionToken", credentials(28, 29)),
    ),
    Case(
        "sts GetFederationToken",
        (30, 31),
        sts("GetFederationToken", Name="bob"),
        result("GetFederationToken", credentials(30, 31)),
    ),
    Case(
        "sts AssumeRoleWithWebIdentity",
        (32, 33, 34),
        sts("AssumeRoleWithWebIdentity", False, RoleArn="r", WebIdentityToken=canary(32)),
        result("AssumeRoleWithWebIdentity", credentials(33, 34)),
    ),
    Case(
        "sts AssumeRoleWithSAML",
        (35, 36, 37),
        sts("AssumeRoleWithSAML", False, RoleArn="r", PrincipalArn="p", SAMLAssertion=b64(35)),
        result("AssumeRoleWithSAML", credentials(36, 37)),
    ),
    Case(
        "sts AssumeRoot",
        (38, 39),
        sts("AssumeRoot", TargetPrincipal=ACCOUNT),
        result("AssumeRoot", credentials(38, 39)),
    ),
    Case(
        "sts presigned",
        (40, 41),
        a_request(
            None,
            "GET",
            "/",
            f"Action=GetCallerIdentity&Version={STS}&"
            + PRESIGNED.format(service="sts", token=canary(40), signature=canary(41)),
        ),
    ),
    Case(
        "sts with an action that the model does not know",
        (42, 43),
        sts("GetNewToken", AccessToken=canary(42), Credentials=canary(43)),
    ),
    # s3
    Case(
        "s3 PutObject by temporary credentials with a key of the customer",
        (44, 45, 46),
        an_s3_request(
            "PUT",
            "/b/k",
            "",
            {
                **signed_in(44, 45),
                "x-amz-server-side-encryption-customer-algorithm": "AES256",
                "x-amz-server-side-encryption-customer-key": b64(46),
            },
        ),
    ),
    Case(
        "s3 CopyObject with two keys of the customer",
        (47, 48),
        an_s3_request(
            "PUT",
            "/b/k",
            "",
            {
                "x-amz-copy-source": "/o/k",
                "x-amz-server-side-encryption-customer-key": b64(47),
                "x-amz-copy-source-server-side-encryption-customer-key": b64(48),
            },
        ),
    ),
    Case(
        "s3 presigned",
        (49, 50),
        an_s3_request(
            "GET",
            "/b/k",
            PRESIGNED.format(service="s3", token=canary(49), signature=canary(50)),
            signed=False,
        ),
    ),
    Case(
        "s3 presigned with version 2",
        (51, 52),
        an_s3_request(
            "GET",
            "/b/k",
            f"AWSAccessKeyId={KEY}&Expires=1&Signature={canary(51)}"
            f"&x-amz-security-token={canary(52)}",
            signed=False,
        ),
    ),
    Case(
        "s3 presigned, its address known by no operation",
        (53, 54),
        an_s3_request(
            "PATCH",
            "/b/k",
            PRESIGNED.format(service="s3", token=canary(53), signature=canary(54)),
            signed=False,
        ),
    ),
    Case(
        "s3 with a second factor and a session",
        (55, 56),
        an_s3_request(
            "DELETE",
            "/b/k",
            "",
            {"x-amz-mfa": f"s {canary(55)}", "x-amz-s3session-token": canary(56)},
        ),
    ),
    Case(
        "s3 header of version 2",
        (57,),
        Request("GET", "/b/k", "", {"host": "x", "authorization": f"AWS {KEY}:{canary(57)}"}),
    ),
    Case(
        "s3 PutObject and its bytes",
        (58,),
        an_s3_request("PUT", "/b/k", body=canary(58).encode()),
    ),
    Case(
        "s3 form upload",
        (59, 60, 61),
        an_s3_request(
            "POST",
            "/b",
            "",
            {"content-type": "multipart/form-data; boundary=XX"},
            "".join(
                f'--XX\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
                for name, value in (
                    ("key", "k"),
                    ("x-amz-signature", canary(59)),
                    ("x-amz-security-token", canary(60)),
                    ("file", canary(61)),
                )
            ).encode(),
            signed=False,
        ),
    ),
    Case(
        "s3 CreateSession",
        (62, 63),
        an_s3_request("GET", "/b--use1-az4--x-s3", "session"),
        b"<CreateSessionResult>" + credentials(62, 63).encode() + b"</CreateSessionResult>",
    ),
    Case(
        "s3 cookies",
        (64, 65),
        an_s3_request("PUT", "/b/k", "", {"cookie": canary(64), "proxy-authorization": canary(65)}),
        answer_headers=(("set-cookie", canary(64)),),
    ),
    # sqs
    Case(
        "sqs SendMessage",
        (66, 67, 68),
        sqs(
            "SendMessage",
            MessageBody=canary(66),
            MessageAttributes={"a": {"DataType": "String", "StringValue": canary(67)}},
            MessageSystemAttributes={"AWSTraceHeader": {"StringValue": canary(68)}},
        ),
    ),
    Case(
        "sqs SendMessage of bytes",
        (69,),
        sqs(
            "SendMessage",
            MessageBody="x",
            MessageAttributes={"a": {"DataType": "Binary", "BinaryValue": b64(69)}},
        ),
    ),
    Case(
        "sqs SendMessageBatch",
        (70, 71),
        sqs(
            "SendMessageBatch",
            Entries=[{"Id": "1", "MessageBody": canary(70)}, {"Id": "2", "MessageBody": b64(71)}],
        ),
    ),
    Case(
        "sqs ReceiveMessage",
        (72, 73),
        sqs("ReceiveMessage"),
        json.dumps(
            {
                "Messages": [
                    {
                        "MessageId": "m",
                        "Body": canary(72),
                        "MessageAttributes": {"a": {"StringValue": canary(73)}},
                    }
                ]
            }
        ).encode(),
    ),
    Case(
        "sqs SendMessage of an old SDK",
        (74, 75),
        old_sqs(
            "SendMessage",
            MessageBody=canary(74),
            **{"MessageAttribute.1.Name": "a", "MessageAttribute.1.Value.StringValue": canary(75)},
        ),
    ),
    Case(
        "sqs SendMessageBatch of an old SDK",
        (76,),
        old_sqs(
            "SendMessageBatch",
            **{
                "SendMessageBatchRequestEntry.1.Id": "1",
                "SendMessageBatchRequestEntry.1.MessageBody": canary(76),
            },
        ),
    ),
    Case(
        "sqs ReceiveMessage of an old SDK",
        (77,),
        old_sqs("ReceiveMessage"),
        result("ReceiveMessage", f"<Message><Body>{canary(77)}</Body></Message>"),
    ),
    Case(
        "sqs SendMessage, packed",
        (78,),
        a_request(
            "sqs",
            headers={"x-amz-target": "AmazonSQS.SendMessage", "content-encoding": "gzip"},
            body=gzip.compress(json.dumps({"MessageBody": canary(78)}).encode()),
        ),
    ),
    Case(
        "sqs with a body that is no JSON",
        (79,),
        a_json_request("sqs", "AmazonSQS.SendMessage", canary(79).encode()),
    ),
    # dynamodb
    Case(
        "dynamodb PutItem",
        (80, 81, 82),
        dynamodb(
            "PutItem",
            TableName="t",
            Item={"a": text(80), "b": {"M": {"c": {"L": [text(81)]}}}, "d": {"B": b64(82)}},
        ),
    ),
    Case(
        "dynamodb PutItem and the item before",
        (83,),
        dynamodb("PutItem", TableName="t", Item={}, ReturnValues="ALL_OLD"),
        json.dumps({"Attributes": {"a": text(83)}}).encode(),
    ),
    Case(
        "dynamodb UpdateItem",
        (84, 85),
        dynamodb(
            "UpdateItem",
            TableName="t",
            Key={"k": {"S": "k"}},
            ExpressionAttributeValues={":v": text(84)},
        ),
        json.dumps({"Attributes": {"a": text(85)}}).encode(),
    ),
    Case(
        "dynamodb UpdateItem in the old way",
        (86, 87),
        dynamodb(
            "UpdateItem",
            TableName="t",
            AttributeUpdates={"a": {"Action": "PUT", "Value": text(86)}},
            Expected={"a": {"AttributeValueList": [text(87)]}},
        ),
    ),
    Case(
        "dynamodb Query",
        (88, 89),
        dynamodb(
            "Query",
            TableName="t",
            ExpressionAttributeValues={":v": text(88)},
            QueryFilter={"a": {"AttributeValueList": [text(89)]}},
        ),
    ),
    Case(
        "dynamodb BatchWriteItem",
        (90, 91),
        dynamodb("BatchWriteItem", RequestItems={"t": [{"PutRequest": {"Item": {"a": text(90)}}}]}),
        json.dumps(
            {"UnprocessedItems": {"t": [{"PutRequest": {"Item": {"a": text(91)}}}]}}
        ).encode(),
    ),
    Case(
        "dynamodb TransactWriteItems",
        (92, 93),
        dynamodb(
            "TransactWriteItems",
            TransactItems=[
                {"Put": {"TableName": "t", "Item": {"a": text(92)}}},
                {"Update": {"ExpressionAttributeValues": {":v": text(93)}}},
            ],
        ),
    ),
    Case(
        "dynamodb ExecuteStatement",
        (94, 95),
        dynamodb(
            "ExecuteStatement",
            Statement=f"INSERT INTO t VALUE {{'k': 'k', 'ssn': '{canary(94)}'}}",
            Parameters=[text(95)],
        ),
    ),
    Case(
        "dynamodb BatchExecuteStatement",
        (96, 97),
        dynamodb(
            "BatchExecuteStatement",
            Statements=[
                {
                    "Statement": f"UPDATE t SET a = '{canary(96)}'",  # noqa: S608 - not run
                    "Parameters": [text(97)],
                }
            ],
        ),
    ),
    Case(
        "dynamodb refused with the item in the answer",
        (98,),
        dynamodb("PutItem", TableName="t", Item={}),
        json.dumps(
            {
                "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
                "Message": "The conditional request failed",
                "Item": {"a": text(98)},
            }
        ).encode(),
        400,
    ),
]


def disguises(raw: bytes) -> Iterator[str]:
    """Yields the JSON of a record, and its decoded quotes and base64."""
    plain = raw.decode()
    seen = [plain, unquote(plain), unquote_plus(unquote_plus(plain)), json.dumps(json.loads(raw))]
    yield from seen
    for word in {w for spelled in seen for w in re.findall(r"[A-Za-z0-9+/_-]{8,}={0,2}", spelled)}:
        for start in range(4):
            yield decoded(word[start:])


def decoded(word: str) -> str:
    padded = word.rstrip("=").translate(str.maketrans("-_", "+/"))
    padded = padded[: len(padded) // 4 * 4] if len(padded) % 4 == 1 else padded
    try:
        return base64.b64decode(padded + "=" * (-len(padded) % 4)).decode("latin-1")
    except binascii.Error:
        return ""


def leaks(raw: bytes, numbers: Iterable[int]) -> list[int]:
    """Returns the canaries in a record's text, also behind quoting and base64."""
    found = {int(n) for text in disguises(raw) for n in re.findall(r"Cnry(\d{3,})Zq", text)}
    return [number for number in numbers if number in found]


def record_of(case: Case) -> bytes:
    headers = {"x-amz-request-id": "R", **dict(case.answer_headers)}
    response = Response(case.status, headers, case.answer)
    assembler = Assembler(lambda key: unknown(ACCOUNT, key))
    return assembler.assemble(an_exchange(case.request, response)).entry.record


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_no_secret_of_a_call_is_recorded(case: Case) -> None:
    raw = record_of(case)
    assert leaks(raw, case.canaries) == []
    record = json.loads(raw)
    assert record["eventSource"].partition(".")[0] == case.name.split()[0]


def test_every_canary_is_in_its_own_call() -> None:
    """Otherwise a test could pass without a secret."""
    numbers = [number for case in CASES for number in case.canaries]
    assert len(numbers) == len(set(numbers)) >= 60
    for case in CASES:
        request, body = case.request, case.request.body
        plain = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        whole = [
            request.path,
            request.query,
            *request.headers.values(),
            plain.decode(),
            unquote(plain.decode()),
        ]
        sent = json.dumps([*whole, case.answer.decode(), *map(str, case.answer_headers)])
        assert leaks(sent.encode(), case.canaries) == list(case.canaries), case.name


def test_the_five_services_are_all_tried() -> None:
    assert {case.name.split()[0] for case in CASES} == {"iam", "sts", "s3", "sqs", "dynamodb"}


@pytest.mark.parametrize(
    "disguise",
    [
        canary(1),
        b64(1),
        quote(b64(1), safe=""),
        base64.urlsafe_b64encode(b"??>" + canary(1).encode()).decode().rstrip("="),
        quote("".join(f"%{ord(c):02X}" for c in canary(1))),
        base64.b64encode(b"x" + canary(1).encode()).decode(),
    ],
)
def test_the_search_sees_through_disguises(disguise: str) -> None:
    raw = json.dumps({"requestParameters": {"x": f"before {disguise} after"}}).encode()
    assert leaks(raw, (1, 2)) == [1]
