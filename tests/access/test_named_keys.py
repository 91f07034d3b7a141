"""Callers behind access keys made elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.access.administration import DirectoryAdministration, NamedKeys
from opentrail.core.errors import UsageError
from tests.fakes import MemoryControl, asynchronous

KEY, OTHER = "AKIAIOSFODNN7EXAMPLE", "AKIAI44QH8DHBEXAMPLE"


class Directory:
    """The directory of a control store, and the keys with changed entries."""

    def __init__(self, control: MemoryControl, **configured: dict[str, Any]) -> None:
        self.named = NamedKeys(control, configured)
        self.changed: list[str] = []
        self._administration = DirectoryAdministration(self.named, self._note)

    async def _note(self, access_key_id: str) -> None:
        self.changed.append(access_key_id)

    async def run(self, action: str, **given: Any) -> dict[str, Any]:
        return await self._administration.run({"action": action, **given})


@asynchronous
async def test_a_named_key_is_known_after_a_restart() -> None:
    control = MemoryControl()
    directory = Directory(control)
    added = await directory.run("add", key=KEY, user="alice", account="111122223333")
    assert added == {"accessKeyId": KEY, "user": "alice", "account": "111122223333"}
    await directory.run("add", key=OTHER, root=True)
    assert directory.changed == [KEY, OTHER]
    again = NamedKeys(control, {})
    await again.load()
    assert again.all() == {
        KEY: {"user": "alice", "account": "111122223333"},
        OTHER: {"root": True},
    }


@asynchronous
async def test_a_removed_key_is_named_no_longer() -> None:
    control = MemoryControl()
    directory = Directory(control)
    await directory.run("add", key=KEY, user="alice")
    await directory.run("remove", key=KEY)
    assert directory.changed == [KEY, KEY]
    assert await directory.run("list") == {"keys": []}
    again = NamedKeys(control, {})
    await again.load()
    assert again.all() == {}


@asynchronous
async def test_a_load_returns_keys_that_others_named() -> None:
    control = MemoryControl()
    other, named = Directory(control), NamedKeys(control, {OTHER: {"user": "bob"}})
    await other.run("add", key=KEY, user="alice")
    await other.run("add", key=OTHER, user="carol")
    assert await named.load() == {KEY}, "the file has another name for the other one"
    await other.run("add", key=KEY, root=True)
    assert await named.load() == {KEY}
    assert await named.load() == set()
    await other.run("remove", key=KEY)
    assert await named.load() == {KEY}
    assert named.all() == {OTHER: {"user": "bob"}}


@asynchronous
async def test_the_file_takes_precedence() -> None:
    directory = Directory(MemoryControl(), **{KEY: {"user": "bob"}})
    with pytest.raises(UsageError, match="named in the file"):
        await directory.run("add", key=KEY, user="alice")
    with pytest.raises(UsageError, match="named in the file"):
        await directory.run("remove", key=KEY)
    assert await directory.run("list") == {"keys": [{"accessKeyId": KEY, "user": "bob"}]}


@pytest.mark.parametrize(
    ("action", "given", "named"),
    [
        ("paint", {}, "add, list, remove"),
        ("add", {"key": "", "user": "a"}, "key must be"),
        ("add", {"key": "two words", "user": "a"}, "key must be"),
        ("add", {"key": KEY}, "user = NAME or root = true"),
        ("add", {"key": KEY, "user": "a", "root": True}, "user = NAME or root = true"),
        ("add", {"key": KEY, "user": ""}, "user must be a string"),
        ("add", {"key": KEY, "user": "a", "account": "1"}, "account must be 12 digits"),
        ("add", {"key": KEY, "user": "a", "arn": "alice"}, "arn must be an ARN"),
        ("remove", {"key": KEY}, "not found; 'opentrail directory list'"),
    ],
)
@asynchronous
async def test_problems_are_named(action: str, given: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        await Directory(MemoryControl()).run(action, **given)
