"""The caller of the JSON API, the accounts it may see, and the events of users' actions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import orjson
from starlette.requests import Request

from opentrail.access.users import OPERATOR, ConsoleRole, ConsoleUser, identity_of_user
from opentrail.api.services import Services
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import (
    EVENT_VERSION,
    MANAGEMENT,
    Json,
    NewEntry,
    format_time,
    new_event_id,
)
from opentrail.core.trail import GLOBAL_REGION
from opentrail.core.version import __version__
from opentrail.ports.clock import Clock
from opentrail.ports.journal import JournalWriter
from opentrail.who.sentence import CONSOLE_AGENT


@dataclass(frozen=True, slots=True)
class ApiCaller:
    """A user of the web console, or the operator of the server's machine."""

    name: str
    role: ConsoleRole
    #: Ids of the accounts whose events the caller may see; None: all.
    accounts: tuple[str, ...] | None = None
    #: Whether the caller has a password here.
    has_password: bool = False
    #: Issuer and subject of a user who signed in by OpenID Connect; users may share a name.
    subject: tuple[str, str] | None = None

    def may_see(self, account: str) -> bool:
        """Returns whether the caller may see an account."""
        return self.accounts is None or account in self.accounts


#: Read the token in `server.json`, or opened the link that the server printed on its machine.
SERVER_OPERATOR = ApiCaller(OPERATOR, ConsoleRole.ADMIN)


class SessionAuthenticator(Protocol):
    """Authenticates the browsers that are signed in to the web console."""

    def check(self, request: Request) -> None:
        """Return if a page of this console sent the request.

        Raises:
            CloudTrailError: the request is for another host, or from a page of another origin.
        """
        ...

    async def caller(self, request: Request) -> ApiCaller:
        """Return the user of a request's session.

        Raises:
            CloudTrailError: `NoSession`: the request has no valid session.
        """
        ...

    async def is_signed_in(self, request: Request) -> bool:
        """Return whether the session of a request is still valid."""
        ...

    def knows(self, request: Request) -> bool:
        """Return whether a request has a session cookie, valid or not."""
        ...


class PersonalTokens:
    """Authenticates programs by the personal tokens of users.

    Args:
        user_of: returns the user of a token; None if the token is invalid.
    """

    def __init__(self, user_of: Callable[[str], Awaitable[ConsoleUser | None]]) -> None:
        self._user_of = user_of

    async def caller(self, request: Request) -> ApiCaller | None:
        """Returns the current user of a request's token; None if the token is invalid."""
        token = bearer_token(request)
        user = None if token is None else await self._user_of(token)
        return None if user is None else ApiCaller(user.name, user.role, user.accounts)

    async def is_signed_in(self, request: Request) -> bool:
        """Returns whether the token of a request is still valid."""
        return await self.caller(request) is not None


def bearer_token(request: Request) -> str | None:
    """Returns the bearer token of a request, even if a proxy added it; None if it has none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else None


def is_by_token(request: Request) -> bool:
    """Returns whether a request was authenticated by the server's token."""
    return bool(request.state.is_by_token)


def is_by_program(request: Request) -> bool:
    """Returns whether a request has a valid token, so the console did not send it."""
    return bool(request.state.is_by_program)


def require(caller: ApiCaller, least: ConsoleRole) -> None:
    """Returns if a caller has at least a role.

    Raises:
        CloudTrailError: `AccessDenied`, which names both roles.
    """
    if caller.role < least:
        message = f"This needs the role {least}; {caller.name} is {caller.role}."
        raise CloudTrailError("AccessDenied", message, 403)


def require_all_accounts(caller: ApiCaller) -> None:
    """Returns if a caller may see all accounts.

    Raises:
        CloudTrailError: `AccessDenied`, which names the accounts that it may see.
    """
    if caller.accounts is not None:
        message = (
            f"This concerns all accounts; {caller.name} may see {', '.join(caller.accounts)} only."
        )
        raise CloudTrailError("AccessDenied", message, 403)


def agent_of(request: Request, max_length: int) -> str:
    """Returns the user agent in records of the console's calls: the browser's, with a mark."""
    return f"{request.headers.get('user-agent', '')[:max_length]} {CONSOLE_AGENT}".strip()


def caller_of(request: Request) -> ApiCaller:
    """Returns who sent an authenticated request."""
    caller: ApiCaller = request.state.caller
    return caller


def identity_of(account: str, caller: ApiCaller) -> dict[str, Any]:
    """Returns the `userIdentity` of a caller in the events of its actions here."""
    return identity_of_user(account, caller.name, caller.subject)


async def is_signed_in(request: Request) -> bool:
    """Returns whether the caller of a long answer is still signed in."""
    return is_by_token(request) or await request.state.sessions.is_signed_in(request)


async def require_signed_in(request: Request) -> None:
    """Returns if the caller of a long answer is still signed in.

    Raises:
        CloudTrailError: `SessionEnded`.
    """
    if not await is_signed_in(request):
        raise CloudTrailError("SessionEnded", "the session has ended", 401)


def seen_by(request: Request, services: Services) -> Services:
    """Returns the services, limited to the caller's accounts."""
    if services.kept_history is None:
        return services
    own_history = services.kept_history.limited_to(caller_of(request).accounts)
    return replace(services, kept_history=own_history)


def own_event(
    request: Request,
    now: datetime,
    identity: Json,
    source: str,
    name: str,
    user_agent: str,
    more: Json,
    is_read_only: bool = False,
    event_type: str = "AwsApiCall",
) -> NewEntry:
    """Returns the event that records a request.

    Arguments are members of its record; `more` has the members about parameters, answer and error.
    """
    account, event_id = identity["accountId"], new_event_id()
    record: dict[str, Any] = {
        "eventVersion": EVENT_VERSION,
        "userIdentity": identity,
        "eventTime": format_time(now),
        "eventSource": source,
        "eventName": name,
        "awsRegion": GLOBAL_REGION,
        "sourceIPAddress": address_of(request),
        "userAgent": user_agent,
        **more,
        "eventID": event_id,
        "readOnly": is_read_only,
        "eventType": event_type,
        "managementEvent": True,
        "recipientAccountId": account,
        "eventCategory": MANAGEMENT,
    }
    raw = orjson.dumps(record)
    return NewEntry("api", now, account, GLOBAL_REGION, MANAGEMENT, event_id, raw)


def address_of(request: Request) -> str:
    """Returns the client address of a request."""
    return request.client.host if request.client else "unknown"


class OwnChanges:
    """Records changes of opentrail itself, and who makes them, before they are made."""

    def __init__(
        self, journal: JournalWriter, clock: Clock, account: Callable[[], str], source: str
    ) -> None:
        self._journal, self._clock = journal, clock
        self._account, self._source = account, source

    async def record(self, request: Request, name: str, parameters: Json) -> None:
        """Returns once the event of this name is durable.

        Raises:
            RecordRefused: the event cannot be recorded; the caller must change nothing.
        """
        entry = own_event(
            request,
            self._clock.now(),
            identity_of(self._account(), caller_of(request)),
            self._source,
            name,
            f"opentrail/{__version__}",
            {"requestParameters": parameters, "responseElements": None},
        )
        await self._journal.append([entry])
