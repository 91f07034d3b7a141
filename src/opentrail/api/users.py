"""Users of the web console in the JSON APIs: listed, created, disabled, enabled, deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opentrail.access.users import ConsoleRole, ConsoleUser, ConsoleUsers
from opentrail.core.errors import CloudTrailError, UsageError
from opentrail.core.event import format_time

Json = dict[str, Any]
_MEMBERS = ("name", "role", "accounts")
#: What may be done to a user, beside deleting it.
ACTIONS = ("disable", "enable", "reset-password")


class UserAdministration:
    """Manages users; what a user may no longer do ends with its sessions.

    Args:
        users: the users.
        end_sessions: ends all sessions of the user of a name.
    """

    def __init__(self, users: ConsoleUsers, end_sessions: Callable[[str], None]) -> None:
        self._users = users
        self._end_sessions = end_sessions

    async def all(self) -> Json:
        """Returns the users, by name."""
        return {"users": [_shown(user) for user in await self._users.all()]}

    async def create(self, given: Mapping[str, Any]) -> Json:
        """Creates a user; the answer has the password for the first sign-in, this once.

        Args:
            given: `name`, `role` and perhaps `accounts`, a list of account ids.

        Raises:
            CloudTrailError: `InvalidParameterException`, which names the member.
        """
        for member in given:
            if member not in _MEMBERS:
                raise _bad(f"there is no member {member!r}; known are {', '.join(_MEMBERS)}")
        name, accounts = given.get("name"), given.get("accounts")
        if not isinstance(name, str):
            raise _bad(f"name must be a text, not {name!r}")
        if accounts is not None and not _is_texts(accounts):
            raise _bad(f"accounts must be a list of account ids, not {accounts!r}")
        try:
            role = ConsoleRole.parse(given.get("role"))
            user, password = await self._users.create(name, role, accounts)
        except UsageError as error:
            raise _bad(str(error)) from error
        return {"user": _shown(user), "password": password}

    async def change(self, name: str, action: str) -> Json:
        """Disables or enables a user, or replaces its password, and ends its sessions.

        Raises:
            CloudTrailError: `InvalidParameterException`: there is no such user or action.
        """
        try:
            if action == "disable":
                answer: Json = {"user": _shown(await self._users.disable(name))}
            elif action == "enable":
                answer = {"user": _shown(await self._users.enable(name))}
            elif action == "reset-password":
                user, password = await self._users.reset_password(name)
                answer = {"user": _shown(user), "password": password}
            else:
                raise _bad(f"action must be one of {', '.join(ACTIONS)}, not {action!r}")
        except UsageError as error:
            raise _bad(str(error)) from error
        self._end_sessions(name)
        return answer

    async def delete(self, name: str) -> Json:
        """Deletes a user, and ends its sessions.

        Raises:
            CloudTrailError: `InvalidParameterException`: there is no such user.
        """
        try:
            await self._users.delete(name)
        except UsageError as error:
            raise _bad(str(error)) from error
        self._end_sessions(name)
        return {}


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _shown(user: ConsoleUser) -> Json:
    return {
        "name": user.name,
        "role": str(user.role),
        "accounts": None if user.accounts is None else list(user.accounts),
        "created": format_time(user.created),
        "active": user.is_active,
        "mustChangePassword": user.must_change_password,
    }


def _bad(message: str) -> CloudTrailError:
    return CloudTrailError("InvalidParameterException", message)
