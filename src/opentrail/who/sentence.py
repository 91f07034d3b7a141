"""An event in one sentence: who did what, when, and by which method."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from opentrail.core.arns import parse_arn
from opentrail.core.attributes import Resource, resources_of
from opentrail.core.event import SIGN_IN, Record, as_object, parse_time, refusal
from opentrail.core.resource_types import SPOKEN
from opentrail.version import __version__
from opentrail.who.changes import CALL_PHRASES, VERBS, changes, creates, deletes

_WORD = re.compile(r"[A-Z][a-z]+")
_PLACE = re.compile(r"\{([\w-]+)\}")

_KINDS = {
    "Directory": "directory user",
    "IdentityCenterUser": "IAM Identity Center user",
    "Role": "role",
    "SAMLUser": "SAML user",
    "WebIdentityUser": "web identity",
}

_CONSOLE = "the AWS Management Console"
#: What marks the user agent of calls from opentrail's own web console.
CONSOLE_AGENT = f"opentrail-console/{__version__}"
OWN_CONSOLE = "the opentrail console"
#: Services that have well-known names; others are named by their host.
_SERVICES = {
    "autoscaling": "Amazon EC2 Auto Scaling",
    "cloudformation": "AWS CloudFormation",
    "controltower": "AWS Control Tower",
    "servicecatalog": "AWS Service Catalog",
}

#: Methods by user agent; the first match wins.
_METHODS = (
    (re.compile(r"\bopentrail-console/"), OWN_CONSOLE),
    (re.compile(r"^opentrail/"), "the opentrail command line"),
    (
        re.compile(r"^\[?(console|signin)\.|^\[?Mozilla\b|AWSConsole|S3Console|EC2Console"),
        _CONSOLE,
    ),
    (re.compile(r"AWS;? Internal|aws-internal/"), "an AWS service"),
    (re.compile(r"exec-env/CloudShell"), "AWS CloudShell"),
    (re.compile(r"Terraform|terraform-provider"), "Terraform"),
    (re.compile(r"Pulumi", re.I), "Pulumi"),
    (re.compile(r"\baws-cdk\b", re.I), "the AWS CDK"),
    (re.compile(r"Ansible", re.I), "Ansible"),
    (re.compile(r"AWSPowerShell|AWS\.Tools"), "the AWS Tools for PowerShell"),
    (re.compile(r"\baws-cli/"), "the AWS CLI"),
    (re.compile(r"Boto3/|Botocore/", re.I), "the AWS SDK for Python (Boto3)"),
    (re.compile(r"aws-sdk-go"), "the AWS SDK for Go"),
    (re.compile(r"aws-sdk-java"), "the AWS SDK for Java"),
    (re.compile(r"aws-sdk-js|aws-sdk-nodejs"), "the AWS SDK for JavaScript"),
    (re.compile(r"aws-sdk-rust"), "the AWS SDK for Rust"),
    (re.compile(r"aws-sdk-dotnet"), "the AWS SDK for .NET"),
    (re.compile(r"aws-sdk-cpp"), "the AWS SDK for C++"),
    (re.compile(r"aws-sdk-kotlin"), "the AWS SDK for Kotlin"),
    (re.compile(r"aws-sdk-php"), "the AWS SDK for PHP"),
    (re.compile(r"aws-sdk-ruby"), "the AWS SDK for Ruby"),
    (re.compile(r"aws-sdk-swift"), "the AWS SDK for Swift"),
    (re.compile(r"ec2-api-tools"), "the EC2 API tools"),
)


def sentence(record: Record, resource: Resource | None = None) -> str:
    """Returns one sentence that describes `record`; times are UTC.

    Args:
        record: a complete record.
        resource: the resource to mention; by default the first that the record names.
    """
    moment = parse_time(record["eventTime"])
    hour = moment.strftime("%I").lstrip("0")
    when = f"On {moment:%B} {moment.day}, {moment.year} at {hour}:{moment:%M %p} UTC"
    return f"{when}, {clause(record, resource)}"


def statement(record: Record, resource: Resource | None = None) -> dict[str, Any]:
    """Returns `sentence` with its `evidence`: the members of the record that prove it."""
    identity = as_object(record.get("userIdentity"))
    evidence = {
        "eventId": record.get("eventID"),
        "eventTime": record.get("eventTime"),
        "eventName": record.get("eventName"),
        "sourceIPAddress": record.get("sourceIPAddress"),
        "userAgent": record.get("userAgent"),
        "accessKeyId": identity.get("accessKeyId"),
        "principal": identity.get("arn"),
    }
    return {"sentence": sentence(record, resource), "evidence": evidence}


def clause(record: Record, resource: Resource | None = None) -> str:
    """Returns the sentence without its time: `IAM user John created IAM user Mary through …`."""
    target = resource or _main(record)
    method = method_of(record)
    reason = refusal(record)
    did = _action(record, target) if reason is None else _describe_refused(record, target)
    how = f" through {method}" if method and method not in did else ""
    refused = f" and was refused ({reason})" if reason else ""
    return f"{actor(record)} {did}{how}{refused}"


def _describe_refused(record: Record, target: Resource | None) -> str:
    """Returns the words for a refused call, which do not say that it had an effect."""
    if record.get("eventSource") == SIGN_IN:
        return f"tried to sign in to {_console_of(record)}"
    on = f" on {words_of(target.type)} {target.name}" if target else ""
    return f"called {record['eventName']}{on}"


def _main(record: Record) -> Resource | None:
    """Returns the resource that a call creates, deletes or changes, else the first one named."""
    resources = resources_of(record)
    event_name = str(record["eventName"])
    for resource in resources:
        if creates(event_name, resource.type) or deletes(event_name, resource.type):
            return resource
    for resource in resources:
        if resource.type and changes(event_name, resource.type):
            return resource
    return resources[0] if resources else None


def actor(record: Record) -> str:
    """Returns the caller in words, such as `IAM user John`."""
    identity = as_object(record.get("userIdentity"))
    kind, account = identity.get("type"), identity.get("accountId")
    of_account = f"of account {account}" if account else "of an account that is not recorded"
    if kind == "Root":
        return f"the root user {of_account}"
    if kind == "IAMUser":
        return f"IAM user {identity.get('userName') or _last_part(identity.get('arn'))}"
    if kind in ("AssumedRole", "FederatedUser"):
        return _session(identity)
    if kind == "AWSService" or (kind is None and identity.get("invokedBy")):
        service = identity.get("invokedBy")
        return f"AWS service {service}" if service else "an AWS service"
    if account == "ANONYMOUS_PRINCIPAL":
        return "an anonymous caller"
    if identity.get("userName"):
        return f"{_KINDS.get(str(kind), 'user')} {identity['userName']}"
    if kind == "IdentityCenterUser":
        user = as_object(identity.get("onBehalfOf")).get("userId")
        return f"IAM Identity Center user {user or 'of no recorded name'}"
    if kind == "AWSAccount":
        return f"a caller {of_account}"
    key = identity.get("accessKeyId")
    return f"an unknown caller with access key {key}" if key else "an unknown caller"


def _session(identity: Mapping[str, Any]) -> str:
    """Returns the words for a role's session, or for a federated user and its issuer."""
    issuer = as_object(as_object(identity.get("sessionContext")).get("sessionIssuer"))
    parts = str(identity.get("arn") or "").split("/")
    name = str(identity.get("principalId", "")).partition(":")[2] or parts[-1]
    session = f" (session {name})" if name else ""
    issued_by = issuer.get("userName")
    if identity["type"] == "FederatedUser":
        return f"{f'user {issued_by}' if issued_by else 'an unknown user'}{session}"
    role = issued_by or (parts[1] if len(parts) > 2 else None)
    return f"{f'role {role}' if role else 'an unknown role'}{session}"


