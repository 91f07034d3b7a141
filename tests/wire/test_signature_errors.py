"""Every problem has an answer in every format."""

from __future__ import annotations

import pytest

from opentrail.wire.signature_errors import S3_WORDING, WORDINGS, Problem

DETAILS = {
    name: f"<{name}>" for name in ("given", "expected", "reason", "stamp", "limit", "now", "window")
}


@pytest.mark.parametrize("problem", Problem)
def test_every_problem_is_worded_for_every_protocol(problem: Problem) -> None:
    for wording in (S3_WORDING, *WORDINGS.values()):
        refusal = wording.refusal(problem, **DETAILS)
        assert refusal.problem is problem
        assert 400 <= refusal.status < 500
        assert refusal.code
        assert refusal.message


def test_a_callers_braces_are_plain_text() -> None:
    refusal = S3_WORDING.refusal(Problem.SCOPE_REGION, given="{expected}", expected="eu-west-1")
    assert "the region '{expected}' is wrong" in refusal.message
