"""Users of the web console and their personal tokens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypedDict

from starlette.requests import Request

from opentrail.access.user_tokens import DEFAULT_DAYS, UserToken, UserTokens
from opentrail.access.users import ConsoleRole, ConsoleUser, ConsoleUsers
from opentrail.api.v1.answers import Role, invalid_parameter, role_name, text_in
from opentrail.api.v1.callers import OwnChanges
from opentrail.api.v1.routes import ADMIN, route
from opentrail.core.event import Json, format_time

Act = Callable[[str], Awaitable[None]]
#: Ends the sessions of the user of a name, and returns their number.
EndSessions = Callable[[str], Awaitable[int]]

_MEMBERS = ("name", "role", "accounts")
#: Action on a user → the name of its event.
ACTIONS = {
    "disable": "DisableConsoleUser",
    "enable": "EnableConsoleUser",
    "reset-password": "ResetConsoleUserPassword",
    "delete": "DeleteConsoleUser",
    "end-sessions": "EndConsoleUserSessions",
}


class User(TypedDict):
    """A user of the web console."""

    name: str
    role: Role
    accounts: list[str] | None
    created: str
    active: bool
    mustChangePassword: bool


class UserList(TypedDict):
    """The users, by name."""

    users: list[User]


class ChangedUser(TypedDict, total=False):
    """A changed user, and its one-time password if it has a new one; empty for a deleted user."""

    user: User
    password: str
    #: Number of ended sessions, only for the action `end-sessions`.
    endedSessions: int


class UserAdministration:
    """Manages users; each change of a user also ends the user's sessions.

    Args:
        users: the users.
        changes: records requested changes.
        end_sessions: ends all sessions of the user of a name.
        remove_tokens: removes all personal tokens of the user of a name.
    """

    def __init__(
        self,
        users: ConsoleUsers,
        changes: OwnChanges,
        end_sessions: EndSessions,
        remove_tokens: Act,
    ) -> None:
        self._users = users
        self._changes = changes
        self._end_sessions = end_sessions
        self._remove_tokens = remove_tokens

    @route("GET", "/users", ADMIN, "list users")
    async def list(self, _request: Request) -> UserList:
        """Returns the users, by name."""
        return {"users": [_user_of(user) for user in await self._users.all()]}

    @route("POST", "/users", ADMIN, "create a user", body='{"name": "ann", "role": "viewer"}')
    async def create(self, request: Request, body: Json) -> ChangedUser:
        """Creates a user; only this answer has the password for the first sign-in.

        `body` has `name`, `role` and perhaps `accounts`, a list of account ids.

        Raises:
            CloudTrailError: `InvalidParameterException`, which names the member.
            UsageError: a value is invalid, or the user already exists.
        """
        for member in body:
            if member not in _MEMBERS:
                raise invalid_parameter(
                    f"there is no member {member!r}; known are {', '.join(_MEMBERS)}"
                )
        name, accounts = body.get("name"), body.get("accounts")
        if not isinstance(name, str):
            raise invalid_parameter(f"name must be a string, not {name!r}")
        if accounts is not None and not _is_list_of_strings(accounts):
            raise invalid_parameter(f"accounts must be a list of account ids, not {accounts!r}")
        role = ConsoleRole.parse(body.get("role"))
        asked = {"name": name, "role": role_name(role), "accounts": accounts}
        await self._changes.record(request, "CreateConsoleUser", asked)
        user, password = await self._users.create(name, role, accounts)
        return {"user": _user_of(user), "password": password}

    @route(
        "POST",
        "/users/change",
        ADMIN,
        "disable, enable or delete a user, reset its password, or end its sessions",
        body='{"name": "ann", "action": "disable"}',
    )
    async def change(self, request: Request, body: Json) -> ChangedUser:
        """Disables, enables or deletes a user, or replaces its password, and ends its sessions.

        `end-sessions` does only that, also for users who signed in by OpenID Connect.

        Raises:
            CloudTrailError: `InvalidParameterException`: there is no such action.
            UsageError: there is no such user.
        """
        name, action = str(body.get("name", "")), str(body.get("action", ""))
        if action not in ACTIONS:
            raise invalid_parameter(f"action must be one of {', '.join(ACTIONS)}, not {action!r}")
        await self._changes.record(request, ACTIONS[action], {"name": name})
        answer: ChangedUser = {}
        if action == "end-sessions":
            return {"endedSessions": await self._end_sessions(name)}
        if action == "enable":
            user = await self._users.enable(name)
        elif action == "reset-password":
            user, answer["password"] = await self._users.reset_password(name)
        else:
            user = await self._users.disable(name)
        await self._end_sessions(name)
        if action != "delete":
            return {**answer, "user": _user_of(user)}
        await self._remove_tokens(name)
        # The last step, so that after a failure an administrator can delete the user again.
        await self._users.delete(name)
        return answer


def _is_list_of_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _user_of(user: ConsoleUser) -> User:
    return {
        "name": user.name,
        "role": role_name(user.role),
        "accounts": None if user.accounts is None else list(user.accounts),
        "created": format_time(user.created),
        "active": user.is_active,
        "mustChangePassword": user.must_change_password,
    }


class PersonalToken(TypedDict):
    """A personal token, without its secret."""

    user: str
    name: str
    created: str
    expires: str


class PersonalTokenList(TypedDict):
    """The personal tokens, by user and name."""

    tokens: list[PersonalToken]


class NewPersonalToken(TypedDict):
    """A personal token, and its secret, which only this answer has."""

    token: PersonalToken
    secret: str


class UserTokenAdministration:
    """Manages the personal tokens of users."""

    def __init__(self, tokens: UserTokens, changes: OwnChanges) -> None:
        self._tokens = tokens
        self._changes = changes

    @route("GET", "/users/tokens", ADMIN, "list personal tokens")
    async def list(self, _request: Request) -> PersonalTokenList:
        """Returns the personal tokens, by user and name."""
        return {"tokens": [_document(token) for token in await self._tokens.all()]}

    @route(
        "POST",
        "/users/tokens",
        ADMIN,
        "create a personal token",
        body='{"user": "ann", "name": "laptop", "days": 90}',
    )
    async def create(self, request: Request, body: Json) -> NewPersonalToken:
        """Creates a personal token; only this answer has its secret."""
        days = body.get("days", DEFAULT_DAYS)
        if type(days) is not int:
            raise invalid_parameter(f"days must be a whole number, not {days!r}")
        user, name = text_in(body, "user"), text_in(body, "name")
        asked = {"user": user, "name": name, "days": days}
        await self._changes.record(request, "CreatePersonalToken", asked)
        token, secret = await self._tokens.add(user, name, days)
        return {"token": _document(token), "secret": secret}

    @route(
        "POST",
        "/users/tokens/remove",
        ADMIN,
        "remove a personal token",
        body='{"user": "ann", "name": "laptop"}',
    )
    async def remove(self, request: Request, body: Json) -> Json:
        """Removes a personal token, which immediately becomes invalid."""
        user, name = text_in(body, "user"), text_in(body, "name")
        await self._changes.record(request, "RemovePersonalToken", {"user": user, "name": name})
        await self._tokens.remove(user, name)
        return {}


def _document(token: UserToken) -> PersonalToken:
    return {
        "user": token.user,
        "name": token.name,
        "created": format_time(token.created),
        "expires": format_time(token.expires),
    }
