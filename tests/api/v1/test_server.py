"""What every call of the JSON API has in common."""

from __future__ import annotations

from tests.api.caller import Api, filled
from tests.factories import (
    a_record,
)
from tests.fakes import asynchronous

EVENTS = "/api/v1/events"
WHO = "/api/v1/who"
FLUSH = "/api/v1/trails/flush"


@asynchronous
async def test_what_is_not_there_is_not_found_and_get_never_writes() -> None:
    api = Api()
    assert (await api.ask("/api/v1/nothing")).status == 404
    assert (await api.ask("/")).status == 404
    assert (await api.ask(FLUSH)).status == 405
    assert (await api.ask(EVENTS, method="POST")).status == 405


@asynchronous
async def test_answers_are_not_to_be_stored_or_guessed_at() -> None:
    api = await filled(a_record())
    for answer in (
        await api.ask("/health", token=None),
        await api.ask("/metrics", token=None),
        await api.ask(EVENTS),
        await api.ask(EVENTS, token="wrong"),
        await api.ask(WHO, resource="Mary"),
    ):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
