"""The wing of permissions."""

from __future__ import annotations

from pathlib import Path

from opentrail.api.v1.least_privilege import LeastPrivilege
from opentrail.app.wings import register
from tests.api.caller import Api
from tests.app.wings.cores import a_core
from tests.fakes import asynchronous


@asynchronous
async def test_the_wing_has_the_calls_about_policies(tmp_path: Path) -> None:
    async with a_core(tmp_path) as core:
        (group,) = register.permissions(core).groups(Api().services, list)
    assert isinstance(group, LeastPrivilege)
