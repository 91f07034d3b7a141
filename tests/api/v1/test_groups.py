"""The list of groups matches a whole server's."""

from __future__ import annotations

from opentrail.api.v1.openapi import GROUPS
from opentrail.api.v1.routes import rules_in
from tests.api.browser import Browser


def test_a_server_has_the_routes_of_all_groups_and_no_others() -> None:
    listed = [rule for group in GROUPS for rule, _ in rules_in(group)]
    served = Browser().rules
    assert len(set(listed)) == len(listed)
    assert set(served) == set(listed)
