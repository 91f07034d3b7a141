"""The operations on dashboards: their lists, and policies of resources.

Dashboards cannot be created. Source: "GetResourcePolicy", "PutResourcePolicy" and
"DeleteResourcePolicy" of the API Reference; "AWS CloudTrail resource-based policy examples".
"""

from __future__ import annotations

import json
import re
from typing import Any

from opentrail.access.resource_policies import KINDS
from opentrail.api.cloudtrail.operation import OperationCall, operation
from opentrail.api.cloudtrail.trails import resource_not_found
from opentrail.core.arns import (
    CHANNEL,
    DASHBOARD,
    STORE,
    CloudTrailArn,
    read_cloudtrail_arn,
)
from opentrail.core.errors import CloudTrailError, Conflict, MalformedPolicy
from opentrail.core.event import Json
from opentrail.core.policies import PolicyKind, parse_policy


@operation("ListDashboards")
async def list_dashboards(call: OperationCall) -> Json:
    """Returns an empty list: dashboards cannot be created yet."""
    if call.input.get("NextToken") is not None:
        # There is only one page, so opentrail never issues a token.
        raise CloudTrailError("InvalidNextTokenException", "The next token is not valid.")
    return {"Dashboards": []}


# Policies

_ERRORS = {"ResourceArn": "ResourceARNNotValidException"}
_NOT_VALID = "ResourcePolicyNotValidException"
#: Maximum statements of a policy.
_MAX_STATEMENTS = 20
#: Maximum principals of a policy.
_MAX_PRINCIPALS = 50
#: Type → the actions that a policy of such a resource may have, and their description in errors.
_ACTIONS = {
    CHANNEL: (re.compile("cloudtrail-data:PutAuditEvents"), "cloudtrail-data:PutAuditEvents"),
    DASHBOARD: (
        re.compile("cloudtrail:StartDashboardRefresh"),
        "cloudtrail:StartDashboardRefresh",
    ),
    STORE: (re.compile("cloudtrail:.+"), "actions of cloudtrail"),
}


@operation("GetResourcePolicy", errors=_ERRORS)
async def get_resource_policy(call: OperationCall) -> Json:
    """Returns the policy of a resource."""
    arn = await _owner(call)
    document = await call.resource_policies.read(arn)
    if document is None:
        raise _no_policy(arn)
    return {"ResourceArn": str(arn), "ResourcePolicy": document}


@operation("PutResourcePolicy", errors={**_ERRORS, "ResourcePolicy": _NOT_VALID})
async def put_resource_policy(call: OperationCall) -> Json:
    """Sets the policy of a resource, replacing an existing one."""
    arn = await _owner(call)
    document = call.input["ResourcePolicy"]
    try:
        parse_policy(document, PolicyKind.RESOURCE, str(arn))
        _check_statements(arn, json.loads(document)["Statement"])
        await call.resource_policies.put(arn, document)
    except MalformedPolicy as error:
        raise CloudTrailError(_NOT_VALID, f"ResourcePolicy is not valid: {error}") from error
    except Conflict as error:
        raise CloudTrailError(
            "ConflictException", "The policy was changed by another request; try again."
        ) from error
    return {"ResourceArn": str(arn), "ResourcePolicy": document}


@operation("DeleteResourcePolicy", errors=_ERRORS)
async def delete_resource_policy(call: OperationCall) -> Json:
    """Removes the policy of a resource."""
    arn = await _owner(call)
    if await call.resource_policies.read(arn) is None:
        raise _no_policy(arn)
    await call.resource_policies.delete(arn)
    return {}


async def _owner(call: OperationCall) -> CloudTrailArn:
    """Returns the ARN of a call's resource.

    Raises:
        CloudTrailError: `ResourceARNNotValidException`, `ResourceTypeNotSupportedException`,
            `ResourceNotFoundException`.
    """
    text = call.input["ResourceArn"]
    arn = read_cloudtrail_arn(text)
    if arn is None:
        raise CloudTrailError(
            "ResourceARNNotValidException",
            f"ResourceArn {text!r} is not the ARN of an event data store, a channel or a "
            "dashboard.",
        )
    if arn.type not in KINDS:
        raise CloudTrailError(
            "ResourceTypeNotSupportedException", f"Resources of type {arn.type} have no policies."
        )
    is_here = (arn.account, arn.region) == (call.account, call.region)
    if not is_here or not await call.resource_policies.exists(arn):
        raise resource_not_found(text)
    return arn


def _check_statements(arn: CloudTrailArn, document: Any) -> None:
    """Checks the statements of a policy against the rules for its type of resource.

    Raises:
        MalformedPolicy: a statement breaks a rule.
    """
    statements = _as_list(document)
    if len(statements) > _MAX_STATEMENTS:
        raise MalformedPolicy(
            f"Statement must have at most {_MAX_STATEMENTS} elements, not {len(statements)}"
        )
    allowed, described = _ACTIONS[arn.type]
    for index, statement in enumerate(statements, 1):
        place = f"statement {index}:"
        for action in _as_list(statement.get("Action", "NotAction")):
            if not allowed.fullmatch(action):
                raise MalformedPolicy(f"{place} Action must be {described}, not {action}")
        if arn.type == CHANNEL and set(_as_list(statement.get("Resource"))) != {str(arn)}:
            raise MalformedPolicy(f"{place} Resource must be {arn}")
        if (count := _principals(statement)) > _MAX_PRINCIPALS:
            raise MalformedPolicy(
                f"{place} Principal must have at most {_MAX_PRINCIPALS} elements, not {count}"
            )


def _principals(statement: Json) -> int:
    principal = statement.get("Principal", statement.get("NotPrincipal"))
    if not isinstance(principal, dict):
        return 1
    return sum(len(_as_list(values)) for values in principal.values())


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _no_policy(arn: CloudTrailArn) -> CloudTrailError:
    return CloudTrailError(
        "ResourcePolicyNotFoundException", f"Resource {arn} has no resource-based policy."
    )
