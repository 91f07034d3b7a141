"""Three hundred secrets through the endpoint: none reaches the disk or any interface."""

from __future__ import annotations

import base64
import gzip
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import boto3
import pytest

from opentrail.commands.sandbox import ADMIN_KEY_ID
from opentrail.wire.message import Request
from tests.capture.proxy.wires import Wire, ok, scripted
from tests.capture.test_secrets import CASES, Case, canary, leaks
from tests.factories import an_sdk_request, catalog
from tests.live.processes import Opentrail, files_in, moto_server, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

#: Operations whose models hold secrets; the unit test has more cases.
OPERATIONS = {
    "kms": ("Encrypt", "ImportKeyMaterial", "ReEncrypt"),
    "secretsmanager": ("CreateSecret", "PutSecretValue", "UpdateSecret"),
    "ssm": ("PutParameter", "SendCommand", "StartSession"),
    "rds": ("CreateDBInstance", "ModifyDBInstance", "CreateDBCluster"),
    "redshift": ("CreateCluster", "ModifyCluster", "CreateHsmConfiguration"),
    "lambda": ("CreateFunction", "UpdateFunctionConfiguration"),
    "cognito-idp": (
        "AdminSetUserPassword",
        "AdminCreateUser",
        "ChangePassword",
        "SignUp",
        "InitiateAuth",
    ),
    "sns": ("Publish", "VerifySMSSandboxPhoneNumber"),
    "emr": ("RunJobFlow",),
    "glue": ("CreateConnection", "UpdateJobFromSourceControl"),
    "lightsail": ("CreateInstances", "CreateRelationalDatabase"),
    "ds": ("CreateDirectory", "ResetUserPassword", "ConnectDirectory"),
    "workmail": ("CreateUser", "ResetPassword"),
    "codebuild": ("ImportSourceCredentials",),
    "iot": ("RegisterCACertificate",),
    "opensearch": ("CreateDomain",),
    "mq": ("CreateBroker", "CreateUser"),
    "directconnect": ("CreateBGPPeer",),
    "datasync": ("CreateLocationSmb", "CreateLocationObjectStorage"),
    "storagegateway": ("JoinDomain", "SetSMBGuestPassword"),
    "fsx": ("CreateFileSystem",),
    "quicksight": ("CreateDataSource",),
    "appstream": ("CreateDirectoryConfig",),
    "elasticache": ("CreateReplicationGroup",),
    "memorydb": ("CreateUser",),
    "dms": ("CreateEndpoint", "ModifyEndpoint"),
    "appflow": ("CreateConnectorProfile",),
}
Secret = Callable[[], str]


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


#: Calls with secrets in strings, maps and pairs that their models do not mark.
UNKNOWING: list[tuple[str, str, Callable[[Secret], dict[str, Any]]]] = [
    (
        "events",
        "PutEvents",
        lambda secret: {
            "Entries": [
                {"Source": "a", "DetailType": "b", "Detail": json.dumps({"password": secret()})}
            ]
        },
    ),
    (
        "glue",
        "CreateConnection",
        lambda secret: {
            "ConnectionInput": {
                "Name": "n",
                "ConnectionType": "JDBC",
                "ConnectionProperties": {
                    "PASSWORD": secret(),
                    "JDBC_CONNECTION_URL": f"jdbc:postgresql://h/db?user=a&password={secret()}",
                },
            }
        },
    ),
    (
        "cloudformation",
        "CreateStack",
        lambda secret: {
            "StackName": "s",
            "Parameters": [{"ParameterKey": "DBPassword", "ParameterValue": secret()}],
            "TemplateBody": json.dumps({"Resources": {"db": {"MasterUserPassword": secret()}}}),
        },
    ),
    (
        "stepfunctions",
        "StartExecution",
        lambda secret: {
            "stateMachineArn": "arn:aws:states:us-east-1:123456789012:stateMachine:m",
            "input": json.dumps({"a": base64_of(json.dumps({"secretAccessKey": secret()}))}),
        },
    ),
    (
        "ecs",
        "RegisterTaskDefinition",
        lambda secret: {
            "family": "f",
            "containerDefinitions": [
                {
                    "name": "c",
                    "environment": [{"name": "DB_PASSWORD", "value": secret()}],
                    "dockerLabels": {"client_secret": secret()},
                }
            ],
        },
    ),
    (
        "batch",
        "SubmitJob",
        lambda secret: {
            "jobName": "j",
            "jobQueue": "q",
            "jobDefinition": "d",
            "parameters": {"dbPassword": secret()},
        },
    ),
    (
        "ssm",
        "CreateDocument",
        lambda secret: {
            "Name": "document",
            "Content": f"<job><user>a</user><password>{secret()}</password></job>",
        },
    ),
    (
        "apigateway",
        "CreateDeployment",
        lambda secret: {
            "restApiId": "a",
            "description": f"mongodb://admin:{secret()}@db.local/app",
        },
    ),
]


