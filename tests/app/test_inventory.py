"""The server reports missing or replaced control stores, journals and keys."""

from __future__ import annotations

import asyncio
import base64
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.data_directory.inventory import ACCEPTED, read_inventory
from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.keys.rsa import RsaSigner
from opentrail.adapters.keys.sealing import load_master_key
from opentrail.adapters.sql.at_rest import control_at_rest
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.app.engines import Engines
from opentrail.app.inventory import standing_of
from opentrail.app.known_positions import mark_imports, mark_journal
from opentrail.core.errors import StateLost
from opentrail.ports.control import Put, Remove
from opentrail.settings import Settings
from tests.app.opened import opened_engines
from tests.factories import a_new_entry, a_record, event_id
from tests.fakes import asynchronous, run_skipping_time
from tests.postgres import database_in, shared_server

SETTINGS = Settings(upstream={"": "http://127.0.0.1:9"})
ENFORCED = replace(SETTINGS, auth="enforced")
EMPTY = "the control store state.db is unexpectedly empty: "
PEM = "signing-2026-01-01T000000Z.pem"


@asynccontextmanager
async def opened(folder: Path, settings: Settings = SETTINGS) -> AsyncIterator[Engines]:
    async with opened_engines(replace(settings, data_dir=folder)) as (_, engines, _):
        yield engines


async def made(folder: Path, records: int = 3, first_id: int = 1) -> None:
    async with opened(folder) as engines:
        ids = range(first_id, first_id + records)
        made = [a_new_entry(a_record(eventID=event_id(number))) for number in ids]
        await engines.journal.append(made)


async def named(folder: Path) -> list[str]:
    """Returns the problems that commands find."""
    data = DataDirectory(folder)
    async with control_at_rest(data.state, is_live=False) as control:
        return (await standing_of(data, control, is_live=False)).problems


def remove_state(folder: Path) -> None:
    for file in folder.glob("state.db*"):
        file.unlink()


@pytest.mark.slow
@asynchronous
async def test_a_whole_directory_has_no_problems(tmp_path: Path) -> None:
    for _ in range(3):
        await made(tmp_path)
        async with opened(tmp_path, ENFORCED) as engines:
            assert engines.inventory.problems == []
        assert await named(tmp_path) == []


@pytest.mark.slow
@asynchronous
async def test_a_missing_control_store_is_named_until_accepted(tmp_path: Path) -> None:
    await made(tmp_path)
    remove_state(tmp_path)
    assert (await named(tmp_path))[0].startswith("the control store state.db is missing: trails")
    with pytest.raises(StateLost, match="doctor --accept-losses") as lost:
        async with opened(tmp_path, ENFORCED):
            pass
    assert lost.value.exit_code == 74
    assert (await named(tmp_path))[0].startswith(EMPTY)
    for _ in range(2):
        async with opened(tmp_path) as engines:
            (problem,) = engines.inventory.problems
            assert "state.db is" in problem
            await engines.journal.append([a_new_entry()])
        assert len(await named(tmp_path)) == 1
        with pytest.raises(StateLost):
            async with opened(tmp_path, ENFORCED):
                pass
    (tmp_path / ACCEPTED).touch()
    async with opened(tmp_path, ENFORCED) as engines:
        assert engines.inventory.problems == []
    assert not (tmp_path / ACCEPTED).exists()
    assert await named(tmp_path) == []


@pytest.mark.slow
@asynchronous
async def test_a_running_server_sees_the_acceptance(tmp_path: Path) -> None:
    await made(tmp_path)
    remove_state(tmp_path)
    async with opened(tmp_path) as engines:
        assert engines.inventory.problems
        (tmp_path / ACCEPTED).touch()
        await engines.inventory.refresh()
        assert engines.inventory.problems == []
    async with opened(tmp_path, ENFORCED) as engines:
        assert engines.inventory.problems == []


@asynchronous
async def test_an_old_control_store_may_be_restored(tmp_path: Path) -> None:
    await made(tmp_path)
    shutil.copy(tmp_path / "state.db", tmp_path / "kept")
    remove_state(tmp_path)
    await made(tmp_path, records=5)
    remove_state(tmp_path)
    shutil.copy(tmp_path / "kept", tmp_path / "state.db")
    async with opened(tmp_path, ENFORCED) as engines:
        assert engines.inventory.problems == []
        assert engines.journal.head == 8


@asynchronous
async def test_missing_old_control_store_is_named(tmp_path: Path) -> None:
    await made(tmp_path)
    remove_state(tmp_path)
    for name in ("inventory.json", "history/inventory.json", "written"):
        (tmp_path / name).unlink()
    for _ in range(2):
        async with opened(tmp_path) as engines:
            (problem,) = engines.inventory.problems
            assert problem.startswith(
                "the control store state.db is empty, but the journal is not: trails"
            )
        with pytest.raises(StateLost):
            async with opened(tmp_path, ENFORCED):
                pass


