"""Routes of questions: the required roles, and a limited caller's view."""

from __future__ import annotations

import pytest

from opentrail.api.v1.routes import rules_in
from opentrail.api.v1.server import QuestionRoutes
from opentrail.questions.question import load, names, path_of
from tests.api.caller import Api
from tests.fakes import asynchronous


@pytest.mark.parametrize("name", names())
def test_each_question_has_a_route_with_its_role(name: str) -> None:
    (rule,) = [rule for rule, _ in rules_in(QuestionRoutes) if rule.path == path_of(name)]
    assert str(rule.least) == load(name).role
    assert rule.purpose == load(name).purpose


@asynchronous
async def test_question_without_a_token_is_refused() -> None:
    answer = await Api().ask("/api/v1/unused-keys", token=None)
    assert answer.status == 401