def named(secret: Secret, *names: str) -> list[dict[str, Any]]:
    """Returns environment variables as pairs."""
    return [{"name": name, "value": secret()} for name in names]


#: Lists, maps and pairs, and members with neutral names.
HELD: list[tuple[str, str, Callable[[Secret], dict[str, Any]]]] = [
    (
        "elasticache",
        "CreateUser",
        lambda secret: {
            "UserId": "u",
            "Passwords": [secret(), secret()],
            "AuthenticationMode": {"Type": "password", "Passwords": [secret()]},
        },
    ),
    ("elasticache", "ModifyUser", lambda secret: {"UserId": "u", "Passwords": [secret()]}),
    (
        "memorydb",
        "UpdateUser",
        lambda secret: {
            "UserName": "u",
            "AuthenticationMode": {"Type": "password", "Passwords": [secret(), secret()]},
        },
    ),
    (
        "codepipeline",
        "PutWebhook",
        lambda secret: {
            "webhook": {
                "name": "w",
                "authentication": "GITHUB_HMAC",
                "authenticationConfiguration": {"SecretToken": secret()},
            }
        },
    ),
    (
        "codepipeline",
        "CreatePipeline",
        lambda secret: {
            "pipeline": {
                "name": "p",
                "stages": [
                    {
                        "name": "s",
                        "actions": [{"name": "a", "environmentVariables": named(secret, "STAGE")}],
                    }
                ],
            }
        },
    ),
    (
        "appflow",
        "UpdateConnectorProfile",
        lambda secret: {
            "connectorProfileName": "p",
            "connectorProfileConfig": {
                "connectorProfileCredentials": {
                    "Datadog": {"apiKey": secret(), "applicationKey": secret()},
                    "Dynatrace": {"apiToken": secret()},
                    "InforNexus": {"datakey": secret()},
                    "CustomConnector": {"custom": {"credentialsMap": {"a": secret()}}},
                }
            },
        },
    ),
    (
        "directconnect",
        "CreatePublicVirtualInterface",
        lambda secret: {
            "connectionId": "c",
            "newPublicVirtualInterface": {"virtualInterfaceName": "v", "authKey": secret()},
        },
    ),
    (
        "securitylake",
        "CreateSubscriberNotification",
        lambda secret: {
            "subscriberId": "s",
            "configuration": {
                "httpsNotificationConfiguration": {
                    "endpoint": "https://e",
                    "authorizationApiKeyValue": secret(),
                }
            },
        },
    ),
    (
        "pinpoint",
        "UpdateGcmChannel",
        lambda secret: {
            "ApplicationId": "a",
            "GCMChannelRequest": {"ApiKey": secret(), "ServiceJson": secret()},
        },
    ),
    (
        "pinpoint",
        "UpdateApnsChannel",
        lambda secret: {
            "ApplicationId": "a",
            "APNSChannelRequest": {"TokenKey": secret(), "PrivateKey": secret()},
        },
    ),
    (
        "invoicing",
        "CreateProcurementPortalPreference",
        lambda secret: {
            "ProcurementPortalName": "SAP_BUSINESS_NETWORK",
            "TestEnvPreference": {"ProcurementPortalSharedSecret": secret()},
            "ProcurementPortalSharedSecret": secret(),
        },
    ),
    (
        "codebuild",
        "StartBuild",
        lambda secret: {
            "projectName": "p",
            "environmentVariablesOverride": named(secret, "STAGE", "REGION"),
        },
    ),
    (
        "codebuild",
        "CreateProject",
        lambda secret: {
            "name": "p",
            "environment": {"environmentVariables": named(secret, "STAGE")},
        },
    ),
    (
        "batch",
        "RegisterJobDefinition",
        lambda secret: {
            "jobDefinitionName": "j",
            "type": "container",
            "containerProperties": {"environment": named(secret, "STAGE")},
            "eksProperties": {
                "podProperties": {"containers": [{"env": named(secret, "STAGE")}]},
            },
        },
    ),
    (
        "sagemaker",
        "CreateModel",
        lambda secret: {
            "ModelName": "m",
            "PrimaryContainer": {"Environment": {"STAGE": secret()}},
            "Containers": [{"Environment": {"STAGE": secret()}}],
        },
    ),
    (
        "sagemaker",
        "CreateTrainingJob",
        lambda secret: {"TrainingJobName": "t", "Environment": {"STAGE": secret()}},
    ),
    (
        "amplify",
        "UpdateBranch",
        lambda secret: {
            "appId": "a",
            "branchName": "b",
            "environmentVariables": {"STAGE": secret()},
            "basicAuthCredentials": secret(),
        },
    ),
    (
        "amplify",
        "CreateApp",
        lambda secret: {
            "name": "a",
            "environmentVariables": {"STAGE": secret()},
            "accessToken": secret(),
        },
    ),
    (
        "apprunner",
        "CreateService",
        lambda secret: {
            "ServiceName": "s",
            "SourceConfiguration": {
                "ImageRepository": {
                    "ImageConfiguration": {"RuntimeEnvironmentVariables": {"STAGE": secret()}}
                }
            },
        },
    ),
    (
        "elasticbeanstalk",
        "UpdateEnvironment",
        lambda secret: {
            "EnvironmentName": "e",
            "OptionSettings": [
                {
                    "Namespace": "aws:elasticbeanstalk:application:environment",
                    "OptionName": "STAGE",
                    "Value": secret(),
                }
            ],
        },
    ),
    (
        "glue",
        "CreateJob",
        lambda secret: {
            "Name": "j",
            "Role": "r",
            "DefaultArguments": {"--API_KEY": secret(), "--db-password": secret()},
        },
    ),
    (
        "emr",
        "StartNotebookExecution",
        lambda secret: {"EditorId": "e", "EnvironmentVariables": {"STAGE": secret()}},
    ),
    (
        "emr",
        "ModifyInstanceGroups",
        lambda secret: {
            "InstanceGroups": [
                {
                    "InstanceGroupId": "i",
                    "Configurations": [
                        {
                            "Classification": "hadoop-env",
                            "Configurations": [
                                {"Classification": "export", "Properties": {"STAGE": secret()}}
                            ],
                        }
                    ],
                }
            ]
        },
    ),
    (
        "lightsail",
        "CreateContainerServiceDeployment",
        lambda secret: {
            "serviceName": "s",
            "containers": {"c": {"environment": {"STAGE": secret()}}},
        },
    ),
    (
        "lambda",
        "UpdateFunctionConfiguration",
        lambda secret: {
            "FunctionName": "f",
            "Environment": {"Variables": {"STAGE": secret()}},
        },
    ),
    (
        "ecs",
        "RunTask",
        lambda secret: {
            "taskDefinition": "t",
            "overrides": {
                "containerOverrides": [{"name": "c", "environment": named(secret, "STAGE")}]
            },
        },
    ),
    (
        "gamelift",
        "CreateContainerGroupDefinition",
        lambda secret: {
            "Name": "n",
            "SupportContainerDefinitions": [
                {"EnvironmentOverride": [{"Name": "STAGE", "Value": secret()}]}
            ],
        },
    ),
    (
        "greengrassv2",
        "CreateComponentVersion",
        lambda secret: {
            "lambdaFunction": {
                "lambdaArn": "a",
                "componentLambdaParameters": {"environmentVariables": {"STAGE": secret()}},
            }
        },
    ),
    (
        "synthetics",
        "UpdateCanary",
        lambda secret: {"Name": "c", "RunConfig": {"EnvironmentVariables": {"STAGE": secret()}}},
    ),
    (
        "appsync",
        "PutGraphqlApiEnvironmentVariables",
        lambda secret: {"apiId": "a", "environmentVariables": {"STAGE": secret()}},
    ),
    ("appsync", "DeleteApiKey", lambda secret: {"apiId": "a", "id": secret()}),
    (
        "pipes",
        "UpdatePipe",
        lambda secret: {
            "Name": "p",
            "RoleArn": "r",
            "TargetParameters": {
                "BatchJobParameters": {
                    "ContainerOverrides": {"Environment": [{"Name": "STAGE", "Value": secret()}]}
                }
            },
        },
    ),
    (
        "iotwireless",
        "CreateWirelessDevice",
        lambda secret: {
            "Name": "d",
            "LoRaWAN": {
                "OtaaV1_1": {"AppKey": secret(), "NwkKey": secret()},
                "AbpV1_0_x": {"SessionKeys": {"NwkSKey": secret(), "AppSKey": secret()}},
            },
        },
    ),
    (
        "sns",
        "CreatePlatformApplication",
        lambda secret: {
            "Name": "a",
            "Platform": "GCM",
            "Attributes": {"PlatformCredential": secret(), "PlatformPrincipal": "p"},
        },
    ),
    (
        "firehose",
        "UpdateDestination",
        lambda secret: {
            "DeliveryStreamName": "d",
            "SplunkDestinationUpdate": {"HECToken": secret()},
        },
    ),
    (
        "cognito-idp",
        "ConfirmForgotPassword",
        lambda secret: {
            "ClientId": "c",
            "Username": "u",
            "Password": secret(),
            "ConfirmationCode": secret(),
        },
    ),
    (
        "cloudformation",
        "UpdateStack",
        lambda secret: {
            "StackName": "s",
            "Parameters": [{"ParameterKey": "ApiKey", "ParameterValue": secret()}],
            "TemplateBody": f"Resources:\n  db:\n    MasterUserPassword: {secret()}\n",
        },
    ),
    (
        "ec2",
        "RunInstances",
        lambda secret: {
            "ImageId": "i",
            "MinCount": 1,
            "MaxCount": 1,
            "UserData": base64_of(f"#!/bin/sh\nexport TOKEN={secret()}\n"),
        },
    ),
    (
        "ec2",
        "CreateVpnConnection",
        lambda secret: {
            "CustomerGatewayId": "c",
            "Type": "ipsec.1",
            "Options": {"TunnelOptions": [{"PreSharedKey": secret()}, {"PreSharedKey": secret()}]},
        },
    ),
]
_SECRET = re.compile(
    r"password|passphrase|secret_?(access_?)?key|secretstring|secretbinary|clientsecret|privatekey"
    r"|plaintext|zipfile|userdata|(auth|session|security|access|refresh|bearer|identity)token$",
    re.I,
)
#: Names of a secret's place or id: no secrets themselves.
_ABOUT = re.compile(r"(id|arn|xpath)$", re.I)


