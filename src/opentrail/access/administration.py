"""What `opentrail keys` and `opentrail policies` ask for, of a server or of a control store."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from opentrail.access.keys import AccessKey, KeyDirectory, NewKey
from opentrail.access.policies import AWS_MANAGED, PolicyDirectory
from opentrail.core.errors import MalformedPolicy, UsageError
from opentrail.core.event import format_time, parse_time
from opentrail.core.identity import DEFAULT_ACCOUNT

Given = Mapping[str, Any]
Answer = dict[str, Any]
#: Maximum seconds of a lifetime or an overlap: ten years.
_MAX_SECONDS = 10 * 366 * 86_400


class KeyAdministration:
    """Runs actions on the key directory.

    Args:
        keys: the directory.
        policies: those of the users that keys are created for.
        changed: called with the id of each key that was changed.
    """

    def __init__(
        self,
        keys: KeyDirectory,
        policies: PolicyAdministration,
        changed: Callable[[str], Awaitable[None]],
    ) -> None:
        self._keys = keys
        self._policies = policies
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
        lifetime, principal = _seconds(given, "lifetime"), _principal(given)
        for policy in given.get("policies") or ():
            await self._policies.run({**policy, "action": "attach", "principal": principal})
        return await self._created(await self._keys.create(principal, lifetime))

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


class PolicyAdministration:
    """Runs actions on the policy directory."""

    def __init__(self, policies: PolicyDirectory) -> None:
        self._policies = policies
        self._actions: dict[str, Callable[[Given], Awaitable[Answer]]] = {
            "put": self._put,
            "attach": self._attach,
            "detach": self._detach,
            "delete": self._delete,
            "list": self._list,
            "show": self._show,
        }

    async def run(self, given: Given) -> Answer:
        """Returns the answer to `{"action": …}` with the action's parameters.

        Raises:
            UsageError: a parameter is missing or wrong, or a document is not a policy.
        """
        action = self._actions.get(str(given.get("action")))
        if action is None:
            raise UsageError(f"action must be one of {', '.join(self._actions)}")
        try:
            return await action(given)
        except MalformedPolicy as error:
            raise UsageError(f"document is not a policy: {error}") from error

    async def _put(self, given: Given) -> Answer:
        account = _text(given, "account") or DEFAULT_ACCOUNT
        document = _text(given, "document") or ""
        policy = await self._policies.put_policy(account, _name(given), document)
        return {"PolicyName": policy.name, "Arn": policy.arn}

    async def _attach(self, given: Given) -> Answer:
        """Attaches a policy; with a document, that is stored before."""
        principal = _principal(given)
        if given.get("document") is not None:
            await self._put({**given, "account": principal.split(":")[4]})
        attached = await self._policies.attach(principal, _name(given))
        return {"Principal": attached.principal, "Policies": list(attached.policies)}

    async def _detach(self, given: Given) -> Answer:
        await self._policies.detach(_principal(given), _name(given))
        return {}

    async def _delete(self, given: Given) -> Answer:
        account = _text(given, "account") or DEFAULT_ACCOUNT
        await self._policies.delete_policy(account, _name(given))
        return {}

    async def _list(self, given: Given) -> Answer:
        account = _text(given, "account")
        policies = await self._policies.list_policies(account)
        attached = await self._policies.list_attachments(account)
        return {
            "Policies": [{"PolicyName": each.name, "Arn": each.arn} for each in policies],
            "Attached": [
                {"Principal": each.principal, "Policies": list(each.policies)} for each in attached
            ],
            "AWSManaged": sorted(AWS_MANAGED),
        }

    async def _show(self, given: Given) -> Answer:
        name = _name(given)
        document = AWS_MANAGED.get(name)
        if document is None:
            account = _text(given, "account") or DEFAULT_ACCOUNT
            found = [p for p in await self._policies.list_policies(account) if p.name == name]
            if not found:
                raise UsageError(f"policy {name!r} not found in account {account}")
            document = found[0].document
        return {"PolicyName": name, "Document": json.loads(document)}


def _name(given: Given) -> str:
    name = _text(given, "name")
    if not name:
        raise UsageError("name must be that of a policy")
    return name


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
        raise UsageError("exactly one of user, root and principal must be given")
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
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= _MAX_SECONDS
    ):
        raise UsageError(f"{name} must be seconds, 0 to {_MAX_SECONDS}, not {value!r}")
    return timedelta(seconds=value)
