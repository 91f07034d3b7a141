"""Bodies and errors of the JSON API."""

from __future__ import annotations

from typing import Any

from tests.api.browser import Browser
from tests.fakes import asynchronous


@asynchronous
async def test_an_oversized_body_is_refused() -> None:
    answer = await Browser().post("turn-on", b" " * 1_000_001)
    assert answer.status == 413


@asynchronous
async def test_a_body_of_the_largest_size_is_read() -> None:
    answer = await Browser().post("turn-on", b" " * 999_998 + b"{}")
    assert answer.status == 400
    assert answer.json["code"] != "RequestTooLarge"


@asynchronous
async def test_slow_answers_report_a_timeout() -> None:
    class Slow(Browser):
        async def _health(self) -> dict[str, Any]:
            raise TimeoutError

    answer = await Slow().get("health")
    assert answer.status == 504
    assert answer.json["code"] == "TimedOut"
    assert "narrow the search" in answer.json["error"]
