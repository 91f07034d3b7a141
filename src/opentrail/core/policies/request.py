"""What a policy is asked about: who calls, which action, on which resource, in which context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Caller:
    """The principal of a request; for an anonymous request, `Caller()`."""

    #: None for a service and for an anonymous request.
    account: str | None = None
    #: ARN of the user, of the role session, of the federated user or of the root user.
    arn: str | None = None
    #: ARN of the role, if `arn` is a role session.
    role_arn: str | None = None
    #: Such as `cloudtrail.amazonaws.com`, if a service calls on its own behalf.
    service: str | None = None
    #: Identity provider, if the caller is not known to IAM yet.
    federated: str | None = None
    is_root: bool = False


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """A request to decide on."""

    caller: Caller
    #: Such as `cloudtrail:GetTrailStatus`.
    action: str
    #: ARN, or `*` for an action without resources.
    resource: str
    #: Account that owns the resource.
    resource_account: str
    #: Condition keys in lower case → values; a key without values counts as missing.
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