def looks_like_a_secret(name: str) -> bool:
    return bool(_SECRET.search(name)) and not _ABOUT.search(name)


@dataclass
class Planter:
    """Fills parameters, secret ones with canaries."""

    next_number: int

    def __post_init__(self) -> None:
        self.planted: list[int] = []

    def fill(self, shape: Any, name: str = "", secret: bool = False, depth: int = 0) -> Any:
        secret = secret or bool(shape.metadata.get("sensitive"))
        kind = shape.type_name
        if kind == "structure":
            filled = {}
            for member, inner in shape.members.items():
                hides = secret or bool(inner.metadata.get("sensitive"))
                text = inner.type_name in ("string", "blob") and looks_like_a_secret(member)
                wanted = hides or text or member in shape.required_members
                if wanted or (depth < 2 and inner.type_name in ("structure", "list", "map")):
                    filled[member] = self.fill(inner, member, hides or text, depth + 1)
            return filled
        if kind == "list":
            return [self.fill(shape.member, name, secret, depth + 1)]
        if kind == "map":
            return {"key": self.fill(shape.value, name, secret, depth + 1)}
        if kind in ("string", "blob") and secret:
            self.planted.append(self.next_number)
            self.next_number += 1
            planted = canary(self.planted[-1])
            return planted.encode() if kind == "blob" else planted
        plain: dict[str, Any] = {"boolean": True, "integer": 1, "long": 1, "blob": b"x"}
        plain |= {"timestamp": 1_577_869_200, "float": 1.0, "double": 1.0}
        enum = shape.metadata.get("enum")
        return plain.get(kind, enum[0] if enum else "x" * max(1, shape.metadata.get("min", 1)))


