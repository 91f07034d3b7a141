"""An event in one sentence: who did what, when, and by which method."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from opentrail.core.attributes import Resource, resources_of
from opentrail.core.event import Record, parse_time
from opentrail.core.resource_types import SPOKEN

_VERB = re.compile(r"^(Create|Delete|Update|Put|Add|Remove|Attach|Detach|Start|Stop|Run|Set)")
_PAST = {
    "Create": "created",
    "Delete": "deleted",
    "Update": "changed",
    "Put": "changed",
    "Add": "added to",
    "Remove": "removed from",
    "Attach": "attached to",
    "Detach": "detached from",
    "Start": "started",
    "Stop": "stopped",
    "Run": "ran",
    "Set": "set",
}

_KINDS = {
    "Directory": "directory user",
    "IdentityCenterUser": "IAM Identity Center user",
    "Role": "role",
    "SAMLUser": "SAML user",
    "WebIdentityUser": "web identity",
}

#: What a user agent gives away; first hit wins.
_METHODS = (
    (
        re.compile(r"^\[?(console|signin)\.|^\[?Mozilla/|AWS Internal|S3Console"),
        "the AWS Management Console",
    ),
    (re.compile(r"Terraform|terraform-provider"), "Terraform"),
    (re.compile(r"Pulumi", re.I), "Pulumi"),
    (re.compile(r"\baws-cli/"), "the AWS CLI"),
    (re.compile(r"Boto3/|Botocore/", re.I), "the AWS SDK for Python (Boto3)"),
    (re.compile(r"aws-sdk-go"), "the AWS SDK for Go"),
    (re.compile(r"aws-sdk-java"), "the AWS SDK for Java"),
    (re.compile(r"aws-sdk-js|aws-sdk-nodejs"), "the AWS SDK for JavaScript"),
    (re.compile(r"aws-sdk-rust"), "the AWS SDK for Rust"),
    (re.compile(r"aws-sdk-dotnet"), "the AWS SDK for .NET"),
)


def sentence(record: Record, resource: Resource | None = None) -> str:
    """Returns one sentence that tells `record`; times are UTC.

    Args:
        record: a complete record.
        resource: the resource to speak of; by default the first that the record names.
    """
    moment = parse_time(record["eventTime"])
    hour = moment.strftime("%I").lstrip("0")
    when = f"On {moment:%B} {moment.day}, {moment.year} at {hour}:{moment:%M %p}"
    target = resource or next(iter(resources_of(record)), None)
    did = _deed(str(record["eventName"]), target)
    refused = f" but was refused ({record['errorCode']})" if record.get("errorCode") else ""
    method = method_of(record)
    return f"{when}, {actor(record)} {did}{' through ' + method if method else ''}{refused}"


def actor(record: Record) -> str:
    """Returns the caller in words, such as `IAM user John`."""
    identity: Mapping[str, Any] = record.get("userIdentity") or {}
    kind, account = identity.get("type"), identity.get("accountId")
    if kind == "Root":
        return f"the root user of account {account}"
    if kind == "IAMUser":
        return f"IAM user {identity.get('userName')}"
    if kind in ("AssumedRole", "FederatedUser"):
        issuer = (identity.get("sessionContext") or {}).get("sessionIssuer") or {}
        session = str(identity.get("principalId", "")).partition(":")[2]
        name = issuer.get("userName", "an unknown role")
        role = f"role {name}" if kind == "AssumedRole" else f"user {name}"
        return f"{role} (session {session})"
    if kind == "AWSService" or (kind is None and identity.get("invokedBy")):
        return f"AWS service {identity.get('invokedBy')}"
    if account == "ANONYMOUS_PRINCIPAL":
        return "an anonymous caller"
    if identity.get("userName"):
        return f"{_KINDS.get(str(kind), 'user')} {identity['userName']}"
    if kind == "IdentityCenterUser":
        user = (identity.get("onBehalfOf") or {}).get("userId")
        return f"IAM Identity Center user {user}"
    if kind == "AWSAccount":
        return f"a caller of account {account}"
    key = identity.get("accessKeyId")
    return f"an unknown caller with access key {key}" if key else "an unknown caller"


def method_of(record: Record) -> str | None:
    """Returns by which method a call was made, from its user agent; None when it says nothing."""
    if record.get("sessionCredentialFromConsole") == "true":
        return "the AWS Management Console"
    agent = str(record.get("userAgent") or "")
    for pattern, name in _METHODS:
        if pattern.search(agent):
            return name
    return f"{agent[:80]!r}" if agent else None


def _deed(event_name: str, target: Resource | None) -> str:
    """Tells what a call did; a verb of its own only if it did that to `target` itself."""
    if target is None:
        return f"called {event_name}"
    named = f"{SPOKEN.get(target.type or '', 'resource')} {target.name}"
    if creates(event_name, target.type):
        return f"created {named}"
    verb = _VERB.match(event_name)
    label = (target.type or "").rpartition("::")[2]
    rest = event_name[verb.end() :] if verb else ""
    if verb is None or not re.fullmatch(rf"{re.escape(label)}s?(\d.*)?", rest, re.I):
        return f"called {event_name} on {named}"
    return f"{_PAST[verb.group(1)]} {named}"


#: Calls that make a thing without saying so in their names.
_MAKERS = {
    "AWS::S3::Object": ("PutObject", "CopyObject", "CompleteMultipartUpload", "PostObject"),
    "AWS::EC2::Instance": ("RunInstances",),
    "AWS::EC2::Ami": ("CreateImage", "RegisterImage", "CopyImage", "ImportImage"),
    "AWS::KMS::Alias": ("CreateAlias",),
    "AWS::IAM::MFADevice": ("CreateVirtualMFADevice",),
    "AWS::IAM::OIDCProvider": ("CreateOpenIDConnectProvider",),
    "AWS::IAM::ServerCertificate": ("UploadServerCertificate",),
    "AWS::SSM::Parameter": ("PutParameter",),
}


def creates(event_name: str, resource_type: str | None) -> bool:
    """Returns whether a call of this name makes a resource of this type.

    >>> creates("CreateUser", "AWS::IAM::User"), creates("CreateAccessKey", "AWS::IAM::User")
    (True, False)
    """
    if resource_type is None:
        return event_name.startswith("Create")
    if event_name in _MAKERS.get(resource_type, ()):
        return True
    label = resource_type.rpartition("::")[2]
    maker = rf"(Create|Run|Register|Import){re.escape(label)}(\d.*)?"
    return bool(re.fullmatch(maker, event_name, re.I))
