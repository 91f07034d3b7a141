"""The defaults of a wing."""

from __future__ import annotations

from opentrail.app.wing import Wing
from tests.api.caller import Api


def test_wing_adds_nothing_that_it_does_not_name() -> None:
    wing = Wing()
    assert [*wing.groups(Api().services, list), *wing.pages] == []
    assert [*wing.followers, *wing.sinks] == []
    assert (wing.organizations, wing.sessions, wing.console_link) == (None, None, None)
