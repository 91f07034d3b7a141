"""What `opentrail keys` asks for: of a running server, or of a control store without one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from opentrail.access.keys import AccessKey, KeyDirectory, NewKey
from opentrail.core.errors import UsageError
from opentrail.core.event import format_time, parse_time
from opentrail.core.identity import DEFAULT_ACCOUNT

Given = Mapping[str, Any]
Answer = dict[str, Any]
#: Maximum seconds of a lifetime or an overlap: ten years.
_LONGEST = 10 * 366 * 86_400


class KeyAdministration:
    """Runs actions on the key directory.

    Args:
        keys: the directory.
        changed: called with the id of each key that was changed.
    """

    def __init__(self, keys: KeyDirectory, changed: Callable[[str], Awaitable[None]]) -> None:
        self._keys = keys
        self._changed = changed
        self._actions: dict[str, Callable[[Given], Awaitable[Answer]]] = {
            "create": self._create,
            "import": self._import,
            "list": self._list,
            "disable": self._disable,
            "enable": self._enable,
            "rotate": self._rotate,
            "delete": self._delete,
        }

    async def run(self, given: Given) -> Answer:
        """Returns the answer to `{"action": …}` with the action's parameters.

        Keys are shown in the form of IAM's `AccessKey`, with `Principal` and `Expiration`.

        Raises:
            UsageError: a parameter is missing or wrong.
        """
        action = self._actions.get(str(given.get("action")))
        if action is None:
            raise UsageError(f"action must be one of {', '.join(self._actions)}")
        return await action(given)

    async def _create(self, given: Given) -> Answer:
        lifetime = _seconds(given, "lifetime")
        new = await self._keys.create(_principal(given), lifetime)
        return await self._created(new)

    async def _import(self, given: Given) -> Answer:
        expires = _text(given, "expires")
        try:
            until = parse_time(expires) if expires else None
        except ValueError as error:
            raise UsageError(
                f"expires must be a time like 2030-01-01T00:00:00Z: {error}"
            ) from error
        key = await self._keys.import_key(
            _text(given, "key") or "",
            _text(given, "secret") or "",
            _principal(given),
            _text(given, "session_token"),
            until,
        )
        await self._changed(key.access_key_id)
        return _shown(key)

    async def _list(self, given: Given) -> Answer:
        keys = await self._keys.list_keys(_text(given, "account"), _text(given, "principal"))
        return {"AccessKeys": [_shown(key) for key in keys]}

    async def _disable(self, given: Given) -> Answer:
        return await self._done(await self._keys.disable(_key(given)))

    async def _enable(self, given: Given) -> Answer:
        return await self._done(await self._keys.enable(_key(given)))

    async def _rotate(self, given: Given) -> Answer:
        new = await self._keys.rotate(_key(given), _seconds(given, "overlap") or timedelta(0))
        await self._changed(_key(given))
        return await self._created(new)

    async def _delete(self, given: Given) -> Answer:
        await self._keys.delete(_key(given))
        await self._changed(_key(given))
        return {}

    async def _done(self, key: AccessKey) -> Answer:
        await self._changed(key.access_key_id)
        return _shown(key)

    async def _created(self, new: NewKey) -> Answer:
        await self._changed(new.key.access_key_id)
        answer = {**_shown(new.key), "SecretAccessKey": new.secret_access_key}
        return answer | ({"SessionToken": new.session_token} if new.session_token else {})


def _shown(key: AccessKey) -> Answer:
    shown = {
        "AccessKeyId": key.access_key_id,
        "Principal": key.principal,
        "Status": "Active" if key.is_active else "Inactive",
        "CreateDate": format_time(key.created),
    }
    return shown | ({"Expiration": format_time(key.expires)} if key.expires else {})


def _principal(given: Given) -> str:
    """Returns the ARN in `principal`, or that of `user` or `root` in `account`."""
    account = _text(given, "account") or DEFAULT_ACCOUNT
    named = [name for name in ("principal", "user", "root") if given.get(name)]
    if len(named) != 1:
        raise UsageError("a key needs exactly one of user, root and principal")
    if len(account) != 12 or not account.isdigit():
        raise UsageError(f"account must be 12 digits, not {account!r}")
    if named == ["principal"]:
        return _text(given, "principal") or ""
    user = _text(given, "user") if named == ["user"] else None
    return f"arn:aws:iam::{account}:" + (f"user/{user}" if user else "root")


def _key(given: Given) -> str:
    key = _text(given, "key")
    if not key:
        raise UsageError("key must be the id of an access key")
    return key


def _text(given: Given, name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{name} must be a text, not {value!r}")
    return value


def _seconds(given: Given, name: str) -> timedelta | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LONGEST:
        raise UsageError(f"{name} must be seconds, 0 to {_LONGEST}, not {value!r}")
    return timedelta(seconds=value)
