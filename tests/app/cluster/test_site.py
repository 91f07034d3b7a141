"""The kind of a server, by its settings, and the questions that it answers."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from opentrail.adapters.keys.sealing import MASTER_KEY_VARIABLE
from opentrail.app.cluster.site import Site
from opentrail.core.errors import LeaseLost, NoHistory, Unsupported, UsageError
from opentrail.settings import Settings
from tests.app.opened import opened_engines
from tests.factories import some_new_entries
from tests.fakes import asynchronous
from tests.postgres import shared_server

pytestmark = pytest.mark.slow
CLUSTER = "cluster"


def settings_of(kind: str, folder: Path) -> Settings:
    """Returns the settings of a server: its journal in files, on PostgreSQL alone, or shared."""
    settings = Settings(data_dir=folder, upstream={"": "http://127.0.0.1:9"})
    if kind == "files":
        return settings
    url = shared_server().new_database()
    settings = replace(settings, journal=url)
    return replace(settings, control_store=url) if kind == CLUSTER else settings


@pytest.fixture(autouse=True)
def master_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MASTER_KEY_VARIABLE, base64.b64encode(bytes(32)).decode())


@pytest.mark.parametrize("kind", ["files", "postgresql", CLUSTER])
@asynchronous
async def test_a_site_records_and_names_the_worker(kind: str, tmp_path: Path) -> None:
    async with opened_engines(settings_of(kind, tmp_path)) as (_, engines, _data):
        site: Site = engines.site
        assert await engines.journal.append(some_new_entries(3)) == 3
        assert site.keeps_history
        assert site.problems == []
        assert site.archive(engines.store) is engines.store
        assert await site.refresh_files(engines.store)
        await site.require_importable()
        await site.refresh()
        is_cluster = kind == CLUSTER
        assert site.learns_from_others == is_cluster
        assert site.is_worker != is_cluster, "a member has to acquire the lease first"
        assert (site.document() is not None) == is_cluster
        if is_cluster:
            with pytest.raises(LeaseLost):
                await site.append(engines.trimmed_journal, some_new_entries(1, 10))
        else:
            assert await site.append(engines.trimmed_journal, some_new_entries(1, 10)) == 4


@asynchronous
async def test_cluster_recorder_keeps_no_history_and_imports_nothing(tmp_path: Path) -> None:
    settings = replace(settings_of(CLUSTER, tmp_path), role="recorder")
    async with opened_engines(settings) as (_, engines, _data):
        assert not engines.site.keeps_history
        assert engines.site.archive(engines.store) is not engines.store
        with pytest.raises(NoHistory):
            await engines.site.require_importable()


@asynchronous
async def test_two_members_without_shared_files_refuse_imports(tmp_path: Path) -> None:
    one = settings_of(CLUSTER, tmp_path / "one")
    two = replace(one, data_dir=tmp_path / "two")
    async with opened_engines(one), opened_engines(two) as (_, engines, _data):
        with pytest.raises(Unsupported, match="several servers without --files"):
            await engines.site.require_importable()


@pytest.mark.parametrize(
    ("kind", "changes", "flag"),
    [
        ("files", {"role": "worker"}, "--role"),
        ("postgresql", {"role": "query"}, "--role"),
        ("files", {"files": "s3://bucket"}, "--files"),
        (CLUSTER, {"history_size": 10**9}, "--history-size"),
        (CLUSTER, {"data_event_days": 7}, "--data-event-days"),
    ],
)
@asynchronous
async def test_setting_of_the_other_kind_is_refused(
    kind: str, changes: dict[str, object], flag: str, tmp_path: Path
) -> None:
    settings = replace(settings_of(kind, tmp_path), **changes)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=flag):
        async with opened_engines(settings):
            pass