def _last_part(arn: Any) -> str:
    return str(arn or "of no recorded name").rpartition("/")[2]


def method_of(record: Record) -> str | None:
    """Returns the method by which a call was made; None if it is not recorded.

    A service that called on behalf of the caller precedes the console and the user agent.
    """
    identity = as_object(record.get("userIdentity"))
    host = str(identity.get("invokedBy") or "")
    if identity.get("type") in ("AWSService", None) and host:
        return None  # the service is the caller
    if host.endswith(".amazonaws.com") and not host.startswith("signin."):
        return _service(host)
    if record.get("sessionCredentialFromConsole") == "true":
        return _CONSOLE
    agent = str(record.get("userAgent") or "").strip()
    for pattern, name in _METHODS:
        if pattern.search(agent):
            return name
    if re.fullmatch(r"\[?[a-z0-9.-]+\.amazonaws\.com\]?", agent):
        return _service(agent.strip("[]"))
    return f"{agent[:80]!r}" if agent.strip("[]") else None


def _console_of(record: Record) -> str:
    """Returns the console to which a call belongs."""
    return OWN_CONSOLE if method_of(record) == OWN_CONSOLE else _CONSOLE


def _service(host: str) -> str:
    return _SERVICES.get(host.partition(".")[0], f"AWS service {host}")


def words_of(resource_type: str | None) -> str:
    """Returns the everyday name of a resource type.

    >>> words_of("AWS::IAM::User"), words_of("AWS::Athena::WorkGroup"), words_of(None)
    ('IAM user', 'Athena work group', 'resource')
    """
    if resource_type is None or resource_type.count("::") != 2:
        return "resource"
    if resource_type in SPOKEN:
        return SPOKEN[resource_type]
    _, service, thing = resource_type.split("::")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", thing).split()
    return " ".join([service, *(w if w.isupper() else w.lower() for w in words)])


def _action(record: Record, target: Resource | None) -> str:
    """Returns the words for a call; its verb is used only if the call is about `target` itself."""
    event_name = str(record["eventName"])
    phrase = _phrase(record, event_name)
    if phrase is not None:
        return phrase
    if target is None:
        return f"called {event_name}"
    name = f"{words_of(target.type)} {target.name}"
    if creates(event_name, target.type):
        return f"created {name}"
    verb = _WORD.match(event_name)
    label = (target.type or "").rpartition("::")[2]
    object_name = event_name[verb.end() :] if verb else ""
    own = re.fullmatch(rf"{re.escape(label)}s?(\d.*)?", object_name, re.I)
    if verb is None or not own or verb.group() not in VERBS:
        return f"called {event_name} on {name}"
    return f"{VERBS[verb.group()]} {name}"


def _phrase(record: Record, event_name: str) -> str | None:
    """Returns the phrase of `CALL_PHRASES` for a call, None if the record lacks a member of it."""
    source = str(record.get("eventSource", "")).partition(".")[0]
    words = CALL_PHRASES.get(source, {}).get(re.sub(r"\d.*", "", event_name))
    if words is None:
        return None
    places = {place: _value(record, place) for place in _PLACE.findall(words)}
    if None in places.values():
        return None
    words = words.replace(_CONSOLE, _console_of(record))
    return _PLACE.sub(lambda match: str(places[match[1]]), words)


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
