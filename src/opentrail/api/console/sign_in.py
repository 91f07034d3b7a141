"""Sign-in to the web console by name and password; records each attempt as ConsoleLogin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from opentrail.access.users import ConsoleUser, ConsoleUsers, identity_of_user
from opentrail.api.console.sessions import Guard, Sessions
from opentrail.api.v1.answers import invalid_parameter, text_in
from opentrail.api.v1.callers import (
    ApiCaller,
    address_of,
    agent_of,
    caller_of,
    identity_of,
    own_event,
)
from opentrail.api.v1.routes import VIEWER, route
from opentrail.core.errors import (
    CloudTrailError,
    PasswordChangeNeeded,
    SignInRefused,
    TooManyTries,
    UsageError,
)
from opentrail.core.event import SIGN_IN, Json
from opentrail.ports.clock import Clock
from opentrail.ports.journal import JournalWriter

_HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"
#: Maximum characters of a header in a record.
_MAX_HEADER_LENGTH = 1_000
_PAGE = "/console/"
#: Issuer and subject of a user who signed in by OpenID Connect, who may change its name.
_SUBJECT = ("OidcIssuer", "OidcSubject")


class LoginRecords:
    """Records successful and failed sign-ins in the form of AWS's console.

    Args:
        journal: makes the records durable.
        clock: the time of the records.
        account: returns the account of this console.
    """

    def __init__(self, journal: JournalWriter, clock: Clock, account: Callable[[], str]) -> None:
        self._journal = journal
        self._clock = clock
        self._account = account

    async def record_success(self, request: Request, user: ApiCaller) -> None:
        """Returns once the record of a successful sign-in is durable.

        Raises:
            RecordRefused: it cannot be recorded now.
        """
        identity = identity_of(self._account(), user)
        await self._append(request, identity, None, user.subject)

    async def record_failure(
        self, request: Request, name: str | None, subject: tuple[str, str] | None = None
    ) -> None:
        """Returns once the record of a failed sign-in is durable.

        The record hides the name of an unknown user, which may be a password in the wrong field.

        Raises:
            RecordRefused: it cannot be recorded now.
        """
        if name is not None:
            identity = identity_of_user(self._account(), name, subject)
            await self._append(request, identity, "Failed authentication", subject)
            return
        unknown = {"type": "IAMUser", "accountId": self._account(), "userName": _HIDDEN}
        await self._append(request, unknown, "No username found in supplied account", None)

    async def _append(
        self,
        request: Request,
        identity: Json,
        failure: str | None,
        subject: tuple[str, str] | None,
    ) -> None:
        page = str(request.url.replace(path=_PAGE, query="", fragment=""))
        more = {
            **({"errorMessage": failure} if failure else {}),
            "requestParameters": None,
            "responseElements": {"ConsoleLogin": "Failure" if failure else "Success"},
            "additionalEventData": {
                "LoginTo": page[:_MAX_HEADER_LENGTH],
                "MobileVersion": "No",
                "MFAUsed": "No",
                **({} if subject is None else dict(zip(_SUBJECT, subject, strict=True))),
            },
        }
        entry = own_event(
            request,
            self._clock.now(),
            identity,
            SIGN_IN,
            "ConsoleLogin",
            agent_of(request, _MAX_HEADER_LENGTH),
            more,
            event_type="AwsConsoleSignIn",
        )
        await self._journal.append([entry])


class SignIn:
    """The calls by which users with a password sign in and replace it."""

    def __init__(
        self, guard: Guard, sessions: Sessions, users: ConsoleUsers, records: LoginRecords
    ) -> None:
        self._guard = guard
        self._sessions = sessions
        self._users = users
        self._records = records

    @route(
        "POST",
        "/login",
        None,
        "sign in",
        body='{"name": "ann", "password": "the own one"}',
    )
    async def login(self, request: Request, body: Json) -> Response:
        """Begins a session by `name` and `password`; `newPassword` replaces the password."""
        name, password = text_in(body, "name"), text_in(body, "password")
        new = None if body.get("newPassword") is None else text_in(body, "newPassword")

        async def check() -> ConsoleUser:
            return await self._users.sign_in(
                name, password, address_of(request), new, request.is_disconnected
            )

        user = await self._verify(request, name, check)
        response = Response(status_code=204)
        if new is not None:
            await self._sessions.end_all_of(user.name)
        caller = session_user(user)
        await self._records.record_success(request, caller)
        await self._guard.begin_for(request, caller, response)
        # Disabling, deleting or changing the user while they signed in could not end this session.
        if await self._users.find(user.name) != user:
            await self._sessions.end_all_of(user.name)
            message = "The user has changed: sign in again."
            raise CloudTrailError("SignInRefused", message, 401)
        return response

    @route(
        "POST",
        "/password",
        VIEWER,
        "change your own password",
        body='{"password": "the old one", "newPassword": "the new one"}',
    )
    async def change_password(self, request: Request, body: Json) -> Response:
        """Replaces the `password` of the session's user by `newPassword`, and ends its sessions.

        A new session begins in this browser.
        """
        user = caller_of(request)
        if not user.has_password:
            raise invalid_parameter(f"{user.name} has no password here")
        text_in(body, "newPassword")
        return await self.login(request, {**body, "name": user.name})

    async def _verify(
        self, request: Request, name: str, check: Callable[[], Awaitable[ConsoleUser]]
    ) -> ConsoleUser:
        """Returns the user who signs in; records a refusal.

        Raises:
            CloudTrailError: the reason for a refusal.
        """
        try:
            return await check()
        except SignInRefused as error:
            await self._records.record_failure(request, name if error.is_known else None)
            raise CloudTrailError("SignInRefused", str(error), 401) from error
        except TooManyTries as error:
            raise CloudTrailError("TooManyTries", str(error), 429) from error
        except PasswordChangeNeeded as error:
            raise CloudTrailError("PasswordChangeNeeded", str(error), 403) from error
        except UsageError as error:
            raise invalid_parameter(str(error)) from error


def session_user(user: ConsoleUser) -> ApiCaller:
    """Returns the caller for sessions of a user with a password."""
    return ApiCaller(user.name, user.role, user.accounts, has_password=True)
