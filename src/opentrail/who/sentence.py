"""An event in one sentence: caller, action, time and method.

To support another call, add a row to a table:

- `CALL_PHRASES`: the phrase for a call. `{member}` is a member of the request or of the response; a
  call without that member is described by its name. ARNs and URLs are shortened to names.
- `VERBS`: the first word of a call's name → the verb for the resource that the rest names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from opentrail.core.arns import parse_arn
from opentrail.core.attributes import Resource, resources_of
from opentrail.core.event import (
    ACTIVITY,
    FOUND_DETAILS,
    SIGN_IN,
    Record,
    as_object,
    call_in,
    parse_time,
    refusal,
)
from opentrail.core.resource_types import SPOKEN
from opentrail.core.user_agents import (
    AWS_CONSOLE,
    OWN_CONSOLE,
    Method,
    agent_of,
    method_of_user_agent,
)
from opentrail.core.version import __version__
from opentrail.who.changes import changes, creates, deletes, overwrites, rename_of
from opentrail.who.shapes import PartKind, ProvenSentence, RecordEvidence

#: Event source without `.amazonaws.com` → event name without a version → phrase.
CALL_PHRASES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "cloudtrail": {
            "PutEventSelectors": "changed what trail {trailName} records",
            "StartLogging": "started logging of trail {name}",
            "StopLogging": "stopped logging of trail {name}",
        },
        # opentrail's own services: also `detections`, `insights` and `mcp`.
        "console": {
            "CreateConsoleUser": "created console user {name}",
            "CreatePersonalToken": "created personal token {name} of console user {user}",
            "DeleteConsoleUser": "deleted console user {name}",
            "DisableConsoleUser": "disabled console user {name}",
            "EnableConsoleUser": "enabled console user {name}",
            "EndConsoleUserSessions": "ended the sessions of console user {name}",
            "RemovePersonalToken": "removed personal token {name} of console user {user}",
            "ResetConsoleUserPassword": "reset the password of console user {name}",
        },
        "detections": {
            "DisableDetection": "disabled detection {name}",
            "EnableDetection": "enabled detection {name}",
        },
        "dynamodb": {
            "DeleteItem": "deleted an item of DynamoDB table {tableName}",
            "GetItem": "read an item of DynamoDB table {tableName}",
            "PutItem": "put an item into DynamoDB table {tableName}",
            "UpdateItem": "changed an item of DynamoDB table {tableName}",
        },
        "ec2": {
            "AssociateIamInstanceProfile": "gave EC2 instance {instanceId} an instance profile",
            "AttachVolume": "attached EBS volume {volumeId} to EC2 instance {instanceId}",
            "AuthorizeSecurityGroupEgress": "allowed outgoing traffic in security group {groupId}",
            "AuthorizeSecurityGroupIngress": "allowed incoming traffic in security group {groupId}",
            "DetachVolume": "detached EBS volume {volumeId} from EC2 instance {instanceId}",
            "ModifyInstanceAttribute": "changed EC2 instance {instanceId}",
            "ModifySnapshotAttribute": "changed who may use EBS snapshot {snapshotId}",
            "RevokeSecurityGroupEgress": "disallowed outgoing traffic in security group {groupId}",
            "RevokeSecurityGroupIngress": "disallowed incoming traffic in security group {groupId}",
        },
        "iam": {
            "AddRoleToInstanceProfile": (
                "added IAM role {roleName} to instance profile {instanceProfileName}"
            ),
            "AddUserToGroup": "added IAM user {userName} to IAM group {groupName}",
            "AttachGroupPolicy": "attached IAM policy {policyArn} to IAM group {groupName}",
            "AttachRolePolicy": "attached IAM policy {policyArn} to IAM role {roleName}",
            "AttachUserPolicy": "attached IAM policy {policyArn} to IAM user {userName}",
            "CreateAccessKey": "created access key {accessKeyId} for IAM user {userName}",
            "CreateLoginProfile": "gave IAM user {userName} a password for the console",
            "CreatePolicyVersion": "made a new version of IAM policy {policyArn}",
            "DeactivateMFADevice": "took MFA device {serialNumber} from IAM user {userName}",
            "DeleteAccessKey": "deleted access key {accessKeyId} of IAM user {userName}",
            "DeleteGroupPolicy": "removed inline policy {policyName} of IAM group {groupName}",
            "DeleteLoginProfile": "removed the password for the console of IAM user {userName}",
            "DeleteRolePolicy": "removed inline policy {policyName} of IAM role {roleName}",
            "DeleteUserPolicy": "removed inline policy {policyName} of IAM user {userName}",
            "DetachGroupPolicy": "detached IAM policy {policyArn} from IAM group {groupName}",
            "DetachRolePolicy": "detached IAM policy {policyArn} from IAM role {roleName}",
            "DetachUserPolicy": "detached IAM policy {policyArn} from IAM user {userName}",
            "EnableMFADevice": "gave IAM user {userName} MFA device {serialNumber}",
            "PutGroupPolicy": "put inline policy {policyName} on IAM group {groupName}",
            "PutRolePolicy": "put inline policy {policyName} on IAM role {roleName}",
            "PutUserPolicy": "put inline policy {policyName} on IAM user {userName}",
            "RemoveRoleFromInstanceProfile": (
                "removed IAM role {roleName} from instance profile {instanceProfileName}"
            ),
            "RemoveUserFromGroup": "removed IAM user {userName} from IAM group {groupName}",
            "SetDefaultPolicyVersion": "chose version {versionId} of IAM policy {policyArn}",
            "UpdateAccessKey": "made access key {accessKeyId} of IAM user {userName} {status}",
            "UpdateAssumeRolePolicy": "changed who may assume IAM role {roleName}",
            "UpdateLoginProfile": "changed the password for the console of IAM user {userName}",
        },
        "insights": {"ExpectIncident": "marked incident {id} as expected"},
        "kms": {
            "CancelKeyDeletion": "cancelled the deletion of KMS key {keyId}",
            "CreateAlias": "created alias {aliasName} of KMS key {targetKeyId}",
            "CreateGrant": "granted the use of KMS key {keyId}",
            "PutKeyPolicy": "changed the policy of KMS key {keyId}",
            "ScheduleKeyDeletion": "scheduled the deletion of KMS key {keyId}",
        },
        "lambda": {
            "AddPermission": "changed who may invoke Lambda function {functionName}",
            "RemovePermission": "changed who may invoke Lambda function {functionName}",
            "UpdateFunctionCode": "changed the code of Lambda function {functionName}",
            "UpdateFunctionConfiguration": "changed the settings of Lambda function {functionName}",
        },
        "mcp": {
            "McpToolCall": "used the tool {tool} of opentrail",
        },
        "s3": {
            "CompleteMultipartUpload": "put S3 object {key} into S3 bucket {bucketName}",
            "CopyObject": "copied to S3 object {key} in S3 bucket {bucketName}",
            "DeleteBucketPolicy": "removed the policy of S3 bucket {bucketName}",
            "DeleteObject": "deleted S3 object {key} from S3 bucket {bucketName}",
            "GetObject": "read S3 object {key} of S3 bucket {bucketName}",
            "PostObject": "put S3 object {key} into S3 bucket {bucketName}",
            "PutBucketAcl": "changed the access control list of S3 bucket {bucketName}",
            "PutBucketEncryption": "changed the encryption of S3 bucket {bucketName}",
            "PutBucketLifecycle": "changed the lifecycle of S3 bucket {bucketName}",
            "PutBucketLogging": "changed the access logging of S3 bucket {bucketName}",
            "PutBucketPolicy": "changed the policy of S3 bucket {bucketName}",
            "PutBucketPublicAccessBlock": "changed public access to S3 bucket {bucketName}",
            "DeleteBucketPublicAccessBlock": "changed public access to S3 bucket {bucketName}",
            "PutBucketTagging": "tagged S3 bucket {bucketName}",
            "PutBucketVersioning": "changed the versioning of S3 bucket {bucketName}",
            "PutObject": "put S3 object {key} into S3 bucket {bucketName}",
        },
        "secretsmanager": {
            "GetSecretValue": "read secret {secretId}",
            "PutSecretValue": "changed the value of secret {secretId}",
        },
        "signin": {
            "ConsoleLogin": "signed in to the AWS Management Console",
            "SwitchRole": "switched roles in the AWS Management Console",
        },
        "sns": {"Publish": "published to SNS topic {topicArn}"},
        "sqs": {
            "PurgeQueue": "emptied SQS queue {queueUrl}",
            "ReceiveMessage": "received messages of SQS queue {queueUrl}",
            "SendMessage": "sent a message to SQS queue {queueUrl}",
            "SetQueueAttributes": "changed the settings of SQS queue {queueUrl}",
        },
        "ssm": {
            "GetParameter": "read parameter {name}",
            "PutParameter": "put parameter {name}",
        },
        "sts": {
            "AssumeRole": "assumed IAM role {roleArn} as session {roleSessionName}",
            "AssumeRoleWithSAML": "assumed IAM role {roleArn} with a SAML assertion",
            "AssumeRoleWithWebIdentity": "assumed IAM role {roleArn} with a web identity token",
            "GetCallerIdentity": "asked whose credentials these are",
            "GetFederationToken": "got temporary credentials for federated user {name}",
            "GetSessionToken": "got temporary credentials",
        },
    }
)

VERBS: Mapping[str, str] = MappingProxyType(
    {
        "Add": "added",
        "Attach": "attached",
        "Cancel": "cancelled",
        "Copy": "copied",
        "Create": "created",
        "Delete": "deleted",
        "Deregister": "deregistered",
        "Detach": "detached",
        "Disable": "disabled",
        "Enable": "enabled",
        "Import": "imported",
        "Invoke": "invoked",
        "Modify": "changed",
        "Publish": "published",
        "Put": "put",
        "Reboot": "rebooted",
        "Register": "registered",
        "Remove": "removed",
        "Restore": "restored",
        "Rotate": "rotated",
        "Run": "ran",
        "Set": "set",
        "Start": "started",
        "Stop": "stopped",
        "Tag": "tagged",
        "Terminate": "terminated",
        "Untag": "removed tags from",
        "Update": "changed",
    }
)


# Sentences

_WORD = re.compile(r"[A-Z][a-z]+")
_PLACE = re.compile(r"\{([\w-]+)\}")

_KINDS = {
    "Directory": "directory user",
    "IdentityCenterUser": "IAM Identity Center user",
    "Role": "role",
    "SAMLUser": "SAML user",
    "WebIdentityUser": "web identity",
}

#: Mark in the user agent of calls from opentrail's own web console.
CONSOLE_AGENT = f"opentrail-console/{__version__}"
#: Well-known names of services; the host names other services.
_SERVICES = {
    "autoscaling": "Amazon EC2 Auto Scaling",
    "cloudformation": "AWS CloudFormation",
    "controltower": "AWS Control Tower",
    "servicecatalog": "AWS Service Catalog",
}


class Part(NamedTuple):
    """Words of a clause, with the spaces around them, and the thing that they name.

    Where space is short, you may leave out an `actor-type` such as `IAM user` or `AWS service`.
    """

    kind: PartKind
    text: str


def sentence(record: Record, resource: Resource | None = None) -> str:
    """Returns one sentence that describes `record`; times are UTC.

    Args:
        record: a complete record.
        resource: the resource to mention; default: the first one that the record names.
    """
    moment = parse_time(record["eventTime"])
    hour = moment.strftime("%I").lstrip("0")
    when = f"On {moment:%B} {moment.day}, {moment.year} at {hour}:{moment:%M %p} UTC"
    return f"{when}, {clause(record, resource)}"


def statement(record: Record, resource: Resource | None = None) -> ProvenSentence:
    """Returns `sentence` with its `evidence`: the members of the record that prove it."""
    call = call_in(record)
    identity = as_object(call.get("userIdentity"))
    evidence: RecordEvidence = {
        "eventId": record.get("eventID"),
        "eventTime": record.get("eventTime"),
        "eventName": call.get("eventName"),
        "sourceIPAddress": call.get("sourceIPAddress"),
        "userAgent": call.get("userAgent"),
        "accessKeyId": identity.get("accessKeyId"),
        "principal": identity.get("arn"),
    }
    return {"sentence": sentence(record, resource), "evidence": evidence}


def clause(record: Record, resource: Resource | None = None) -> str:
    """Returns the sentence without its time: `IAM user John created IAM user Mary through …`."""
    return join(parts(record, resource))


def action_of(record: Record) -> str:
    """Returns the action of a call, without its caller and its method: `created IAM user Mary`."""
    return join(_action(record, _main(record)))


def parts(record: Record, resource: Resource | None = None) -> list[Part]:
    """Returns the parts whose concatenation is `clause`.

    Records derived from calls, such as unusual activity, have no caller.
    """
    if record.get("eventCategory") == ACTIVITY:
        return _of_other_service(call_in(record))
    if "eventName" not in record:
        details = as_object(record.get(FOUND_DETAILS.get(str(record.get("eventCategory")), "")))
        about = f"{details.get('eventName')}: {details.get('title') or 'unusual activity'}"
        return [Part("verb", about)]
    target = resource or _main(record)
    method = method_of(record)
    reason = refusal(record)
    did = _action(record, target) if reason is None else _describe_refused(record, target)
    words = [*_caller(record), Part("plain", " "), *did]
    if method and method.name not in join(did):
        words.append(Part("method", f" through {method.name}"))
    if reason:
        words.append(Part("refusal", f" and was refused ({reason})"))
    return words


def _of_other_service(call: Record) -> list[Part]:
    """Returns the parts of an event that another service sent to a channel."""
    words = [
        Part("actor", str(as_object(call.get("userIdentity")).get("principalId"))),
        Part("plain", " "),
        Part("verb", f"called {call.get('eventName')}"),
        Part("plain", " of "),
        Part("object", str(call.get("eventSource"))),
    ]
    if call.get("errorCode"):
        words.append(Part("refusal", f" and was refused ({call['errorCode']})"))
    return words


def join(words: Iterable[Part]) -> str:
    """Returns the text of some parts."""
    return "".join(part.text for part in words)


def _describe_refused(record: Record, target: Resource | None) -> list[Part]:
    """Returns the words for a refused call, which must not imply an effect."""
    if record.get("eventSource") == SIGN_IN:
        return [Part("verb", f"tried to sign in to {_console_of(record)}")]
    call = Part("verb", f"called {record['eventName']}")
    return [call, Part("plain", " on "), *_named(target)] if target else [call]


def _named(target: Resource) -> list[Part]:
    return [Part("object-type", f"{words_of(target.type)} "), Part("object", target.name)]


def _main(record: Record) -> Resource | None:
    """Returns the resource that a call creates, deletes or changes, or the first named one."""
    resources = resources_of(record)
    event_name = str(record["eventName"])
    for resource in resources:
        if creates(event_name, resource.type) or deletes(event_name, resource.type):
            return resource
    for resource in resources:
        if resource.type and changes(event_name, resource.type):
            return resource
    return resources[0] if resources else None


def _caller(record: Record) -> list[Part]:
    """Returns the parts of the caller, with the agent that it claims to be."""
    words = actor_parts(record)
    agent = agent_of(record)
    if agent is None or agent["kind"] != "agent" or "AWS service" in join(words):
        return words  # other tools are methods; services have no agent
    name = next(index for index, part in enumerate(words) if part.kind == "actor")
    return [*words[: name + 1], Part("agent", f"'s agent {agent['name']}"), *words[name + 1 :]]


def actor(record: Record) -> str:
    """Returns the caller in words, such as `IAM user John`."""
    return join(actor_parts(record))


def actor_parts(record: Record) -> list[Part]:
    """Returns the parts of `actor`."""
    identity = as_object(record.get("userIdentity"))
    kind, account = identity.get("type"), identity.get("accountId")
    of_account = f" of account {account}" if account else " of an account that is not recorded"
    if kind == "Root":
        return [Part("actor", "the root user"), Part("actor-type", of_account)]
    if kind == "IAMUser":
        name = identity.get("userName") or _last_part(identity.get("arn"))
        return [Part("actor-type", "IAM user "), Part("actor", str(name))]
    if kind in ("AssumedRole", "FederatedUser"):
        return _session(identity)
    if kind == "AWSService" or (kind is None and identity.get("invokedBy")):
        return _service_actor(identity.get("invokedBy"))
    if account == "ANONYMOUS_PRINCIPAL":
        return [Part("actor", "an anonymous caller")]
    if identity.get("userName"):
        words = f"{_KINDS.get(str(kind), 'user')} "
        return [Part("plain", words), Part("actor", str(identity["userName"]))]
    if kind == "IdentityCenterUser":
        user = as_object(identity.get("onBehalfOf")).get("userId") or "of no recorded name"
        return [Part("plain", "IAM Identity Center user "), Part("actor", str(user))]
    if kind == "AWSAccount":
        return [Part("actor", "a caller"), Part("plain", of_account)]
    key = identity.get("accessKeyId")
    unknown = Part("actor", "an unknown caller")
    return [unknown, Part("plain", f" with access key {key}")] if key else [unknown]


def _service_actor(host: Any) -> list[Part]:
    if not host:
        return [Part("actor", "an AWS service")]
    name = str(host).removesuffix(".amazonaws.com")
    words = [Part("actor-type", "AWS service "), Part("actor", name)]
    return [*words, Part("actor-type", str(host)[len(name) :])] if name != host else words


def _session(identity: Mapping[str, Any]) -> list[Part]:
    """Returns the words for a role session, or for a federated user and its issuer."""
    issuer = as_object(as_object(identity.get("sessionContext")).get("sessionIssuer"))
    issued_by, name = issuer.get("userName"), session_name(identity)
    if identity["type"] == "FederatedUser":
        if not name:
            return [Part("actor", "an unknown federated user")]
        root = issuer.get("type") == "Root"
        of = "the root user" if root else f"IAM user {issued_by}" if issued_by else None
        words = [Part("actor-type", "federated user "), Part("actor", name)]
        return [*words, Part("session", f" (of {of})")] if of else words
    path = str(identity.get("arn") or "").split("/")
    known = issued_by or (path[1] if len(path) > 2 else None)
    role = [Part("plain", "role "), Part("actor", str(known))]
    words = role if known else [Part("actor", "an unknown role")]
    return [*words, Part("session", f" (session {name})")] if name else words


def session_name(identity: Mapping[str, Any]) -> str:
    """Returns the name of a role session or federated user; empty if it is not recorded."""
    path = str(identity.get("arn") or "").split("/")
    return str(identity.get("principalId", "")).partition(":")[2] or path[-1]


def _last_part(arn: Any) -> str:
    return str(arn or "of no recorded name").rpartition("/")[2]


def method_of(record: Record) -> Method | None:
    """Returns the method of a call; None if it is not recorded.

    A service that called on behalf of the caller precedes the console and the user agent.
    """
    identity = as_object(record.get("userIdentity"))
    host = str(identity.get("invokedBy") or "")
    if identity.get("type") in ("AWSService", None) and host:
        return None  # the service is the caller
    if host.endswith(".amazonaws.com") and not host.startswith("signin."):
        return Method("service", _service(host))
    if record.get("sessionCredentialFromConsole") == "true":
        return Method("console", AWS_CONSOLE)
    agent = str(record.get("userAgent") or "").strip()
    if method := method_of_user_agent(agent):
        return method
    if re.fullmatch(r"\[?[a-z0-9.-]+\.amazonaws\.com\]?", agent):
        return Method("service", _service(agent.strip("[]")))
    return Method("other", f"{agent[:80]!r}") if agent.strip("[]") else None


def _console_of(record: Record) -> str:
    """Returns the console that sent a call."""
    method = method_of(record)
    return OWN_CONSOLE if method and method.name == OWN_CONSOLE else AWS_CONSOLE


def _service(host: str) -> str:
    return _SERVICES.get(host.partition(".")[0], f"AWS service {host}")


def words_of(resource_type: str | None) -> str:
    """Returns the everyday name of a resource type.

    >>> words_of("AWS::IAM::User"), words_of("AWS::Athena::WorkGroup"), words_of(None)
    ('IAM user', 'Athena work group', 'resource')
    >>> words_of("AWS::Config::ConfigRule")
    'Config rule'
    """
    if resource_type is None or resource_type.count("::") != 2:
        return "resource"
    if resource_type in SPOKEN:
        return SPOKEN[resource_type]
    _, service, thing = resource_type.split("::")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", thing).split()
    if words and words[0].lower() == service.lower():  # `Config config rule`
        words = words[1:]
    return " ".join([service, *(w if w.isupper() else w.lower() for w in words)])


def _action(record: Record, target: Resource | None) -> list[Part]:
    """Returns the words for a call; its verb is used only if the call is about `target` itself."""
    event_name = str(record["eventName"])
    phrase = _phrase(record, event_name)
    if phrase is not None:
        return phrase
    if target is None:
        return [Part("verb", f"called {event_name}")]
    if rename := rename_of(record):
        former = Resource(target.type, rename[0])
        return [
            Part("verb", "renamed "),
            *_named(former),
            Part("plain", " to "),
            Part("object", rename[1]),
        ]
    verb = _WORD.match(event_name)
    if creates(event_name, target.type):
        did = VERBS.get(verb.group(), "put") if verb and overwrites(event_name) else "created"
        return [Part("verb", f"{did} "), *_named(target)]
    label = (target.type or "").rpartition("::")[2]
    object_name = event_name[verb.end() :] if verb else ""
    own = re.fullmatch(rf"{re.escape(label)}s?(\d.*)?", object_name, re.I)
    if verb is None or not own or verb.group() not in VERBS:
        return [Part("verb", f"called {event_name}"), Part("plain", " on "), *_named(target)]
    return [Part("verb", f"{VERBS[verb.group()]} "), *_named(target)]


def _phrase(record: Record, event_name: str) -> list[Part] | None:
    """Returns the phrase of `CALL_PHRASES` for a call, None without one of its members."""
    source = str(record.get("eventSource", "")).partition(".")[0]
    words = CALL_PHRASES.get(source, {}).get(re.sub(r"\d.*", "", event_name))
    if words is None:
        return None
    phrase: list[Part] = []
    # Words and members of the record alternate.
    for index, piece in enumerate(_PLACE.split(words.replace(AWS_CONSOLE, _console_of(record)))):
        text = _value(record, piece) if index % 2 else piece
        if text is None:
            return None
        if text:
            phrase.append(Part("object" if index % 2 else "verb", text))
    return phrase


def _value(record: Record, member: str) -> str | None:
    """Returns a member of the request, of the response or of an object in it, shortened."""
    parameters = as_object(record.get("requestParameters"))
    response = as_object(record.get("responseElements"))
    for part in (parameters, response, *map(as_object, response.values())):
        value = part.get(member)
        if isinstance(value, str) and value:
            arn = parse_arn(value) if value.startswith("arn:") else None
            return arn.name if arn else re.sub(r"^https?://.*/", "", value)
    return None
