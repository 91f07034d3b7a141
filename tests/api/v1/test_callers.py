"""Who may call: bearers of the token, and sessions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.caller import Api
from tests.factories import (
    a_record,
)
from tests.fakes import asynchronous

EVENTS = "/api/v1/events"
WHO = "/api/v1/who"
FLUSH = "/api/v1/trails/flush"


async def filled(*records: dict[str, Any]) -> Api:
    api = Api()
    api.world.clock.advance(3_600)
    await api.record(list(records))
    return api


@pytest.mark.parametrize("path", [EVENTS, WHO, FLUSH])
@pytest.mark.parametrize("token", [None, "", "wrong", "the-toke", "the-token2", "THE-TOKEN", "ö"])
@asynchronous
async def test_everything_else_needs_the_token(path: str, token: str | None) -> None:
    api = await filled(a_record())
    answer = await api.ask(path, token, "POST" if path == FLUSH else "GET", resource="Mary")
    assert answer.status == 401
    assert set(answer.json) == {"error", "code", "requestId"}
    assert "Mary" not in answer.body.decode()
