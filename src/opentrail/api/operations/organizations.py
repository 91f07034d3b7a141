"""The operations on the delegated administrators of an organization."""

from __future__ import annotations

from opentrail.api.operation import Json, OperationCall, operation

_INVALID = "InvalidParameterException"


@operation("RegisterOrganizationDelegatedAdmin", errors={"MemberAccountId": _INVALID})
async def register_delegated_admin(call: OperationCall) -> Json:
    """Lets a member account manage the organization's trails."""
    await call.services.organizations.register(call.account, call.input["MemberAccountId"])
    return {}


@operation("DeregisterOrganizationDelegatedAdmin", errors={"DelegatedAdminAccountId": _INVALID})
async def deregister_delegated_admin(call: OperationCall) -> Json:
    """Ends the administration by a member account."""
    await call.services.organizations.deregister(
        call.account, call.input["DelegatedAdminAccountId"]
    )
    return {}