def answer_of(case: Case) -> bytes:
    """Returns the case's answer in its wire format."""
    lines = [f"HTTP/1.1 {case.status} As Planned", f"Content-Length: {len(case.answer)}"]
    lines += [f"{name}: {value}" for name, value in case.answer_headers]
    return "\r\n".join([*lines, "", ""]).encode() + case.answer


@cache
def calls() -> list[tuple[str, Request, list[int], bytes]]:
    """Returns every call with its canaries and its answer."""
    made = [(c.name, c.request, list(c.canaries), answer_of(c)) for c in CASES]
    number = 1 + max(n for _, _, numbers, _ in made for n in numbers)
    for service, operations in OPERATIONS.items():
        for operation in operations:
            model = catalog().services[service].model.operation_model(operation)
            planter = Planter(number)
            parameters = planter.fill(model.input_shape)
            request = an_sdk_request(service, operation, parameters)
            made.append((f"{service} {operation}", request, planter.planted, ok(b"")))
            number = planter.next_number
    for service, operation, parameters_with in (*UNKNOWING, *HELD):
        numbers: list[int] = []

        def secret(numbers: list[int] = numbers, first: int = number) -> str:
            numbers.append(first + len(numbers))
            return canary(numbers[-1])

        request = an_sdk_request(service, operation, parameters_with(secret))
        made.append((f"{service} {operation}", request, numbers, ok(b"")))
        number += len(numbers)
    return [*made, *_told_by_errors(number), *_told_by_answers(number + 2)]


