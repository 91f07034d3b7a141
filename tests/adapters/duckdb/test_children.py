"""Child processes that write and check sealed files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opentrail.adapters.duckdb.children import files_of_child
from tests.adapters.duckdb.worlds import world
from tests.fakes import asynchronous

pytestmark = pytest.mark.slow

#: Python runs a module named sitecustomize before any other: this one reports the niceness of a
#: process when it loads DuckDB, which only children do here.
_TELLING = """
import os, sys

def tell(event, arguments):
    if event == "import" and arguments[0] == "duckdb":
        with open({told!r}, "a") as file:
            print(os.nice(0), file=file)

sys.addaudithook(tell)
"""


@asynchronous
async def test_children_lower_their_priority_before_importing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, told = tmp_path / "telling", tmp_path / "told"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_TELLING.format(told=str(told)))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    async with world(tmp_path) as here, here.opened() as store:
        await store.add(await here.write(here.seal_records))
        await store.idle()
        assert here.ranges() == [(1, here.seal_records)]
    seen = list(map(int, told.read_text().split()))
    assert seen == [min(19, os.nice(0) + 5)]


@asynchronous
async def test_a_failed_child_reports_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"child ended with 1: .*not a sealed file"):
        await files_of_child("merge", tmp_path / "none")
