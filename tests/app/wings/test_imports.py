"""The API and notes of trails import files."""

from __future__ import annotations

from pathlib import Path

from opentrail.api.v1.administration import ImportedFiles
from opentrail.app.wings import imports
from tests.api.caller import Api
from tests.app.wings.cores import a_core
from tests.fakes import asynchronous


@asynchronous
async def test_the_wing_accepts_files_and_follows_trails(tmp_path: Path) -> None:
    async with a_core(tmp_path) as core:
        wing = imports.start(core)
        (group,) = wing.groups(Api().services, list)
        assert isinstance(group, ImportedFiles)
        assert len(wing.followers) == 1
