"""Health and metrics, without a token."""

from __future__ import annotations

import pytest

from tests.api.caller import Api, filled, send
from tests.factories import (
    a_record,
)
from tests.fakes import asynchronous


@pytest.mark.parametrize(("state", "status"), [("ok", 200), ("failing", 503)])
@asynchronous
async def test_health_needs_no_token_to_show_failure(state: str, status: int) -> None:
    api = Api()
    api.health = {"status": state, "journal": {"position": 5}}
    answer = await api.ask("/health", token=None)
    assert answer.status == status
    assert answer.json == api.health
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/health", "/metrics"])
@asynchronous
async def test_public_routes_refuse_other_sites(path: str) -> None:
    api = Api()
    for host in ("localhost:4748", "LOCALHOST", "127.0.0.1:4748", "[::1]:4748", "opentrail:4748"):
        assert (await send(api.console, "GET", path, {"Host": host})).status == 200
    for host in ("evil.example:4748", "127.0.0.1.evil.example", "localhost.evil.example."):
        answer = await send(api.console, "GET", path, {"Host": host})
        assert answer.status == 421
        assert answer.json["code"] == "UnknownHost"


@asynchronous
async def test_metrics_are_prometheus_text_and_need_no_token() -> None:
    api = await filled(a_record())
    answer = await api.ask("/metrics", token=None)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "opentrail_history_position 1.0" in answer.body.decode().splitlines()
