"""Runs the actions of `opentrail keys`, `policies` and `directory` on a control store."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from opentrail.access.keys import AccessKey, KeyDirectory, NewKey
from opentrail.access.policies import AWS_MANAGED, PolicyDirectory
from opentrail.core.errors import MalformedPolicy, UsageError
from opentrail.core.event import Json, format_time, is_account, parse_time
from opentrail.core.identity import DEFAULT_ACCOUNT
from opentrail.ports.collection import Codec, KnownCollection
from opentrail.ports.control import ControlStore

Arguments = Mapping[str, Any]
Answer = Json
#: Maximum seconds of a lifetime or an overlap: ten years.
_MAX_LIFETIME_SECONDS = 10 * 366 * 86_400


class KeyAdministration:
    """Runs actions on the key directory.

    Args:
        keys: the directory.
        policies: the policies of the users that get keys.
        on_change: called with the id of each key that was changed.
    """

    def __init__(
        self,
        keys: KeyDirectory,
        policies: PolicyAdministration,
        on_change: Callable[[str], Awaitable[None]],
    ) -> None:
        self._keys = keys
        self._policies = policies
        self._on_change = on_change
        self._actions: dict[str, Callable[[Arguments], Awaitable[Answer]]] = {
            "create": self._create,
            "import": self._import,
            "list": self._list,
            "disable": self._disable,
            "enable": self._enable,
            "rotate": self._rotate,
            "delete": self._delete,
        }

    async def run(self, arguments: Arguments) -> Answer:
        """Returns the answer to `{"action": …}` with the action's parameters.

        Keys are shown in the form of IAM's `AccessKey`, with `Principal` and `Expiration`.

        Raises:
            UsageError: a parameter is missing or wrong.
        """
        action = self._actions.get(str(arguments.get("action")))
        if action is None:
            raise UsageError(f"action must be one of {', '.join(self._actions)}")
        return await action(arguments)

    async def _create(self, arguments: Arguments) -> Answer:
        lifetime, principal = _seconds(arguments, "lifetime"), _principal(arguments)
        policies = arguments.get("policies") or []
        if not isinstance(policies, list) or not all(isinstance(each, dict) for each in policies):
            raise UsageError("policies must be a list of objects, each with the name of a policy")
        for policy in policies:
            await self._policies.run({**policy, "action": "attach", "principal": principal})
        return await self._notify_created(await self._keys.create(principal, lifetime))

    async def _import(self, arguments: Arguments) -> Answer:
        expires = _text(arguments, "expires")
        try:
            until = parse_time(expires) if expires else None
        except ValueError as error:
            raise UsageError(
                f"expires must be a time like 2030-01-01T00:00:00Z: {error}"
            ) from error
        key = await self._keys.import_key(
            _text(arguments, "key") or "",
            _text(arguments, "secret") or "",
            _principal(arguments),
            _text(arguments, "session_token"),
            until,
        )
        await self._on_change(key.access_key_id)
        return _describe_key(key)

    async def _list(self, arguments: Arguments) -> Answer:
        keys = await self._keys.list_keys(
            _text(arguments, "account"), _text(arguments, "principal")
        )
        return {"AccessKeys": [_describe_key(key) for key in keys]}

    async def _disable(self, arguments: Arguments) -> Answer:
        return await self._notify(await self._keys.disable(_key(arguments)))

    async def _enable(self, arguments: Arguments) -> Answer:
        return await self._notify(await self._keys.enable(_key(arguments)))

    async def _rotate(self, arguments: Arguments) -> Answer:
        new = await self._keys.rotate(
            _key(arguments), _seconds(arguments, "overlap") or timedelta(0)
        )
        await self._on_change(_key(arguments))
        return await self._notify_created(new)

    async def _delete(self, arguments: Arguments) -> Answer:
        await self._keys.delete(_key(arguments))
        await self._on_change(_key(arguments))
        return {}

    async def _notify(self, key: AccessKey) -> Answer:
        await self._on_change(key.access_key_id)
        return _describe_key(key)

    async def _notify_created(self, new: NewKey) -> Answer:
        await self._on_change(new.key.access_key_id)
        answer = {**_describe_key(new.key), "SecretAccessKey": new.secret_access_key}
        return answer | ({"SessionToken": new.session_token} if new.session_token else {})


class PolicyAdministration:
    """Runs actions on the policy directory."""

    def __init__(self, policies: PolicyDirectory) -> None:
        self._policies = policies
        self._actions: dict[str, Callable[[Arguments], Awaitable[Answer]]] = {
            "put": self._put,
            "attach": self._attach,
            "detach": self._detach,
            "delete": self._delete,
            "list": self._list,
            "show": self._show,
        }

    async def run(self, arguments: Arguments) -> Answer:
        """Returns the answer to `{"action": …}` with the action's parameters.

        Raises:
            UsageError: a parameter is missing or wrong, or a document is not a policy.
        """
        action = self._actions.get(str(arguments.get("action")))
        if action is None:
            raise UsageError(f"action must be one of {', '.join(self._actions)}")
        try:
            return await action(arguments)
        except MalformedPolicy as error:
            raise UsageError(f"document is not a policy: {error}") from error

    async def _put(self, arguments: Arguments) -> Answer:
        account = _text(arguments, "account") or DEFAULT_ACCOUNT
        document = _text(arguments, "document") or ""
        policy = await self._policies.put_policy(account, _name(arguments), document)
        return {"PolicyName": policy.name, "Arn": policy.arn}

    async def _attach(self, arguments: Arguments) -> Answer:
        """Attaches a policy; a document is stored first."""
        principal = _principal(arguments)
        if arguments.get("document") is not None:
            await self._put({**arguments, "account": principal.split(":")[4]})
        attached = await self._policies.attach(principal, _name(arguments))
        return {"Principal": attached.principal, "Policies": list(attached.policies)}

    async def _detach(self, arguments: Arguments) -> Answer:
        await self._policies.detach(_principal(arguments), _name(arguments))
        return {}

    async def _delete(self, arguments: Arguments) -> Answer:
        account = _text(arguments, "account") or DEFAULT_ACCOUNT
        await self._policies.delete_policy(account, _name(arguments))
        return {}

    async def _list(self, arguments: Arguments) -> Answer:
        account = _text(arguments, "account")
        policies = await self._policies.list_policies(account)
        attached = await self._policies.list_attachments(account)
        return {
            "Policies": [{"PolicyName": policy.name, "Arn": policy.arn} for policy in policies],
            "Attached": [
                {"Principal": item.principal, "Policies": list(item.policies)} for item in attached
            ],
            "AWSManaged": sorted(AWS_MANAGED),
        }

    async def _show(self, arguments: Arguments) -> Answer:
        name = _name(arguments)
        document = AWS_MANAGED.get(name)
        if document is None:
            account = _text(arguments, "account") or DEFAULT_ACCOUNT
            matching = [p for p in await self._policies.list_policies(account) if p.name == name]
            if not matching:
                raise UsageError(f"policy {name!r} not found in account {account}")
            document = matching[0].document
        return {"PolicyName": name, "Document": json.loads(document)}


def _name(arguments: Arguments) -> str:
    name = _text(arguments, "name")
    if not name:
        raise UsageError("name must be the name of a policy")
    return name


def _describe_key(key: AccessKey) -> Answer:
    document = {
        "AccessKeyId": key.access_key_id,
        "Principal": key.principal,
        "Status": "Active" if key.is_active else "Inactive",
        "CreateDate": format_time(key.created),
    }
    return document | ({"Expiration": format_time(key.expires)} if key.expires else {})


def _principal(arguments: Arguments) -> str:
    """Returns the ARN in `principal`, or the ARN of `user` or `root` in `account`."""
    account = _text(arguments, "account") or DEFAULT_ACCOUNT
    members = [name for name in ("principal", "user", "root") if arguments.get(name)]
    if len(members) != 1:
        raise UsageError("exactly one of user, root and principal must be given")
    if not is_account(account):
        raise UsageError(f"account must be 12 digits, not {account!r}")
    if members == ["principal"]:
        return _text(arguments, "principal") or ""
    user = _text(arguments, "user") if members == ["user"] else None
    return f"arn:aws:iam::{account}:" + (f"user/{user}" if user else "root")


def _key(arguments: Arguments) -> str:
    key = _text(arguments, "key")
    if not key:
        raise UsageError("key must be the id of an access key")
    return key


def _text(arguments: Arguments, name: str) -> str | None:
    value = arguments.get(name)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{name} must be a string, not {value!r}")
    return value


def _seconds(arguments: Arguments, name: str) -> timedelta | None:
    value = arguments.get(name)
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= _MAX_LIFETIME_SECONDS
    ):
        raise UsageError(f"{name} must be seconds, 0 to {_MAX_LIFETIME_SECONDS}, not {value!r}")
    return timedelta(seconds=value)


# Names of keys

NAMED_KEY_KIND = "named-key"
_KEY_ID = re.compile(r"[!-~]{1,128}")
#: Maximum characters of a name or an ARN.
_MAX_LENGTH = 2048
_OPTIONAL = ("account", "arn", "principal_id")


class NamedKeys:
    """Entries in the form of `[directory.ACCESS-KEY-ID]` tables, in a control store.

    Args:
        control: the store.
        configured: entries of the file given by `--config`, which take precedence.
    """

    def __init__(self, control: ControlStore, configured: Mapping[str, Arguments]) -> None:
        self._configured = configured
        codec: Codec[Arguments] = Codec(lambda stored: stored.document, dict)
        missing = "not found; 'opentrail directory list' shows all"
        self._stored: KnownCollection[Arguments, Arguments] = KnownCollection(
            control, NAMED_KEY_KIND, codec, "access key", missing, view=lambda _, entry: entry
        )

    async def load(self) -> set[str]:
        """Reads the stored entries; returns the ids of the keys whose entry has changed."""
        return await self._stored.load() - self._configured.keys()

    def all(self) -> dict[str, Arguments]:
        """Returns all entries by access key id."""
        return {**self._stored.known, **self._configured}

    async def put(self, access_key_id: str, entry: Arguments) -> None:
        """Adds or replaces an entry.

        Raises:
            UsageError: the file has one for this key.
        """
        self._refuse_configured(access_key_id)
        await self._stored.put(access_key_id, entry)

    async def remove(self, access_key_id: str) -> None:
        """Removes an entry.

        Raises:
            UsageError: no key has this name, or the file names it.
        """
        self._refuse_configured(access_key_id)
        await self._stored.delete(access_key_id)

    def _refuse_configured(self, access_key_id: str) -> None:
        if access_key_id in self._configured:
            raise UsageError(
                f"access key {access_key_id!r} is named in the file given by --config: change it "
                "there, and restart the server"
            )


class DirectoryAdministration:
    """Runs actions of `opentrail directory`.

    Args:
        named_keys: the entries.
        on_change: called with the id of each key whose entry was changed.
    """

    def __init__(self, named_keys: NamedKeys, on_change: Callable[[str], Awaitable[None]]) -> None:
        self._named_keys = named_keys
        self._on_change = on_change

    async def run(self, arguments: Arguments) -> Json:
        """Returns the answer to `{"action": "add" | "list" | "remove", …}`.

        Raises:
            UsageError: a parameter is missing or wrong.
        """
        action = arguments.get("action")
        if action == "list":
            return {
                "keys": [
                    {"accessKeyId": key, **entry}
                    for key, entry in sorted(self._named_keys.all().items())
                ]
            }
        if action not in ("add", "remove"):
            raise UsageError("action must be one of add, list, remove")
        key = arguments.get("key")
        if not isinstance(key, str) or not _KEY_ID.fullmatch(key):
            raise UsageError(f"key must be an access key id, not {key!r}")
        if action == "remove":
            await self._named_keys.remove(key)
        else:
            await self._named_keys.put(key, _entry(arguments))
        await self._on_change(key)
        return {"accessKeyId": key, **self._named_keys.all().get(key, {})}


def _entry(arguments: Arguments) -> Json:
    user, is_root = arguments.get("user"), arguments.get("root") is True
    if is_root == (user is not None):
        raise UsageError("either user = NAME or root = true must be given")
    entry: Json = {"root": True} if is_root else {"user": _entry_text(arguments, "user")}
    entry |= {
        name: _entry_text(arguments, name) for name in _OPTIONAL if arguments.get(name) is not None
    }
    if "account" in entry and not is_account(entry["account"]):
        raise UsageError(f"account must be 12 digits, not {entry['account']!r}")
    if "arn" in entry and not entry["arn"].startswith("arn:"):
        raise UsageError(f"arn must be an ARN, not {entry['arn']!r}")
    return entry


def _entry_text(arguments: Arguments, name: str) -> str:
    value = arguments[name]
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_LENGTH:
        raise UsageError(f"{name} must be a string of 1 to {_MAX_LENGTH} characters")
    return value
