"""An event in one sentence."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.attributes import Resource
from opentrail.core.user_agents import OWN_CONSOLE, Method
from opentrail.who.sentence import (
    CONSOLE_AGENT,
    actor,
    clause,
    method_of,
    parts,
    sentence,
    statement,
    words_of,
)
from tests.collection import at_least, collected_records
from tests.factories import (
    ABSENT,
    ACCOUNT,
    KEY,
    a_data_record,
    a_real_record,
    a_record,
    an_assumed_role,
    an_audit_record,
    real_records,
)

CONSOLE = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
MANAGEMENT_CONSOLE = "the AWS Management Console"


# Agents

AGENT = "aws-cli/2.31.0 app/agent-claude-code"


@pytest.mark.parametrize(
    ("identity", "caller"),
    [
        ({"type": "IAMUser", "userName": "Ada"}, "IAM user Ada's agent Claude Code"),
        (
            an_assumed_role("Deploy", "agent+codex+ada"),
            "role Deploy's agent Codex (session agent+codex+ada)",
        ),
        (
            {"type": "Root", "accountId": ACCOUNT},
            f"the root user's agent Claude Code of account {ACCOUNT}",
        ),
        ({"type": "Unknown"}, "an unknown caller's agent Claude Code"),
    ],
)
def test_an_agent_is_named_after_its_user(identity: dict[str, Any], caller: str) -> None:
    record = a_record(userIdentity=identity, userAgent=AGENT)
    assert f", {caller} created IAM user Mary through the AWS CLI" in sentence(record)
    assert [part.text for part in parts(record) if part.kind == "agent"] == [
        f"'s agent {'Codex' if 'codex' in caller.lower() else 'Claude Code'}"
    ]
    assert "agent" not in actor(record).partition(" (session ")[0]


def test_other_tools_are_the_method_only() -> None:
    record = a_record(userAgent="APN/1.0 HashiCorp/1.0 Terraform/1.9.5")
    assert sentence(record).endswith("IAM user John created IAM user Mary through Terraform")


# The whole sentence


def test_the_reference_sentence() -> None:
    assert sentence(a_record(userAgent=CONSOLE)) == (
        "On January 1, 2020 at 9:00 AM UTC, IAM user John created IAM user Mary "
        "through the AWS Management Console"
    )


@pytest.mark.parametrize(
    ("time", "shown"),
    [
        ("2020-01-01T00:05:00Z", "On January 1, 2020 at 12:05 AM UTC, "),
        ("2020-12-31T12:00:59Z", "On December 31, 2020 at 12:00 PM UTC, "),
        ("2020-07-04T13:09:00Z", "On July 4, 2020 at 1:09 PM UTC, "),
        ("2020-07-04T23:30:00-02:00", "On July 5, 2020 at 1:30 AM UTC, "),
    ],
)
def test_a_time_is_written_in_words_in_utc(time: str, shown: str) -> None:
    assert sentence(a_record(eventTime=time)).startswith(shown)


@pytest.mark.parametrize(
    ("event_name", "deed"),
    [
        ("CreateUser", "created IAM user Mary"),
        ("DeleteUser", "deleted IAM user Mary"),
        ("UpdateUser", "changed IAM user Mary"),
        ("GetUser", "called GetUser on IAM user Mary"),
        ("ResyncMFADevice", "called ResyncMFADevice on IAM user Mary"),
    ],
)
def test_a_calls_verb_describes_it(event_name: str, deed: str) -> None:
    record = a_record(eventName=event_name, responseElements=None, userAgent=ABSENT)
    assert sentence(record).endswith(f"IAM user John {deed}")


@pytest.mark.parametrize(
    ("event_name", "parameters", "answer"),
    [
        (
            "CreateAccessKey",
            {"userName": "Mary"},
            {"accessKey": {"userName": "Mary", "accessKeyId": "AKIAX"}},
        ),
        ("CreateLoginProfile", {"userName": "Mary"}, {"loginProfile": {"userName": "Mary"}}),
        ("DeleteLoginProfile", {"userName": "Mary"}, None),
        ("DeleteAccessKey", {"userName": "Mary", "accessKeyId": "AKIAX"}, None),
        ("DeleteUserPolicy", {"userName": "Mary", "policyName": "p"}, None),
    ],
)
def test_resources_of_a_user_are_not_the_user(
    event_name: str, parameters: dict[str, Any], answer: dict[str, Any] | None
) -> None:
    said = sentence(
        a_record(eventName=event_name, requestParameters=parameters, responseElements=answer)
    )
    assert "created IAM user Mary" not in said
    assert "deleted IAM user Mary" not in said


def test_resource_asked_about_is_the_one_spoken_of() -> None:
    record = a_record(
        eventSource="s3.amazonaws.com",
        eventName="CreateBucket",
        requestParameters={"bucketName": "logs"},
        responseElements=None,
    )
    arn = Resource("AWS::S3::Bucket", "arn:aws:s3:::logs")
    assert "created S3 bucket arn:aws:s3:::logs" in sentence(record, arn)
    assert "created S3 bucket logs" in sentence(record)


def test_a_resource_of_unknown_type_is_a_resource() -> None:
    record = a_record(eventName="CreateThing")
    assert "created resource x" in sentence(record, Resource(None, "x"))
    assert "created New thing x" in sentence(record, Resource("AWS::New::Thing", "x"))


def test_a_call_without_resource_has_its_name() -> None:
    record = a_record(
        eventName="ListUsers", requestParameters=None, responseElements=None, userAgent=ABSENT
    )
    assert sentence(record) == "On January 1, 2020 at 9:00 AM UTC, IAM user John called ListUsers"


def test_a_refused_call_is_described_as_refused() -> None:
    said = sentence(a_record(errorCode="AccessDenied", responseElements=None))
    assert said.endswith("through the AWS CLI and was refused (AccessDenied)")
    assert sentence(a_record()).endswith("through the AWS CLI")


# With special phrases


def iam(event_name: str, asked: dict[str, Any] | None, answer: dict[str, Any] | None = None) -> Any:
    return a_record(
        eventName=event_name, requestParameters=asked, responseElements=answer, userAgent=ABSENT
    )


def of(source: str, event_name: str, asked: dict[str, Any] | None) -> Any:
    return {**iam(event_name, asked), "eventSource": f"{source}.amazonaws.com"}


POLICY = "arn:aws:iam::aws:policy/AdministratorAccess"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (
            iam("AttachUserPolicy", {"userName": "Mary", "policyArn": POLICY}),
            "attached IAM policy AdministratorAccess to IAM user Mary",
        ),
        (
            iam("AddUserToGroup", {"userName": "Mary", "groupName": "admins"}),
            "added IAM user Mary to IAM group admins",
        ),
        (
            iam("CreateAccessKey", None, {"accessKey": {"accessKeyId": "AKIAX", "userName": "M"}}),
            "created access key AKIAX for IAM user M",
        ),
        (iam("TagUser", {"userName": "Mary"}), "tagged IAM user Mary"),
        (of("s3", "PutBucketPolicy", {"bucketName": "b"}), "changed the policy of S3 bucket b"),
        (of("kms", "DisableKey", {"keyId": "1234"}), "disabled KMS key 1234"),
        (
            of("ec2", "TerminateInstances", {"instancesSet": {"items": [{"instanceId": "i-1"}]}}),
            "terminated EC2 instance i-1",
        ),
        (
            of("lambda", "UpdateFunctionCode20150331v2", {"functionName": "f"}),
            "changed the code of Lambda function f",
        ),
        (
            of("sqs", "SetQueueAttributes", {"queueUrl": "https://sqs.x.com/123/jobs"}),
            "changed the settings of SQS queue jobs",
        ),
        (
            of("athena", "CreateWorkGroup", {"name": "primary"}),
            "created Athena work group primary",
        ),
        # Without a member of its phrase, a call is described by its name.
        (iam("AttachUserPolicy", {"userName": "Mary"}), "called AttachUserPolicy on IAM user Mary"),
        (iam("AttachUserPolicy", None), "called AttachUserPolicy"),
        (iam("UpdateAccessKey", {"accessKeyId": 5, "userName": []}), "called UpdateAccessKey"),
    ],
)
def test_a_call_is_described_by_its_phrase(record: dict[str, Any], words: str) -> None:
    assert sentence(record).endswith(f"IAM user John {words}")


def test_a_failed_sign_in_is_described_as_refused() -> None:
    record = a_record(
        eventSource="signin.amazonaws.com",
        eventName="ConsoleLogin",
        userAgent=CONSOLE,
        errorMessage="Failed authentication",
        requestParameters=None,
        responseElements={"ConsoleLogin": "Failure"},
    )
    assert sentence(record).endswith(
        "IAM user John tried to sign in to the AWS Management Console"
        " and was refused (Failed authentication)"
    )


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("AWS::IAM::User", "IAM user"),
        ("AWS::Glue::DevEndpoint", "Glue dev endpoint"),
        ("AWS::EC2::VPCPeeringConnection", "EC2 VPC peering connection"),
        ("Custom", "resource"),
        (None, "resource"),
    ],
)
def test_a_kind_is_called_as_people_call_it(kind: str | None, words: str) -> None:
    assert words_of(kind) == words


# Caller


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ({"type": "Root", "accountId": ACCOUNT}, f"the root user of account {ACCOUNT}"),
        ({"type": "IAMUser", "userName": "John", "accountId": ACCOUNT}, "IAM user John"),
        (an_assumed_role("DataRole", "etl"), "role DataRole (session etl)"),
        (
            {
                "type": "FederatedUser",
                "principalId": f"{ACCOUNT}:bob",
                "sessionContext": {"sessionIssuer": {"type": "IAMUser", "userName": "Alice"}},
            },
            "federated user bob (of IAM user Alice)",
        ),
        (
            {
                "type": "FederatedUser",
                "arn": f"arn:aws:sts::{ACCOUNT}:federated-user/bob",
                "sessionContext": {"sessionIssuer": {"type": "Root"}},
            },
            "federated user bob (of the root user)",
        ),
        ({"type": "FederatedUser", "principalId": f"{ACCOUNT}:bob"}, "federated user bob"),
        (
            {"type": "AssumedRole", "principalId": "AROAEXAMPLE:etl"},
            "an unknown role (session etl)",
        ),
        ({"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}, "AWS service ec2.amazonaws.com"),
        (
            {"accountId": ACCOUNT, "invokedBy": "secretsmanager.amazonaws.com"},
            "AWS service secretsmanager.amazonaws.com",
        ),
        (
            {"type": "AWSAccount", "principalId": "", "accountId": "ANONYMOUS_PRINCIPAL"},
            "an anonymous caller",
        ),
        (
            {"type": "Unknown", "accountId": ACCOUNT, "accessKeyId": KEY},
            f"an unknown caller with access key {KEY}",
        ),
        ({"type": "Unknown"}, "an unknown caller"),
        (None, "an unknown caller"),
    ],
)
def test_a_caller_is_described_in_words(identity: dict[str, Any] | None, words: str) -> None:
    assert actor(a_record(userIdentity=identity)) == words


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ({"type": "Root"}, "the root user of an account that is not recorded"),
        ({"type": "AWSAccount", "accountId": None}, "a caller of an account that is not recorded"),
        ({"type": "AWSService"}, "an AWS service"),
        ({"type": "IdentityCenterUser"}, "IAM Identity Center user of no recorded name"),
        (
            {"type": "IdentityCenterUser", "onBehalfOf": "x"},
            "IAM Identity Center user of no recorded name",
        ),
        ({"type": "FederatedUser", "principalId": None}, "an unknown federated user"),
        ({"type": "AssumedRole", "arn": None}, "an unknown role"),
    ],
)
def test_unrecorded_caller_details_are_labelled(identity: dict[str, Any], words: str) -> None:
    assert actor(a_record(userIdentity=identity)) == words


@pytest.mark.parametrize("kind", ["SAMLUser", "WebIdentityUser", "Directory", "Role"])
def test_a_caller_is_described_by_the_recorded_name(kind: str) -> None:
    identity = {"type": kind, "userName": "carol", "identityProvider": "accounts.google.com"}
    assert "carol" in actor(a_record(userIdentity=identity))


def test_another_accounts_caller_has_its_account() -> None:
    identity = {"type": "AWSAccount", "principalId": "AIDAX", "accountId": "999999999999"}
    assert "999999999999" in actor(a_record(userIdentity=identity))


def test_an_identity_center_user_has_the_recorded_id() -> None:
    identity = {
        "type": "IdentityCenterUser",
        "accountId": ACCOUNT,
        "onBehalfOf": {"userId": "94482488-3041", "identityStoreArn": "arn:aws:identitystore::x"},
    }
    assert "94482488-3041" in actor(a_record(userIdentity=identity))


# Method


@pytest.mark.parametrize(
    ("agent", "method"),
    [
        (CONSOLE, MANAGEMENT_CONSOLE),
        ("console.ec2.amazonaws.com", MANAGEMENT_CONSOLE),
        ("signin.amazonaws.com", MANAGEMENT_CONSOLE),
        ("AWS Internal", "an AWS service"),
        ("[S3Console/0.4, aws-internal/3 aws-sdk-java/1.12.488]", MANAGEMENT_CONSOLE),
        (f"[{CONSOLE}]", MANAGEMENT_CONSOLE),
        (
            "APN/1.0 HashiCorp/1.0 Terraform/1.1.2 (+https://www.terraform.io) "
            "terraform-provider-aws/3.76.1 aws-sdk-go/1.44.157 (go1.19.3; linux; amd64)",
            "Terraform",
        ),
        ("[APN/1.0 HashiCorp/1.0 Terraform/1.1.2 aws-sdk-go/1.44.157]", "Terraform"),
        ("APN/1.0 Pulumi/1.0 PulumiAWS/6.0 aws-sdk-go-v2/1.24", "Pulumi"),
        ("aws-cli/2.15.17 Python/3.11.6 Linux/6.1 exe/x86_64", "the AWS CLI"),
        ("aws-cli/1.29.0 Python/3.11 Linux/6.1 botocore/1.31.0", "the AWS CLI"),
        ("[aws-cli/2.15.17 Python/3.11.6]", "the AWS CLI"),
        ("Boto3/1.43.0 md/Botocore#1.43.0 ua/2.0", "the AWS SDK for Python (Boto3)"),
        ("Botocore/1.31.0 Python/3.11", "the AWS SDK for Python (Boto3)"),
        (f"Mozilla/5.0 (X11; Linux x86_64) {CONSOLE_AGENT}", OWN_CONSOLE),
        (CONSOLE_AGENT, OWN_CONSOLE),
        ("opentrail/0.2.0", "the opentrail command line"),
        ("aws-sdk-go-v2/1.32.3 os/linux lang/go#1.23.1", "the AWS SDK for Go"),
        ("aws-sdk-go/1.44.20 (go1.17.6; linux; amd64)", "the AWS SDK for Go"),
        ("aws-sdk-java/2.20.0 Linux/5.10 OpenJDK", "the AWS SDK for Java"),
        ("aws-sdk-js/3.400.0 os/linux lang/js", "the AWS SDK for JavaScript"),
        ("aws-sdk-nodejs/2.1400.0 linux/v18", "the AWS SDK for JavaScript"),
        ("aws-sdk-rust/1.3.3 os/linux lang/rust/1.80", "the AWS SDK for Rust"),
        ("aws-sdk-dotnet-coreclr/3.7", "the AWS SDK for .NET"),
        ("EC2ConsoleFrontend, aws-internal/3 aws-sdk-java/1.11.1030", MANAGEMENT_CONSOLE),
        ("aws-internal/3 cfg/retry-mode/legacy", "an AWS service"),
        ("Mozilla", MANAGEMENT_CONSOLE),
        ("aws-cli/2.1 Python/3.9 exec-env/CloudShell exe/x86_64", "AWS CloudShell"),
        ("cloudformation.amazonaws.com", "AWS CloudFormation"),
        ("secretsmanager.amazonaws.com", "AWS service secretsmanager.amazonaws.com"),
        ("[]", None),
        ("stratus-red-team_39f95f43", "'stratus-red-team_39f95f43'"),
        ("", None),
        (None, None),
        (ABSENT, None),
    ],
)
def test_a_method_is_described_by_the_user_agent(agent: Any, method: str | None) -> None:
    assert name_of(method_of(a_record(userAgent=agent))) == method


def name_of(method: Method | None) -> str | None:
    return method.name if method else None


@pytest.mark.parametrize(
    ("agent", "kind"),
    [
        ("Boto3/1.9 Botocore/1.12", "sdk"),
        ("aws-cli/2.1 Python/3.9", "cli"),
        ("aws-cli/2.1 Python/3.9 exec-env/CloudShell exe/x86_64", "cli"),
        (CONSOLE, "console"),
        (CONSOLE_AGENT, "opentrail"),
        ("APN/1.0 HashiCorp/1.0 Terraform/1.5.7 aws-sdk-go-v2/1.9", "code"),
        ("cloudformation.amazonaws.com", "service"),
    ],
)
def test_methods_are_of_a_few_kinds(agent: str, kind: str) -> None:
    method = method_of(a_record(userAgent=agent))
    assert method is not None
    assert method.kind == kind


def test_console_session_is_the_console_whatever_its_agent() -> None:
    record = a_record(userAgent="aws-sdk-java/2.20.0", sessionCredentialFromConsole="true")
    assert method_of(record) == Method("console", MANAGEMENT_CONSOLE)


@pytest.mark.parametrize(
    ("identity", "agent", "method"),
    [
        (
            {**an_assumed_role(), "invokedBy": "cloudformation.amazonaws.com"},
            "cloudformation.amazonaws.com",
            "AWS CloudFormation",
        ),
        (
            {**an_assumed_role(), "invokedBy": "cloudformation.amazonaws.com"},
            "console.amazonaws.com",
            "AWS CloudFormation",
        ),
        ({**an_assumed_role(), "invokedBy": "AWS Internal"}, "AWS Internal", "an AWS service"),
        ({**an_assumed_role(), "invokedBy": "signin.amazonaws.com"}, CONSOLE, MANAGEMENT_CONSOLE),
        ({"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}, "ec2.amazonaws.com", None),
        ({"invokedBy": "ec2.amazonaws.com"}, "ec2.amazonaws.com", None),
    ],
)
def test_service_acting_for_a_user_is_the_method(
    identity: dict[str, Any], agent: str, method: str | None
) -> None:
    assert name_of(method_of(a_record(userIdentity=identity, userAgent=agent))) == method


def test_a_long_strange_agent_is_cut_and_quoted() -> None:
    method = method_of(a_record(userAgent="\x1b[31m" + "x" * 500))
    assert method is not None
    assert method.kind == "other"
    assert "\x1b" not in method.name
    assert len(method.name) < 100


# Parts


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (
            {},
            "<actor-type>IAM user <actor>John<plain> <verb>created <object-type>IAM user "
            "<object>Mary<method> through the AWS SDK for Python (Boto3)",
        ),
        (
            {"errorCode": "AccessDenied"},
            "<actor-type>IAM user <actor>John<plain> <verb>called CreateUser<plain> on "
            "<object-type>IAM user <object>Mary<method> through the AWS SDK for Python (Boto3)"
            "<refusal> and was refused (AccessDenied)",
        ),
        (
            {"userIdentity": an_assumed_role()},
            "<plain>role <actor>DataRole<session> (session etl)<plain> <verb>created "
            "<object-type>IAM user <object>Mary<method> through the AWS SDK for Python (Boto3)",
        ),
        (
            {"userIdentity": {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}},
            "<actor-type>AWS service <actor>ec2<actor-type>.amazonaws.com<plain> <verb>created "
            "<object-type>IAM user <object>Mary",
        ),
        (
            {
                "eventName": "AddUserToGroup",
                "requestParameters": {"userName": "Mary", "groupName": "Admins"},
            },
            "<actor-type>IAM user <actor>John<plain> <verb>added IAM user <object>Mary"
            "<verb> to IAM group <object>Admins<method> through the AWS SDK for Python (Boto3)",
        ),
    ],
)
def test_parts_have_the_kinds_of_their_words(members: dict[str, Any], expected: str) -> None:
    record = a_record(**{"userAgent": "Boto3/1.9", **members})
    assert "".join(f"<{kind}>{text}" for kind, text in parts(record)) == expected


# Real records


@pytest.mark.parametrize(
    ("event_name", "words"),
    [
        ("CreateLoginProfile", "a password for the console"),
        ("StopLogging", "stopped logging of trail"),
        ("AddPermission20150331v2", "changed who may invoke Lambda function"),
        ("GetSecretValue", "read secret"),
    ],
)
def test_a_real_record_is_described_by_its_phrase(event_name: str, words: str) -> None:
    assert words in sentence(a_real_record(event_name))


def test_every_real_record_can_be_described() -> None:
    for record in real_records():
        said = sentence(record)
        assert said.startswith("On ")
        assert ", IAM user None " not in said or "userName" not in record["userIdentity"]
        assert ("and was refused" in said) == bool(record.get("errorCode"))


def test_a_data_record_can_be_described() -> None:
    assert "role DataRole (session etl)" in sentence(a_data_record())


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
IDENTITY = ("type", "principalId", "arn", "userName", "sessionContext", "invokedBy", "accountId")
MEMBERS = ("requestParameters", "responseElements", "errorCode", "userAgent", "resources")
EVENTS = ("CreateUser", "AttachUserPolicy", "ConsoleLogin", "AssumeRole", "PutObject")


@pytest.mark.slow
@pytest.mark.hypothesis
@given(
    st.sampled_from(EVENTS) | st.text(),
    st.dictionaries(st.sampled_from(IDENTITY), anything),
    st.sampled_from(["IAMUser", "AssumedRole", "FederatedUser", "Root", "AWSService", None]),
    st.dictionaries(st.sampled_from(MEMBERS), anything),
)
def test_a_record_with_wrong_types_can_be_described(
    event_name: str, identity: dict[str, Any], kind: str | None, odd: dict[str, Any]
) -> None:
    who = {**identity, "type": kind} if kind else identity
    said = sentence(a_record(**{**odd, "eventName": event_name, "userIdentity": who}))
    assert said.startswith("On January 1, 2020 at 9:00 AM UTC, ")


@pytest.mark.slow
def test_every_record_of_the_collection_can_be_described() -> None:
    described = 0
    for source, record in collected_records():
        if source in ("invictus-aws_dataset", "sans504-s3-ransomware", "umccr-flaws-sample"):
            assert " at " in sentence(record)
            described += 1
    assert described > at_least(15_000, 100)


def test_a_refused_call_is_described_as_an_attempt() -> None:
    record = a_record(eventName="DeleteUser", errorCode="AccessDenied", responseElements=None)
    said = sentence(record)
    assert "deleted" not in said
    assert said.endswith(
        "IAM user John called DeleteUser on IAM user Mary through the AWS CLI"
        " and was refused (AccessDenied)"
    )


@pytest.mark.parametrize(
    ("agent", "console"),
    [
        (CONSOLE, "the AWS Management Console"),
        (f"{CONSOLE} {CONSOLE_AGENT}", "the opentrail console"),
    ],
)
def test_a_sign_in_names_its_console(agent: str, console: str) -> None:
    changes: dict[str, Any] = {
        "eventSource": "signin.amazonaws.com",
        "eventName": "ConsoleLogin",
        "userAgent": agent,
        "requestParameters": None,
        "responseElements": {"ConsoleLogin": "Success"},
    }
    assert sentence(a_record(**changes)).endswith(f" signed in to {console}")
    failed = a_record(
        **changes | {"responseElements": {"ConsoleLogin": "Failure"}},
        errorMessage="Failed authentication",
    )
    assert f"tried to sign in to {console} and was refused" in sentence(failed)


@pytest.mark.parametrize(
    "identity",
    [
        {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"},
        {"type": "AWSService"},
        {"invokedBy": "aws-mcp.amazonaws.com"},
    ],
)
def test_a_service_has_no_agent(identity: dict[str, str]) -> None:
    record = a_record(userIdentity=identity, userAgent="aws-cli/2.31.0 app/agent-claude-code")
    assert "'s agent" not in clause(record)


@pytest.mark.parametrize("identity", [{}, {"type": "Unknown"}, {"type": "WebIdentityUser"}])
def test_caller_without_a_name_may_have_an_agent(identity: dict[str, str]) -> None:
    record = a_record(userIdentity=identity, userAgent="aws-cli/2.31.0 app/agent-claude-code")
    assert clause(record).startswith("an unknown caller's agent Claude Code created IAM user Mary")


def test_audit_event_is_a_sentence() -> None:
    record = an_audit_record()
    words = "mary@example.com called CancelOrder of orders.example.com"
    assert sentence(record) == f"On January 1, 2020 at 8:59 AM UTC, {words}"
    record["eventData"]["errorCode"] = "Locked"
    assert clause(record) == f"{words} and was refused (Locked)"
    proof = statement(record)["evidence"]
    assert (proof["eventName"], proof["sourceIPAddress"]) == ("CancelOrder", "192.0.2.7")
