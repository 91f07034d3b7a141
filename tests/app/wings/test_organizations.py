"""The place of the organization's description."""

from __future__ import annotations

from pathlib import Path

import pytest

from opentrail.app.wings import register
from opentrail.core.errors import CloudTrailError
from opentrail.core.organization import Organization
from tests.app.wings.cores import a_core
from tests.factories import ACCOUNT
from tests.fakes import asynchronous


@asynchronous
async def test_the_settings_may_describe_an_organization(
    tmp_path: Path,
) -> None:
    described = Organization("o-exampleorgid", ACCOUNT, frozenset({ACCOUNT}))
    async with a_core(tmp_path / "one", organization=described) as core:
        management = register.organizations(core).organizations
        assert management is not None
        assert await management.managed_by(ACCOUNT) == described
    async with a_core(tmp_path / "none") as core:
        management = register.organizations(core).organizations
        assert management is not None
        with pytest.raises(CloudTrailError, match="not in an organization"):
            await management.managed_by(ACCOUNT)
