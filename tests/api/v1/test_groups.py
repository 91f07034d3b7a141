"""The list of groups matches a whole server's."""

from __future__ import annotations

from opentrail.api.v1.openapi import GROUPS
from opentrail.api.v1.routes import rules_in
from tests.api.browser import Browser


def test_a_server_has_exactly_its_groups_routes() -> None:
    listed = [rule for group in GROUPS for rule, _ in rules_in(group)]
    served = Browser().rules
    assert len(set(listed)) == len(listed)
    assert set(served) == set(listed)
