"""Who is behind access keys that were made elsewhere: `opentrail directory`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from opentrail.core.errors import UsageError
from opentrail.core.event import Json, is_account
from opentrail.ports.collection import Codec, KnownCollection
from opentrail.ports.control import ControlStore

Entry = Mapping[str, Any]
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

    def __init__(self, control: ControlStore, configured: Mapping[str, Entry]) -> None:
        self._configured = configured
        codec: Codec[Entry] = Codec(lambda stored: stored.document, dict)
        missing = "not found; 'opentrail directory list' shows all"
        self._stored: KnownCollection[Entry, Entry] = KnownCollection(
            control, NAMED_KEY_KIND, codec, "access key", missing, view=lambda _, entry: entry
        )

    async def load(self) -> set[str]:
        """Reads the stored entries; returns the ids of the keys whose entry is not as it was."""
        return await self._stored.load() - self._configured.keys()

    def all(self) -> dict[str, Entry]:
        """Returns all entries by access key id."""
        return {**self._stored.known, **self._configured}

    async def put(self, access_key_id: str, entry: Entry) -> None:
        """Adds or replaces an entry.

        Raises:
            UsageError: the file has one for this key.
        """
        self._refuse_configured(access_key_id)
        await self._stored.put(access_key_id, entry)

    async def remove(self, access_key_id: str) -> None:
        """Removes an entry.

        Raises:
            UsageError: there is none, or the file has it.
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

    async def run(self, arguments: Entry) -> Json:
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


def _entry(arguments: Entry) -> Json:
    user, is_root = arguments.get("user"), arguments.get("root") is True
    if is_root == (user is not None):
        raise UsageError("either user = NAME or root = true must be given")
    entry: Json = {"root": True} if is_root else {"user": _text(arguments, "user")}
    entry |= {name: _text(arguments, name) for name in _OPTIONAL if arguments.get(name) is not None}
    if "account" in entry and not is_account(entry["account"]):
        raise UsageError(f"account must be 12 digits, not {entry['account']!r}")
    if "arn" in entry and not entry["arn"].startswith("arn:"):
        raise UsageError(f"arn must be an ARN, not {entry['arn']!r}")
    return entry


def _text(arguments: Entry, name: str) -> str:
    value = arguments[name]
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_LENGTH:
        raise UsageError(f"{name} must be a string of 1 to {_MAX_LENGTH} characters")
    return value
