"""Which role each route of the web console needs, and what of it the user of a session may see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from starlette.requests import Request

from opentrail.access.users import ConsoleRole
from opentrail.api.console.sessions import SessionUser
from opentrail.api.operation import Services
from opentrail.core.errors import CloudTrailError

API = "/console/api"
_VIEWER, _AUDITOR = ConsoleRole.VIEWER, ConsoleRole.AUDITOR
_OPERATOR, _ADMIN = ConsoleRole.OPERATOR, ConsoleRole.ADMIN


@dataclass(frozen=True, slots=True)
class RouteRule:
    """The least role that a route needs, and what the route is for."""

    #: None: anybody, signed in or not.
    least: ConsoleRole | None
    purpose: str


#: (method, path) → rule, the most specific paths first. Every route of the console is here.
ROUTES: Mapping[tuple[str, str], RouteRule] = {
    ("POST", f"{API}/session"): RouteRule(None, "open a one-time link"),
    ("POST", f"{API}/login"): RouteRule(None, "sign in"),
    ("GET", f"{API}/login"): RouteRule(None, "see how users sign in"),
    ("POST", f"{API}/oidc"): RouteRule(None, "begin to sign in by OpenID Connect"),
    ("GET", "/console/oidc/callback"): RouteRule(None, "come back from the provider"),
    ("GET", f"{API}/session"): RouteRule(_VIEWER, "see the own session"),
    ("DELETE", f"{API}/session"): RouteRule(_VIEWER, "sign out"),
    ("POST", f"{API}/password"): RouteRule(_VIEWER, "change the own password"),
    ("GET", f"{API}/events"): RouteRule(_VIEWER, "read events"),
    ("GET", f"{API}/events/tail"): RouteRule(_VIEWER, "read events as they are recorded"),
    ("GET", f"{API}/events/count"): RouteRule(_VIEWER, "count events"),
    ("GET", f"{API}/events/histogram"): RouteRule(_VIEWER, "count events over time"),
    ("GET", f"{API}/events/facets"): RouteRule(_VIEWER, "count values of events"),
    ("GET", f"{API}/values"): RouteRule(_VIEWER, "see values that events have"),
    ("GET", f"{API}/events/{{id}}"): RouteRule(_VIEWER, "read one event"),
    ("GET", f"{API}/events/{{id}}/context"): RouteRule(_VIEWER, "read events around one"),
    ("POST", f"{API}/events/{{id}}/proof"): RouteRule(_AUDITOR, "prove an event"),
    ("GET", f"{API}/export"): RouteRule(_AUDITOR, "download events"),
    ("GET", f"{API}/views"): RouteRule(_VIEWER, "use saved views"),
    ("PUT", f"{API}/views/{{name:path}}"): RouteRule(_OPERATOR, "save a view"),
    ("DELETE", f"{API}/views/{{name:path}}"): RouteRule(_OPERATOR, "delete a saved view"),
    ("POST", f"{API}/aws/{{operation}}"): RouteRule(
        _AUDITOR, "call Describe, Get, List and Lookup operations of CloudTrail; operator: all"
    ),
    ("POST", f"{API}/turn-on"): RouteRule(_OPERATOR, "turn CloudTrail on"),
    ("GET", f"{API}/trails"): RouteRule(_AUDITOR, "see trails"),
    ("GET", f"{API}/trails/{{name}}/digests"): RouteRule(_AUDITOR, "see digests of a trail"),
    ("POST", f"{API}/trails/{{name}}/verify"): RouteRule(_AUDITOR, "verify a trail"),
    ("POST", f"{API}/trails/{{name}}/flush"): RouteRule(_OPERATOR, "deliver log files now"),
    ("GET", f"{API}/insights"): RouteRule(_VIEWER, "see incidents"),
    ("GET", f"{API}/insights/status"): RouteRule(_VIEWER, "see what Insights has learned"),
    ("GET", f"{API}/insights/{{id}}"): RouteRule(_VIEWER, "see one incident"),
    ("POST", f"{API}/insights/{{id}}/expected"): RouteRule(
        _OPERATOR, "mark an incident as expected"
    ),
    ("GET", f"{API}/principals/{{arn:path}}"): RouteRule(_VIEWER, "see a principal"),
    ("GET", f"{API}/resources"): RouteRule(_VIEWER, "see a resource"),
    ("GET", f"{API}/health"): RouteRule(_VIEWER, "see whether the server is healthy"),
    ("GET", f"{API}/users"): RouteRule(_ADMIN, "list users"),
    ("POST", f"{API}/users"): RouteRule(_ADMIN, "create a user"),
    ("POST", f"{API}/users/{{name}}/{{action}}"): RouteRule(
        _ADMIN, "disable or enable a user, or reset a password"
    ),
    ("DELETE", f"{API}/users/{{name}}"): RouteRule(_ADMIN, "delete a user"),
    ("GET", "/console/plain"): RouteRule(_VIEWER, "read events without scripts"),
    ("GET", "/console/plain/events/{id}"): RouteRule(_VIEWER, "read one event without scripts"),
    ("POST", "/console/plain/session"): RouteRule(None, "open a one-time link without scripts"),
    ("GET", "/"): RouteRule(None, "load the console's pages"),
    ("GET", "/console"): RouteRule(None, "load the console's pages"),
    ("GET", "/console/{path:path}"): RouteRule(None, "load the console's pages"),
}
#: What operations of CloudTrail that only read begin with.
_READS = ("Describe", "Get", "List", "Lookup")


def require(user: SessionUser, least: ConsoleRole) -> None:
    """Returns if a user has at least a role.

    Raises:
        CloudTrailError: `AccessDenied`, which names both roles.
    """
    if user.role < least:
        message = f"This needs the role {least}; {user.name} is {user.role}."
        raise CloudTrailError("AccessDenied", message, 403)


def role_of_operation(operation: str) -> ConsoleRole:
    """Returns the least role that may call an operation of CloudTrail."""
    return _AUDITOR if operation.startswith(_READS) else _OPERATOR


def user_of(request: Request) -> SessionUser:
    """Returns the user of a request that the guard let through."""
    user: SessionUser = request.state.user
    return user


def seen_by(request: Request, services: Services) -> Services:
    """Returns the services as the user of a request may read them: limited to its accounts."""
    return replace(services, history=services.history.within(user_of(request).accounts))
