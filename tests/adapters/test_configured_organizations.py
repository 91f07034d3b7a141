"""The organization of the settings; the contract tests the shared guarantees."""

from opentrail.adapters.aws.services import ConfiguredOrganizations
from tests.fakes import asynchronous


@asynchronous
async def test_without_settings_there_is_no_organization() -> None:
    assert await ConfiguredOrganizations().current() is None
