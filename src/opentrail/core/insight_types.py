"""Types of Insights events beyond AWS's two, as settings and records name them."""

from __future__ import annotations

NEW_API, NEW_REGION = "new-api", "new-region"
NEW_PRINCIPAL, NEW_USER_AGENT = "new-principal", "new-user-agent"
NEW_AGENT = "new-agent"
ACCESS_DENIED, API_FAN_OUT = "access-denied", "api-fan-out"
#: All of them; those that have a start and an end are last.
PRINCIPAL_TYPES = (
    *(NEW_API, NEW_REGION, NEW_PRINCIPAL, NEW_USER_AGENT, NEW_AGENT),
    *(ACCESS_DENIED, API_FAN_OUT),
)
BURST_TYPES = PRINCIPAL_TYPES[-2:]
#: Minutes in which the events of a burst are counted together.
WINDOW_MINUTES = 15
#: Error codes, as patterns, of calls that were refused because a permission was missing.
DENIED = ("AccessDenied*", "*UnauthorizedOperation", "AuthorizationError*")


def insight_type(name: str) -> str:
    """Returns the `insightType` of a type's records.

    >>> insight_type("new-api"), insight_type("api-fan-out")
    ('OpenTrail.NewApi', 'OpenTrail.ApiFanOut')
    """
    return f"OpenTrail.{name.title().replace('-', '')}"