@asynchronous
async def test_a_directory_of_an_older_version_is_adopted(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    await made(tmp_path)
    for name in ("inventory.json", "history/inventory.json", "written", "state.db"):
        (tmp_path / name).unlink()
    control = SqlControl.in_file(data.state)
    await control.apply([Put("mark", "journal", {"position": 3})])
    await control.close()
    assert await named(tmp_path) == []
    async with opened(tmp_path, ENFORCED) as engines:
        assert engines.inventory.problems == []
    assert (tmp_path / "inventory.json").exists()


@pytest.mark.slow
@asynchronous
async def test_older_copy_of_the_control_store_is_named(tmp_path: Path) -> None:
    await made(tmp_path)
    shutil.copy(tmp_path / "state.db", tmp_path / "older")
    await made(tmp_path)
    remove_state(tmp_path)
    shutil.copy(tmp_path / "older", tmp_path / "state.db")
    said = (
        "the control store state.db is an older copy, of position 3 of the journal; it was at"
        " position 6"
    )
    assert (await named(tmp_path))[0].startswith(said)
    for _ in range(2):
        with pytest.raises(StateLost, match="older copy"):
            async with opened(tmp_path, ENFORCED):
                pass
        await made(tmp_path)
    (tmp_path / ACCEPTED).touch()
    async with opened(tmp_path, ENFORCED) as engines:
        assert engines.inventory.problems == []


@asynchronous
async def test_the_control_store_of_another_directory_is_named(tmp_path: Path) -> None:
    await made(tmp_path / "a")
    await made(tmp_path / "b")
    shutil.copy(tmp_path / "b" / "state.db", tmp_path / "a" / "state.db")
    assert "of another data directory" in (await named(tmp_path / "a"))[0]
    with pytest.raises(StateLost, match="of another data directory"):
        async with opened(tmp_path / "a", ENFORCED):
            pass


@pytest.mark.slow
@asynchronous
async def test_the_journal_of_another_directory_is_named(tmp_path: Path) -> None:
    await made(tmp_path / "a")
    await made(tmp_path / "b", records=9, first_id=100)
    shutil.rmtree(tmp_path / "a" / "journal")
    shutil.copytree(tmp_path / "b" / "journal", tmp_path / "a" / "journal")
    said = "the journal was replaced: position 3 has another record"
    assert await named(tmp_path / "a") == [said]
    for _ in range(2):
        async with opened(tmp_path / "a") as engines:
            assert engines.inventory.problems == [said]
    (tmp_path / "a" / ACCEPTED).touch()
    async with opened(tmp_path / "a") as engines:
        assert engines.inventory.problems == []


@asynchronous
async def test_every_commit_is_noted(tmp_path: Path) -> None:
    async with opened(tmp_path) as engines:
        for _ in range(3):
            await engines.journal.append([a_new_entry()])
        shutil.copytree(tmp_path, tmp_path / "killed", ignore=shutil.ignore_patterns("killed"))
    killed = tmp_path / "killed"
    (killed / "journal" / f"{1:020d}.db-wal").unlink()
    async with opened(killed) as engines:
        lost = engines.losses.get_nowait()
        assert (lost.first, lost.last) == (1, 3)
        assert await engines.journal.append([a_new_entry()]) == 4


@pytest.mark.slow
@asynchronous
async def test_inventory_knows_imports_and_keys(tmp_path: Path) -> None:
    async with opened(tmp_path) as engines:
        await engines.journal.append([a_new_entry()])
        await mark_imports(engines.control, 58)
        public = {"fingerprint": "f", "public": ""}
        await engines.control.apply([Put("signing-key", PEM, public)])
    remove_state(tmp_path)
    data = DataDirectory(tmp_path)
    standing = await standing_of(data, None, is_live=False)
    missing = f"signing key {PEM} is missing: put the file back"
    assert (standing.imported, standing.problems[1]) == (58, missing)
    async with opened(tmp_path) as engines:
        assert missing in engines.inventory.problems
        assert engines.inventory.imported == 58
    (data.keys / f"{PEM}.lost").touch()
    async with opened(tmp_path) as engines:
        assert missing not in engines.inventory.problems


@pytest.mark.slow
@asynchronous
async def test_a_missing_or_replaced_master_key_is_named(tmp_path: Path) -> None:
    master, other = tmp_path / "keys" / "master.key", tmp_path / "other"
    for file in (other, master):
        load_master_key(file, None, may_create=True)
    await made(tmp_path)
    whole = master.read_bytes()
    for content, state in ((None, "missing"), (b"", "damaged"), (other.read_bytes(), "another")):
        master.unlink(missing_ok=True)
        if content is not None:
            master.write_bytes(content)
        said = f"master key keys/master.key is {state}"
        assert (await named(tmp_path))[0].startswith(said)
        async with opened(tmp_path) as engines:
            assert engines.inventory.problems[0].startswith(said)
    master.write_bytes(whole)
    assert await named(tmp_path) == []


async def shared_by(folder: Path) -> Settings:
    """Moves the control store of a directory to PostgreSQL."""
    settings = replace(SETTINGS, control_store=shared_server().new_database())
    source, target = SqlControl.in_file(folder / "state.db"), SqlControl(settings.control_store)
    await source.copy_into(target)
    await source.close()
    await target.close()
    remove_state(folder)
    return settings


async def signing_keys(engines: Engines, folder: Path) -> list[str]:
    """Makes the signing key if there is none; returns the problems with the keys."""
    lifetime = timedelta(days=90)
    signer = RsaSigner(folder / "keys", SystemClock(), lifetime, engines.control, engines.sealer)
    await signer.keys()
    await engines.inventory.refresh()
    return [*signer.problems, *engines.inventory.problems]


@pytest.mark.slow
@asynchronous
async def test_keys_in_a_shared_store_are_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = tmp_path / "keys" / "master.key"
    await made(tmp_path)
    load_master_key(master, None, may_create=True)
    async with opened(tmp_path) as engines:
        assert await signing_keys(engines, tmp_path) == []
    shared = await shared_by(tmp_path)
    for _ in range(2):
        async with opened(tmp_path, shared) as engines:
            assert await signing_keys(engines, tmp_path) == []
        assert await named(tmp_path) == []
        for file in (tmp_path / "keys").glob("signing-*.pem"):
            file.unlink()
    monkeypatch.setenv("OPENTRAIL_MASTER_KEY", master.read_text())
    master.unlink()
    async with opened(tmp_path, shared) as engines:
        assert await signing_keys(engines, tmp_path) == []
        (key,) = await engines.control.scan("signing-key")
        kinds = ("signing-key", "sealed-signing-key")
        await engines.control.apply([Remove(kind, key.key) for kind in kinds])
    async with opened(tmp_path, shared) as engines:
        problem = f"signing key {key.key} is missing: restore the control store"
        assert engines.inventory.problems == [problem]
    assert await named(tmp_path) == []


@pytest.mark.slow
@asynchronous
async def test_a_running_server_detects_an_emptied_control_store(
    tmp_path: Path,
) -> None:
    postgres = shared_server()
    shared = replace(SETTINGS, control_store=postgres.new_database())
    async with opened(tmp_path, shared) as engines:
        await engines.inventory.require_own_store()
        postgres.execute(database_in(shared.control_store), "TRUNCATE documents")
        with pytest.raises(StateLost, match="the control store was replaced"):
            await engines.inventory.require_own_store()


@pytest.mark.slow
@asynchronous
async def test_concurrent_servers_share_a_new_stores_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENTRAIL_MASTER_KEY", base64.b64encode(b"m" * 32).decode())
    shared = replace(SETTINGS, control_store=shared_server().new_database())

    async def store_of(folder: Path) -> str | None:
        async with opened(folder, shared) as engines:
            assert engines.inventory.problems == []
        inventory, _ = read_inventory(DataDirectory(folder))
        return inventory.store if inventory else None

    stores = await asyncio.gather(*(store_of(tmp_path / str(number)) for number in range(4)))
    assert len(set(stores)) == 1
    assert None not in stores


@asynchronous
async def test_existing_trails_are_in_the_inventory(tmp_path: Path) -> None:
    key, arn = "123456789012/us-east-1/mine", "arn:aws:cloudtrail:us-east-1:123456789012:trail/mine"
    async with opened(tmp_path) as engines:
        await engines.control.apply([Put("trail", key, {"uid": "u"})])
        await mark_journal(engines.control, engines.journal, engines.inventory.record_marked)
    standing = await standing_of(DataDirectory(tmp_path), None, is_live=False)
    assert standing.inventory is not None
    assert dict(standing.inventory.trails) == {arn: {"uid": "u", "organization": ""}}


def test_a_server_ends_when_its_folder_is_replaced(
    tmp_path: Path,
) -> None:
    folder, failures = tmp_path / "data", list[str]()

    async def story() -> None:
        async with opened(folder) as engines:
            folder.rename(tmp_path / "moved")
            folder.mkdir()
            await engines.inventory.keep(failures.append)

    run_skipping_time(story())
    assert ["was moved or replaced" in each for each in failures] == [True]
    assert not (folder / "inventory.json").exists()