def _told_by_errors(number: int) -> list[tuple[str, Request, list[int], bytes]]:
    """Returns calls whose errors repeat the request: a session token, a blob in base64."""
    token, blob = canary(number), canary(number + 1)
    listing = an_sdk_request("dynamodb", "ListTables", {})
    listing = replace(listing, headers={**listing.headers, "x-amz-security-token": token})
    encrypting = an_sdk_request("kms", "Encrypt", {"KeyId": "k", "Plaintext": blob.encode()})
    refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s"

    def error(text: str) -> bytes:
        body = json.dumps({"__type": "InvalidSignatureException", "message": text}).encode()
        return refused % (len(body), body)

    return [
        (
            "error with a token",
            listing,
            [number],
            error(f"The Canonical String should have been 'x-amz-security-token:{token}'"),
        ),
        (
            "error with a blob",
            encrypting,
            [number + 1],
            error(f"{base64_of(blob)} is not valid"),
        ),
    ]


def _told_by_answers(number: int) -> list[tuple[str, Request, list[int], bytes]]:
    """Returns calls that repeat lists and maps in an answer, and in an error."""
    first, second, third = (canary(number + more) for more in range(3))
    given = {"name": "a", "environmentVariables": {"STAGE": first}}
    answer = json.dumps({"app": given | {"appId": "x"}}).encode()
    user = {"UserName": "u", "AuthenticationMode": {"Type": "password", "Passwords": [second]}}
    error = {"__type": "InvalidParameterValueException", "message": f"'{second}' is too short"}
    text = json.dumps(error).encode()
    changed = {"name": "w", "authenticationConfiguration": {"SecretToken": third}}
    hook = json.dumps({"webhook": {"definition": changed, "url": "https://u"}}).encode()
    return [
        ("answer with a map", an_sdk_request("amplify", "CreateApp", given), [number], ok(answer)),
        (
            "error with a list's text",
            an_sdk_request("memorydb", "CreateUser", user),
            [number + 1],
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text),
        ),
        (
            "answer with a token",
            an_sdk_request("codepipeline", "PutWebhook", {"webhook": changed}),
            [number + 2],
            ok(hook),
        ),
    ]


@cache
def numbers() -> list[int]:
    """Returns the number of every canary."""
    return [number for _, _, of_call, _ in calls() for number in of_call]


def raw(request: Request, number: int) -> bytes:
    """Returns a request in its wire format, with the number of its call."""
    target = f"{request.path}?{request.query}" if request.query else request.path
    lines = [f"{request.method} {target} HTTP/1.1".encode()]
    skipped = {"content-length", "host", "transfer-encoding", "expect"}
    for name, value in request.headers.items():
        if name not in skipped:
            lines.append(f"{name}: {value}".encode())
    lines += [b"Host: 127.0.0.1", b"X-Case: %d" % number]
    lines += [b"Content-Length: %d" % len(request.body), b"", b""]
    return b"\r\n".join(lines) + request.body


