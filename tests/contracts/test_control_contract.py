"""The guarantees of every control store (ports/control.py)."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.adapters.sql.control_store import SqlControl
from opentrail.core.errors import Conflict
from opentrail.ports.control import ControlStore, Put, Remove, Stored, StoreWrite
from tests.fakes import Documents, MemoryControl, asynchronous, run
from tests.postgres import ON_POSTGRESQL, shared_server

Open = Callable[[], ControlStore]
KINDS = ("memory", "sqlite", ON_POSTGRESQL)


def opener(kind: str, folder: Path) -> Open:
    """Returns a function that opens a store repeatedly on the same disk."""
    if kind == "memory":
        disk: Documents = {}
        return lambda: MemoryControl(disk)
    if kind == "postgresql":
        url = shared_server().new_database()
        return lambda: SqlControl(url)
    return lambda: SqlControl.in_file(folder / "state.db")


@pytest.fixture(params=KINDS)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    return opener(request.param, tmp_path)


@asynccontextmanager
async def opened(open_store: Open) -> AsyncIterator[ControlStore]:
    store = open_store()
    try:
        yield store
    finally:
        await store.close()


async def keys(store: ControlStore, kind: str, prefix: str = "") -> list[str]:
    return [stored.key for stored in await store.scan(kind, prefix)]


@asynchronous
async def test_documents_of_several_kinds_are_read_together(open_store: Open) -> None:
    async with opened(open_store) as store:
        await store.apply([Put(kind, "x", {"is": kind}) for kind in ("trail", "plan", "chain")])
        await store.apply([Put("trail", "y", {"is": "another"})])
        found = await store.get_each(["plan", "none", "trail"], "x")
        assert found == {
            "plan": Stored("x", 1, {"is": "plan"}),
            "trail": Stored("x", 1, {"is": "trail"}),
        }


@asynchronous
async def test_a_missing_document_is_none(open_store: Open) -> None:
    async with opened(open_store) as store:
        assert await store.get("trail", "x") is None
        assert await store.get_each(["trail", "plan"], "x") == {}
        assert await store.scan("trail") == []


@asynchronous
async def test_each_put_raises_the_version_by_one(open_store: Open) -> None:
    async with opened(open_store) as store:
        await store.apply([Put("trail", "x", {"n": 1}, expected=0)])
        assert await store.get("trail", "x") == Stored("x", 1, {"n": 1})
        await store.apply([Put("trail", "x", {"n": 2}, expected=1)])
        assert await store.get("trail", "x") == Stored("x", 2, {"n": 2})
        await store.apply([Put("trail", "x", {"n": 3})])
        assert await store.get("trail", "x") == Stored("x", 3, {"n": 3})


@pytest.mark.parametrize("expected", [0, 2, 4, 5, -1])
@asynchronous
async def test_a_put_with_another_version_is_a_conflict(open_store: Open, expected: int) -> None:
    async with opened(open_store) as store:
        for number in range(3):
            await store.apply([Put("trail", "x", {"n": number})])
        with pytest.raises(Conflict, match="'x'"):
            await store.apply([Put("trail", "x", {"n": "lost"}, expected=expected)])
        assert await store.get("trail", "x") == Stored("x", 3, {"n": 2})


@asynchronous
async def test_a_new_document_must_not_exist(open_store: Open) -> None:
    async with opened(open_store) as store:
        with pytest.raises(Conflict):
            await store.apply([Put("trail", "x", {}, expected=1)])
        assert await store.get("trail", "x") is None


@pytest.mark.parametrize("place", [0, 1, 2, 3])
@asynchronous
async def test_one_impossible_change_prevents_all(open_store: Open, place: int) -> None:
    async with opened(open_store) as store:
        await store.apply([Put("trail", "kept", {"n": 1}), Put("trail", "other", {"n": 1})])
        changes: list[StoreWrite] = [
            Put("trail", "new", {"n": 2}, expected=0),
            Put("trail", "other", {"n": 2}, expected=1),
            Remove("trail", "kept"),
        ]
        changes.insert(place, Put("plan", "p", {}, expected=9))
        with pytest.raises(Conflict):
            await store.apply(changes)
        assert await store.scan("trail") == [
            Stored("kept", 1, {"n": 1}),
            Stored("other", 1, {"n": 1}),
        ]
        assert await store.scan("plan") == []


@asynchronous
async def test_changes_are_made_in_their_order(open_store: Open) -> None:
    async with opened(open_store) as store:
        await store.apply([Put("trail", "x", {"n": 1})])
        await store.apply(
            [
                Put("trail", "x", {"n": 2}, expected=1),
                Remove("trail", "x"),
                Put("retired", "x", {"n": 2}, expected=0),
                Put("count", "c", {"n": 1}, expected=0),
                Put("count", "c", {"n": 2}, expected=1),
            ]
        )
        assert await store.get("trail", "x") is None
        assert await store.get("retired", "x") == Stored("x", 1, {"n": 2})
        assert await store.get("count", "c") == Stored("c", 2, {"n": 2})


@asynchronous
async def test_a_removed_document_may_be_created_again(open_store: Open) -> None:
    async with opened(open_store) as store:
        await store.apply([Put("trail", "x", {"n": 1}), Put("trail", "x", {"n": 2})])
        await store.apply([Remove("trail", "x"), Remove("trail", "never there")])
        assert await store.get("trail", "x") is None
        await store.apply([Put("trail", "x", {"n": 3}, expected=0)])
        assert await store.get("trail", "x") == Stored("x", 1, {"n": 3})


CHANGES: dict[str, list[StoreWrite]] = {
    "created": [Put("key", "z", {"n": 1}, expected=0)],
    "changed": [Put("key", "x", {"n": 2}, expected=1)],
    "removed": [Remove("key", "x")],
    "created again": [Remove("key", "x"), Put("key", "x", {"n": 2}, expected=0)],
    "all removed": [Remove("key", "x"), Remove("key", "y")],
    "another in its place": [Remove("key", "x"), Put("key", "w", {"n": 1}, expected=0)],
    "swapped": [Put("key", "x", {"n": 7}), Put("key", "y", {"n": 1})],
}


@pytest.mark.parametrize("change", CHANGES)
@asynchronous
async def test_revisions_show_other_processes_the_changed_kinds(
    open_store: Open, change: str
) -> None:
    async with opened(open_store) as store, opened(open_store) as other:
        await store.apply([Put("key", "x", {"n": 1}), Put("key", "y", {"n": 7})])
        await store.apply([Put("policy", "x", {"n": 1})])
        before = await other.revisions(["key", "policy", "none"])
        assert set(before) == {"key", "policy", "none"}
        assert await store.revisions(["none", "policy", "key"]) == before
        await store.apply(CHANGES[change])
        after = await other.revisions(["key", "policy", "none"])
        assert after["key"] != before["key"]
        assert {**after, "key": before["key"]} == before
        assert await other.revisions([]) == {}


@asynchronous
async def test_unchanged_documents_keep_their_revision(open_store: Open) -> None:
    async with opened(open_store) as store:
        await store.apply([Put("key", "x", {"n": 1})])
        before = await store.revisions(["key"])
        await store.apply([Put("policy", "x", {"n": 1}), Remove("key", "never there")])
        assert await store.get("key", "x") is not None
        assert await store.revisions(["key"]) == before
    async with opened(open_store) as again:
        assert await again.revisions(["key"]) == before


@asynchronous
async def test_pages_have_each_document_once(open_store: Open) -> None:
    names = ["1", "2", "2/a", "2Z", "2z", "3", "é"]
    async with opened(open_store) as store:
        await store.apply([Put(kind, key, {}) for kind in ("identity", "a") for key in names])
        after, found = "", []
        while page := await store.page("identity", after, 3):
            assert len(page) <= 3
            found += [stored.key for stored in page]
            after = page[-1].key
        assert found == names


@asynchronous
async def test_keys_below_a_key_are_removed(open_store: Open) -> None:
    names = ["1", "2", "2/a", "2Z", "2z", "3", "é"]
    async with opened(open_store) as store:
        await store.apply([Put(kind, key, {}) for kind in ("signature", "other") for key in names])
        await store.remove_below("signature", "2a")
        assert await keys(store, "signature") == ["2z", "3", "é"]
        assert await keys(store, "other") == names


@asynchronous
async def test_applying_nothing_changes_nothing(open_store: Open) -> None:
    async with opened(open_store) as store:
        await store.apply([])
        assert await store.scan("trail") == []


@asynchronous
async def test_kinds_are_separate(open_store: Open) -> None:
    async with opened(open_store) as store:
        await store.apply([Put("trail", "x", {"n": 1}), Put("Trail", "x", {"n": 2})])
        assert await store.get("trail", "x") == Stored("x", 1, {"n": 1})
        assert await store.get("Trail", "x") == Stored("x", 1, {"n": 2})
        await store.apply([Remove("trail", "x")])
        assert await keys(store, "Trail") == ["x"]
        assert await keys(store, "tra") == []


@asynchronous
async def test_a_scan_takes_its_prefix_literally(
    open_store: Open,
) -> None:
    names = ["a/1", "a/10", "a/2", "a%", "a%b", "aXb", "a_b", "A/1", "a", "ä/1", "a\\", "a/", "[a]"]
    async with opened(open_store) as store:
        await store.apply([Put("k", name, {}) for name in names])
        assert await keys(store, "k") == sorted(names)
        prefixes = ("a", "a/", "a%", "a_", "A", "a/1", "%", "_", "\\", "a\\", "ä", "[", "*", "a*")
        for prefix in prefixes:
            expected = sorted(name for name in names if name.startswith(prefix))
            assert await keys(store, "k", prefix) == expected, prefix


@asynchronous
async def test_documents_are_read_back_as_json_values(open_store: Open) -> None:
    document: dict[str, Any] = {
        "text": "Zoë \U0001f600 \0 ' \" \\ \u2028",
        "numbers": [0, -1, 2**62, 1.5, 1e300],
        "nothing": None,
        "yes": True,
        "": {"deep": [[], {}, [{"": ""}]]},
    }
    async with opened(open_store) as store:
        await store.apply([Put("k", "x", document)])
        document["yes"] = "changed after the call"
        stored = await store.get("k", "x")
        assert stored is not None
        assert stored.document["yes"] is True
        stored.document["yes"] = "changed by a reader"
        again = await store.get("k", "x")
        assert again is not None
        assert again.document == {**document, "yes": True}
        assert list(again.document) == list(document)


@asynchronous
async def test_documents_and_versions_outlive_the_store(open_store: Open) -> None:
    async with opened(open_store) as store:
        await store.apply([Put("k", "x", {"n": 1}), Put("k", "y", {"n": 1})])
        await store.apply([Put("k", "x", {"n": 2}), Remove("k", "y")])
    async with opened(open_store) as store:
        assert await store.scan("k") == [Stored("x", 2, {"n": 2})]
        with pytest.raises(Conflict):
            await store.apply([Put("k", "x", {"n": 3}, expected=1)])
        await store.apply([Put("k", "x", {"n": 3}, expected=2)])


@asynchronous
async def test_concurrent_changes_win_or_lose_once(
    open_store: Open,
) -> None:
    async with opened(open_store) as store:
        await store.apply([Put("k", "count", {"n": 0})])
        conflicts = 0

        async def count_up() -> None:
            nonlocal conflicts
            while True:
                stored = await store.get("k", "count")
                assert stored is not None
                more = {"n": stored.document["n"] + 1}
                try:
                    await store.apply([Put("k", "count", more, expected=stored.version)])
                except Conflict:
                    conflicts += 1
                    continue
                return

        await asyncio.gather(*(count_up() for _ in range(20)))
        assert await store.get("k", "count") == Stored("count", 21, {"n": 20})
        assert conflicts > 0


names = st.text(st.sampled_from("ab/%_Aä"), max_size=3)
changes = st.one_of(
    st.builds(
        Put,
        kind=st.sampled_from(["k", "l"]),
        key=names,
        document=st.fixed_dictionaries({"n": st.integers(0, 9)}),
        expected=st.none() | st.integers(0, 2),
    ),
    st.builds(Remove, kind=st.sampled_from(["k", "l"]), key=names),
)


def apply_to_model(model: dict[tuple[str, str], Stored], changes: Sequence[StoreWrite]) -> bool:
    """Applies changes to a plain dictionary; returns False, unchanged, if one does not fit."""
    after = dict(model)
    for change in changes:
        here = (change.kind, change.key)
        before = after.get(here)
        if isinstance(change, Remove):
            after.pop(here, None)
            continue
        version = before.version if before else 0
        if change.expected is not None and change.expected != version:
            return False
        after[here] = Stored(change.key, version + 1, change.document)
    model.clear()
    model.update(after)
    return True


@pytest.mark.slow
@pytest.mark.hypothesis
@pytest.mark.parametrize("kind", ["memory", "sqlite", ON_POSTGRESQL])
@settings(max_examples=25, deadline=None)
@given(groups=st.lists(st.lists(changes, max_size=4), max_size=12), prefix=names)
def test_any_sequence_of_changes_matches_a_dictionary(
    kind: str, groups: list[list[StoreWrite]], prefix: str
) -> None:
    async def story(open_store: Open) -> None:
        model: dict[tuple[str, str], Stored] = {}
        async with opened(open_store) as store:
            for group in groups:
                if apply_to_model(model, group):
                    await store.apply(group)
                else:
                    with pytest.raises(Conflict):
                        await store.apply(group)
        async with opened(open_store) as store:
            for kind in ("k", "l"):
                expected = [s for (k, _), s in sorted(model.items()) if k == kind]
                assert await store.scan(kind) == expected
                begun = [s for s in expected if s.key.startswith(prefix)]
                assert await store.scan(kind, prefix) == begun

    with tempfile.TemporaryDirectory() as folder:
        run(story(opener(kind, Path(folder))))
