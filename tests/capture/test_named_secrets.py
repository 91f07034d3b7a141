"""Secrets named by another member, and secrets in templates, addresses and scripts.

Each canary takes every form in which a call can carry it: the service's protocol, in request
and answer, and strings of other formats.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from opentrail.capture.record.assemble import Assembler
from opentrail.core.identity import unknown
from opentrail.wire.message import Request, Response
from tests.capture.test_secrets import leaks
from tests.factories import (
    ACCOUNT,
    a_json_request,
    a_query_request,
    a_response,
    an_exchange,
    an_s3_request,
    an_sdk_request,
)

#: Names of secrets as callers choose them.
NAMES = ("DBPassword", "db-password", "API_TOKEN", "PW", "/app/db/secret", "clientSecret")
EC2 = "2016-11-15"
CLOUDFORMATION = "2010-05-15"


@dataclass
class Canaries:
    """Numbers the secrets of one case."""

    first: int
    used: list[int] = field(default_factory=list)

    def __call__(self) -> str:
        self.used.append(self.first + len(self.used))
        return f"Cnry{self.used[-1]:04d}Zq"


Build = Callable[[Canaries], tuple[Request, Response]]
CASES: dict[str, Build] = {}


def case(name: str, build: Build) -> None:
    assert name not in CASES
    CASES[name] = build


def sdk(service: str, operation: str, make: Callable[[Canaries], dict[str, Any]]) -> Build:
    return lambda secret: (an_sdk_request(service, operation, make(secret)), a_response())


def named(name: str, build: Callable[[Canaries, str], tuple[Request, Response]]) -> Build:
    return lambda secret: build(secret, name)


def named_sdk(
    name: str, service: str, operation: str, make: Callable[[Canaries, str], dict[str, Any]]
) -> Build:
    return sdk(service, operation, lambda secret: make(secret, name))


def template(style: str, secret: Canaries) -> str:
    """Returns a template in this style with a hidden parameter."""
    default = secret()
    parameters = {
        "Hush": {"Type": "String", "NoEcho": True, "Default": default},
        "Quiet": {"NoEcho": "true", "Type": "String"},
        "Loud": {"Type": "String", "Default": "plain"},
        "Spoken": {"Type": "String", "NoEcho": False},
    }
    document = {"AWSTemplateFormatVersion": "2010-09-09", "Parameters": parameters, "Resources": {}}
    if style == "json":
        return json.dumps(document, indent=1)
    if style == "flow":
        return (
            "{Parameters: {Hush: {Type: String, NoEcho: true, Default: " + default + "}, "
            "Quiet: {NoEcho: 'true', Type: String}, Loud: {Type: String, Default: plain}, "
            "Spoken: {Type: String, NoEcho: false}}, Resources: {}}"
        )
    if style == "mixed":
        return (
            "# a comment\nAWSTemplateFormatVersion: '2010-09-09'\nParameters:\n"
            f"  Hush: {{Type: String, NoEcho: true, Default: {default}}}\n"
            '  "Quiet": { "Type": String, "NoEcho": yes }\n'
            "  Loud: {Type: String, Default: plain}\n\n"
            "  Spoken: {Type: String, NoEcho: false}\nResources: {}\n"
        )
    return (
        "AWSTemplateFormatVersion: 2010-09-09\nParameters:\n    Hush:\n        Type: String\n"
        f"        NoEcho: true # not shown\n        Default: {default}\n"
        "    Quiet:\n        Description: >\n            of two\n            lines\n"
        "        NoEcho: 'true'\n        Type: String\n    Loud:\n        Type: String\n"
        "    Spoken:\n        Type: String\n        NoEcho: 'false'\nResources:\n  B: {}\n"
    )


STYLES = ("json", "yaml", "flow", "mixed")


def stack(secret: Canaries, **more: Any) -> dict[str, Any]:
    """Returns the parameters of a call that makes a stack."""
    given = [{"ParameterKey": name, "ParameterValue": secret()} for name in ("Hush", "Quiet")]
    return {"StackName": "s", "Parameters": given, **more}


def with_template(operation: str, style: str) -> Build:
    named = {"CreateStackSet": "StackSetName", "UpdateStackSet": "StackSetName"}

    def make(secret: Canaries) -> dict[str, Any]:
        given = stack(secret, TemplateBody=template(style, secret))
        given["Parameters"].append({"ParameterKey": "Loud", "ParameterValue": "heard"})
        given["Parameters"].append({"ParameterKey": "Spoken", "ParameterValue": "said"})
        if operation in named:
            given["StackSetName"] = given.pop("StackName")
        if operation == "CreateChangeSet":
            given["ChangeSetName"] = "c"
        return given

    return sdk("cloudformation", operation, make)


STACK_OPERATIONS = (
    "CreateStack",
    "UpdateStack",
    "CreateChangeSet",
    "CreateStackSet",
    "UpdateStackSet",
)
for operation in STACK_OPERATIONS:
    for style in STYLES:
        case(f"cloudformation {operation}, {style}", with_template(operation, style))

#: Templates outside the call, or unreadable ones.
UNSEEN: dict[str, dict[str, Any]] = {
    "at an address": {"TemplateURL": "https://s3.amazonaws.com/b/t.json"},
    "of before": {"UsePreviousTemplate": True},
    "both": {
        "TemplateURL": "https://h/t",
        "TemplateBody": '{"Parameters": {"Hush": {}, "Quiet": {}}}',
    },
    "broken": {"TemplateBody": "{Parameters: {Hush: {Type: String}, Quiet"},
    "not a template": {"TemplateBody": "hello"},
    "without these parameters": {"TemplateBody": '{"Parameters": {"Other": {}}}'},
    "with a key twice": {
        "TemplateBody": '{"Parameters": {"Hush": {"NoEcho": true}, "Quiet": {"NoEcho": true}},'
        ' "Parameters": {"Hush": {}, "Quiet": {}}}'
    },
    "with sections twice": {
        "TemplateBody": "Parameters:\n  Hush: {}\n  Quiet: {}\nParameters:\n  A: {NoEcho: true}\n"
    },
    "with an alias": {
        "TemplateBody": "x: &a {NoEcho: true}\nParameters:\n  Hush: *a\n  Quiet:\n    <<: *a\n"
    },
    "with an anchor": {"TemplateBody": "Parameters: &a\n  Hush: {}\n  Quiet: {}\n"},
    "none": {},
}
for why, more in UNSEEN.items():
    for operation in ("UpdateStack", "CreateChangeSet"):

        def unseen(secret: Canaries, more: dict[str, Any] = more) -> dict[str, Any]:
            return stack(secret, **more)

        case(
            f"cloudformation {operation}, template {why}", sdk("cloudformation", operation, unseen)
        )

for operation in ("CreateStackInstances", "UpdateStackInstances"):
    case(
        f"cloudformation {operation}",
        sdk(
            "cloudformation",
            operation,
            lambda secret: {
                "StackSetName": "s",
                "Regions": ["us-east-1"],
                "Accounts": [ACCOUNT],
                "ParameterOverrides": [{"ParameterKey": "Host", "ParameterValue": secret()}],
            },
        ),
    )
case(
    "cloudformation with an action that the model does not know",
    lambda secret: (
        a_query_request(
            "cloudformation",
            "CreateThing",
            CLOUDFORMATION,
            {
                "Parameters.member.1.ParameterKey": "DBPassword",
                "Parameters.member.1.ParameterValue": secret(),
                "Tags.member.2.Key": "api-token",
                "Tags.member.2.Value": secret(),
                "Filters.member.1.Name": "tag:password",
                "Filters.member.1.Values.member.1": secret(),
            },
        ),
        a_response(),
    ),
)
case(
    "servicecatalog ProvisionProduct",
    sdk(
        "servicecatalog",
        "ProvisionProduct",
        lambda secret: {
            "ProvisionedProductName": "p",
            "ProvisionToken": "t",
            "ProvisioningParameters": [{"Key": "Host", "Value": secret()}],
        },
    ),
)
case(
    "serverlessrepo CreateCloudFormationChangeSet",
    sdk(
        "serverlessrepo",
        "CreateCloudFormationChangeSet",
        lambda secret: {
            "ApplicationId": "a",
            "StackName": "s",
            "ParameterOverrides": [{"Name": "Host", "Value": secret()}],
        },
    ),
)
case(
    "sagemaker CreateProject",
    sdk(
        "sagemaker",
        "CreateProject",
        lambda secret: {
            "ProjectName": "p",
            "ServiceCatalogProvisioningDetails": {
                "ProductId": "p",
                "ProvisioningParameters": [{"Key": "Host", "Value": secret()}],
            },
        },
    ),
)
for style in STYLES:

    def pack(secret: Canaries, style: str = style) -> dict[str, Any]:
        return {
            "ConformancePackName": "c",
            "TemplateBody": template(style, secret),
            "ConformancePackInputParameters": [
                {"ParameterName": "Hush", "ParameterValue": secret()},
                {"ParameterName": "Other", "ParameterValue": secret()},
            ],
        }

    case(f"config PutConformancePack, {style}", sdk("config", "PutConformancePack", pack))


# Names here, values there: in every protocol


def ec2(action: str, **fields: str) -> Request:
    given = {name.replace("_", "."): value for name, value in fields.items()}
    return a_query_request("ec2", action, EC2, given)


def tag_set(name: str, secret: Canaries) -> str:
    return f"<tagSet><item><key>{name}</key><value>{secret()}</value></item></tagSet>"


for name in NAMES:

    def ec2_tags(secret: Canaries, name: str = name) -> tuple[Request, Response]:
        tags = [{"Key": "team", "Value": "a"}, {"Key": name, "Value": secret()}]
        return an_sdk_request(
            "ec2", "CreateTags", {"Resources": ["i-1"], "Tags": tags}
        ), a_response()

    def ec2_run(secret: Canaries, name: str = name) -> tuple[Request, Response]:
        answer = (
            "<RunInstancesResponse><instancesSet><item><instanceId>i-1</instanceId>"
            f"{tag_set(name, secret)}</item></instancesSet></RunInstancesResponse>"
        )
        given = {
            "ImageId": "ami-1",
            "MinCount": 1,
            "MaxCount": 1,
            "TagSpecifications": [
                {"ResourceType": "instance", "Tags": [{"Key": name, "Value": secret()}]},
                {"ResourceType": "volume", "Tags": [{"Key": name, "Value": secret()}]},
            ],
        }
        return an_sdk_request("ec2", "RunInstances", given), a_response(answer.encode())

    def ec2_later(secret: Canaries, name: str = name) -> tuple[Request, Response]:
        answer = (
            "<CreateLaunchTemplateResponse><launchTemplate><launchTemplateId>lt-1</launchTemplateId>"
            f"{tag_set(name, secret)}</launchTemplate></CreateLaunchTemplateResponse>"
        )
        given = {
            "LaunchTemplateName": "t",
            "LaunchTemplateData": {
                "TagSpecifications": [
                    {"ResourceType": "instance", "Tags": [{"Key": name, "Value": secret()}]}
                ]
            },
            "TagSpecifications": [
                {"ResourceType": "launch-template", "Tags": [{"Key": name, "Value": secret()}]}
            ],
        }
        return an_sdk_request("ec2", "CreateLaunchTemplate", given), a_response(answer.encode())

    case(f"ec2 CreateTags {name}", ec2_tags)
    case(f"ec2 RunInstances {name}", ec2_run)
    case(f"ec2 CreateLaunchTemplate {name}", ec2_later)
    case(
        f"ec2 CreateVpcEndpoint {name}",
        named_sdk(
            name,
            "ec2",
            "CreateVpcEndpoint",
            lambda secret, name: {
                "VpcId": "v",
                "TagSpecifications": [
                    {"ResourceType": "vpc-endpoint", "Tags": [{"Key": name, "Value": secret()}]}
                ],
            },
        ),
    )
    case(
        f"ec2 DescribeInstances filtered by {name}",
        named_sdk(
            name,
            "ec2",
            "DescribeInstances",
            lambda secret, name: {"Filters": [{"Name": f"tag:{name}", "Values": [secret()]}]},
        ),
    )
    case(
        f"ec2 with an action that the model does not know, {name}",
        named(
            name,
            lambda secret, name: (
                ec2("CreateThing", Tag_1_Key=name, Tag_1_Value=secret()),
                a_response(),
            ),
        ),
    )
    case(  # rest-json
        f"apigateway UpdateStage {name}",
        named_sdk(
            name,
            "apigateway",
            "UpdateStage",
            lambda secret, name: {
                "restApiId": "a",
                "stageName": "s",
                "patchOperations": [
                    {"op": "replace", "path": f"/variables/{name}", "value": secret()},
                    {"op": "add", "path": f"/{name.strip('/')}/0", "value": secret()},
                ],
            },
        ),
    )
    case(  # query
        f"rds CreateDBInstance {name}",
        named_sdk(
            name,
            "rds",
            "CreateDBInstance",
            lambda secret, name: {
                "DBInstanceIdentifier": "d",
                "DBInstanceClass": "c",
                "Engine": "e",
                "Tags": [{"Key": name, "Value": secret()}],
            },
        ),
    )
    case(  # JSON, and names with another spelling in the model
        f"dynamodb TagResource {name}",
        named(
            name,
            lambda secret, name: (
                a_json_request(
                    "dynamodb",
                    "DynamoDB_20120810.TagResource",
                    {
                        "ResourceArn": "arn",
                        "Tags": [
                            {"Key": name, "Value": secret()},
                            {"key": name, "value": secret()},
                            {"Unknown": {"Name": name, "StringValue": secret()}},
                        ],
                    },
                ),
                a_response(),
            ),
        ),
    )
    case(  # rest-xml
        f"s3 PutBucketTagging {name}",
        named(
            name,
            lambda secret, name: (
                an_s3_request(
                    "PUT",
                    "/b",
                    "tagging",
                    body=(
                        f"<Tagging><TagSet><Tag><Key>{name}</Key><Value>{secret()}</Value></Tag>"
                        f"<Tag><Value>{secret()}</Value><Key>{name}</Key></Tag></TagSet></Tagging>"
                    ).encode(),
                ),
                a_response(),
            ),
        ),
    )
    case(
        f"s3 PutObject {name}",
        named(
            name,
            lambda secret, name: (
                an_s3_request(
                    "PUT",
                    "/b/k",
                    headers={
                        "x-amz-tagging": urlencode({name: secret(), "team": "a"}),
                        f"x-amz-meta-{name.strip('/').replace('/', '-').lower()}": secret(),
                    },
                ),
                a_response(),
            ),
        ),
    )
    case(
        f"cloudfront CreateDistribution {name}",
        named_sdk(
            name,
            "cloudfront",
            "CreateDistribution",
            lambda secret, name: {
                "DistributionConfig": {
                    "CallerReference": "c",
                    "Comment": "",
                    "Enabled": True,
                    "Origins": {
                        "Quantity": 1,
                        "Items": [
                            {
                                "Id": "o",
                                "DomainName": "d",
                                "CustomHeaders": {
                                    "Quantity": 1,
                                    "Items": [{"HeaderName": name, "HeaderValue": secret()}],
                                },
                            }
                        ],
                    },
                    "DefaultCacheBehavior": {
                        "TargetOriginId": "o",
                        "ViewerProtocolPolicy": "allow-all",
                    },
                }
            },
        ),
    )

case(
    "datapipeline PutPipelineDefinition",
    sdk(
        "datapipeline",
        "PutPipelineDefinition",
        lambda secret: {
            "pipelineId": "p",
            "pipelineObjects": [
                {
                    "id": "o",
                    "name": "n",
                    "fields": [
                        {"key": "*password", "stringValue": secret()},
                        {"key": "*hush", "stringValue": secret()},
                    ],
                }
            ],
            "parameterValues": [{"id": "*dbKey", "stringValue": secret()}],
        },
    ),
)
case(
    "ec2 ModifyInstanceAttribute",
    lambda secret: (
        ec2("ModifyInstanceAttribute", InstanceId="i-1", Attribute="userData", Value=secret()),
        a_response(),
    ),
)
for operation in ("CreateProject", "UpdateProject"):
    case(
        f"codebuild {operation}",
        named(
            operation,
            lambda secret, operation: (
                an_sdk_request(
                    "codebuild",
                    operation,
                    {
                        "name": "p",
                        "source": {
                            "type": "GITHUB",
                            "location": f"https://user:{secret()}@github.com/o/r",
                            "auth": {"type": "OAUTH", "resource": secret()},
                        },
                        "secondarySources": [
                            {"type": "GITHUB", "auth": {"type": "OAUTH", "resource": secret()}}
                        ],
                    },
                ),
                a_response(
                    json.dumps(
                        {
                            "project": {
                                "name": "p",
                                "source": {"auth": {"type": "OAUTH", "resource": secret()}},
                            }
                        }
                    ).encode()
                ),
            ),
        ),
    )
case(
    "codebuild StartBuild",
    sdk(
        "codebuild",
        "StartBuild",
        lambda secret: {
            "projectName": "p",
            "sourceAuthOverride": {"type": "OAUTH", "resource": secret()},
        },
    ),
)


# Strings: plain, within another string, and in base64

TEXTS: tuple[str, ...] = (
    # addresses
    "jdbc:oracle:thin:scott/{}@db:1521/orcl",
    "jdbc:oracle:thin:scott/{}@//db:1521/orcl",
    'jdbc:oracle:thin:scott/"{}?;"@db:1521:orcl',
    "jdbc:oracle:oci:scott/{}@(DESCRIPTION=(ADDRESS=(HOST=h)))",
    "JDBC:Oracle:oci8:@scott/{}@h",
    "jdbc:oracle:thin:proxy[user]/{}@h",
    "jdbc:mysql://root:a/{}@h/db",
    "jdbc:mysql:loadbalance://a:{}@h1,a:{}@h2/db",
    "jdbc:postgresql://user/{}@h/db",
    "jdbc:sqlserver://h;user=a;password={};",
    "amqp://guest:a@{}@h/",
    # scripts
    "#!/bin/bash\nexport PW={}\n./run\n",
    "#!/bin/sh\nexport DB_PASS='{} and more'\n",
    'declare -x PW="{}"',
    "PW={} ./run",
    "sh -c 'PW={} ./run'",
    "set PW={}",
    "setx PW {}",
    "FROM a\nENV PW {}\n",
    "$env:PW = '{}'",
    "mysql -u root -p{} db",
    "docker login -u a -p {} registry",
    "sshpass -p {} ssh h",
    "curl -u user:{} https://h",
    "echo 'root:{}' | chpasswd",
    "net user admin {} /add",
    "sqlplus scott/{}@orcl",
    "aws cloudformation create-stack --parameters ParameterKey=Pw,ParameterValue={}",
    # pairs in strings
    "Tags.member.1.Key=password&Tags.member.1.Value={}",
    "- Key: password\n  Value: {} and more\n- Key: team\n  Value: a\n",
    "Parameters:\n- ParameterValue: {}\n  ParameterKey: DBPassword\n",
    "tags: {{Key: password, Value: {}}}",
    "failed for {{'name': 'API_TOKEN', 'value': '{}'}}",
    "<add key='ApiToken' value='{}'/>",
    "<property name='password'>{}</property>",
    "<p><value>{}</value><final>true</final><name>db.password</name></p>",
    "<p><name><![CDATA[password]]></name><value><![CDATA[{}]]></value></p>",
    "<Filter><Name>tag:password</Name><Values><member>{}</member></Values></Filter>",
    '[{{"op":"replace","path":"/db/password","value":"{}"}}]',
    '{{"TagKey":"db-token","TagValue":"{}"}}',
    # templates
    "UserData: !Base64 |\n  #!/bin/bash\n  export X={}\nType: a\n",
    "UserData:\n  Fn::Base64: |\n    export X={}\n  # a comment\nType: a\n",
    "UserData:\n  Fn::Base64:\n    !Sub |\n      export X={}\n",
    "MasterUserPassword: {}\n",
    "Password: correct horse {}\n",
    "Hush:\n  Type: String\n  NoEcho: true\n  Default: {}\n",
    "Hush: {{NoEcho: true, Default: {}}}\n",
    '{{"Hush": {{"NoEcho": "true", "Default": "{}"}}}}',
)


def written(text: str, secret: Canaries) -> str:
    return text.format(*(secret() for _ in range(text.count("{}"))))


def wrapped(text: str) -> Iterator[str]:
    yield text
    yield base64.b64encode(text.encode()).decode()
    yield json.dumps({"a": text})
    if len(quote(text)) < 2000:
        yield f"https://h/?text={quote(text, safe='')}"


for number, text in enumerate(TEXTS):

    def texts(secret: Canaries, text: str = text) -> tuple[Request, Response]:
        made = [one for _ in range(4) for one in [written(text, secret)]]
        forms = [list(wrapped(one))[at] for at, one in enumerate(made)]
        given = {"Name": "d", "Content": forms[0], "Attachments": [], "DisplayName": forms[1]}
        request = a_json_request(
            "ssm", "AmazonSSM.CreateDocument", {**given, "VersionName": forms[2]}
        )
        return request, a_response(json.dumps({"DocumentDescription": {"Name": forms[3]}}).encode())

    def in_ec2(secret: Canaries, text: str = text) -> tuple[Request, Response]:
        tags = [{"Key": "note", "Value": written(text, secret)}]
        return an_sdk_request(
            "ec2", "CreateTags", {"Resources": ["i-1"], "Tags": tags}
        ), a_response()

    case(f"ssm CreateDocument {number}: {text[:30]!r}", texts)
    case(f"ec2 CreateTags {number}: {text[:30]!r}", in_ec2)


def recorded(name: str) -> tuple[bytes, list[int], bytes]:
    """Returns the record of a case, its canaries, and the whole request and answer."""
    secret = Canaries(1000)
    request, response = CASES[name](secret)
    assembler = Assembler(lambda key: unknown(ACCOUNT, key))
    entry = assembler.assemble(an_exchange(request, response)).entry
    sent = "\n".join(
        (request.path, request.query, *request.headers.values(), request.body.decode("latin-1"))
    )
    return entry.record, secret.used, json.dumps([sent, response.body.decode()]).encode()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_named_secrets_are_never_recorded(name: str) -> None:
    raw, canaries, sent = recorded(name)
    assert canaries
    assert leaks(sent, canaries) == canaries, "the test itself"
    assert leaks(raw, canaries) == []
    record = json.loads(raw)
    assert record["eventSource"].partition(".")[0] == name.split()[0]
    assert "decodeError" not in json.dumps(record)


@pytest.mark.slow
def test_the_set_has_three_hundred_canaries() -> None:
    assert sum(len(recorded(name)[1]) for name in CASES) >= 300


@pytest.mark.parametrize("operation", STACK_OPERATIONS)
@pytest.mark.parametrize("style", STYLES)
def test_visible_template_parameters_are_shown(operation: str, style: str) -> None:
    raw, _, _ = recorded(f"cloudformation {operation}, {style}")
    given = json.loads(raw)["requestParameters"]["parameters"]
    shown = {one["parameterKey"]: one["parameterValue"] for one in given}
    assert shown["Loud"] == "heard"
    assert shown["Spoken"] == "said"


def test_values_next_to_a_name_are_shown() -> None:
    tags = [{"Key": "team", "Value": "password"}, {"Key": "secret-name", "Value": "x"}]
    request = an_sdk_request("ec2", "CreateTags", {"Resources": ["i-1"], "Tags": tags})
    record = Assembler(lambda key: unknown(ACCOUNT, key)).assemble(an_exchange(request)).record
    assert record["requestParameters"]["tagSet"]["items"] == [
        {"key": "team", "value": "password"},
        {"key": "secret-name", "value": "x"},
    ]