def answering(wire: Wire) -> None:
    while True:
        head, _ = wire.request()
        number = int(re.search(rb"X-Case: (\d+)", head)[1])  # type: ignore[index]
        wire.send(calls()[number][3])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Opentrail, str]]:
    folder: Path = tmp_path_factory.mktemp("canaries")
    with moto_server() as s3, scripted(answering) as upstream:
        flags = ("--upstream", upstream.url, "--upstream", f"s3={s3}")
        with opentrail_server(folder / "data", *flags, "--event-bridge", "off") as running:
            running.boto("s3").create_bucket(Bucket="canaries")
            trails = running.boto("cloudtrail")
            trails.create_trail(Name="canaries", S3BucketName="canaries")
            trails.start_logging(Name="canaries")
            for number, (_, request, _, _) in enumerate(calls()):
                wire = Wire.to(running.url).send(raw(request, number))
                wire.answer(head_request=request.method == "HEAD")
                wire.close()
            assert running.opentrail("trail", "flush", "canaries").returncode == 0
            yield running, s3


def test_the_set_has_enough_secrets_and_operations() -> None:
    assert len(numbers()) == len(set(numbers())) >= 200
    assert len({name for name, _, of_call, _ in calls()[len(CASES) :] if of_call}) >= 60
    for name, request, of_call, answer in calls()[len(CASES) :]:
        sent = request.body.decode("latin-1") + request.path + str(request.headers)
        assert set(of_call) <= set(found_in(unquote_plus(sent) + answer.decode())), name


def found_in(text: str) -> list[int]:
    """Returns the canaries in a string, also behind quoting and base64."""
    return leaks(json.dumps({"text": text}).encode(), numbers())


def test_no_secret_is_anywhere_in_the_data_directory(server: tuple[Opentrail, str]) -> None:
    files = files_in(server[0].data_dir)
    assert {"journal", "keys"} <= {f.parent.name for f in files}
    plain = [canary(n).encode() for n in numbers()]
    for file, content in [*files.items(), *server[0].open_files().items()]:
        assert not [secret for secret in plain if secret in content], file


def test_no_interface_reveals_a_secret(server: tuple[Opentrail, str], tmp_path: Path) -> None:
    running, s3 = server
    everything = ("--all-accounts", "--all-regions", "--all-categories", "--limit", "10000")
    records = running.opentrail("lookup", *everything, "--json").stdout
    assert len(records.splitlines()) > len(calls())
    for line in records.splitlines():
        assert found_in(line) == []
    for shape in ([], ["--csv"]):
        assert found_in(running.opentrail("lookup", *everything, *shape).stdout) == []
    for command in (("who", "n"), ("who", "s"), ("who", "document")):
        assert found_in(running.opentrail(*command).stdout) == []
    exported = tmp_path / "exported"
    assert running.opentrail("export", *everything[:3], "--ndjson", str(exported)).returncode == 0
    lines = [line for file in exported.iterdir() for line in file.read_text().splitlines()]
    assert len(lines) > len(calls())
    assert [number for line in lines for number in found_in(line)] == []
    token = json.loads((running.data_dir / "server.json").read_text())
    asked = urllib.request.Request(  # noqa: S310 - its own console
        f"{token['console']}/api/v1/events/stream?categories=all",
        headers={"Authorization": f"Bearer {token['token']}"},
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310
        text = answer.read().decode()
    for page in ("metrics", "health"):
        with urllib.request.urlopen(f"{token['console']}/{page}", timeout=60) as answer:  # noqa: S310
            assert found_in(answer.read().decode()) == []
    assert text.count("\n") > len(calls())
    assert [number for line in text.splitlines() for number in found_in(line)] == []
    pages = running.boto("cloudtrail").get_paginator("lookup_events").paginate()
    for page in pages:
        assert found_in(json.dumps(page["Events"], default=str)) == []
    direct = boto3.client(
        "s3",
        endpoint_url=s3,
        region_name="us-east-1",
        aws_access_key_id=ADMIN_KEY_ID,
        aws_secret_access_key="x",
    )
    delivered = 0
    for item in direct.list_objects_v2(Bucket="canaries")["Contents"]:
        content = direct.get_object(Bucket="canaries", Key=item["Key"])["Body"].read()
        if content:
            delivered += 1
            for record in json.loads(gzip.decompress(content))["Records"]:
                assert found_in(json.dumps(record)) == []
    assert delivered


def test_no_secret_is_in_the_servers_log(server: tuple[Opentrail, str]) -> None:
    """Undecodable calls are logged with their error."""
    running, _ = server
    assert running.stop() == 0
    assert "console" in running.output
    assert [number for line in running.output.splitlines() for number in found_in(line)] == []
    running.start()
