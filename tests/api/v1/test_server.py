"""Common behaviour of all calls of the JSON API."""

from __future__ import annotations

import asyncio
from typing import Any

from opentrail.api.v1.routes import VIEWER, route
from opentrail.api.v1.server import JsonApi
from tests.api.caller import TOKEN, Api, filled, send
from tests.factories import (
    a_record,
    event_id,
)
from tests.fakes import asynchronous

EVENTS = "/api/v1/events"
WHO = "/api/v1/who"
FLUSH = "/api/v1/trails/flush"


@asynchronous
async def test_missing_objects_are_404_and_get_never_writes() -> None:
    api = Api()
    assert (await api.ask("/api/v1/nothing")).status == 404
    assert (await api.ask("/")).status == 404
    assert (await api.ask(FLUSH)).status == 405
    assert (await api.ask(EVENTS, method="POST")).status == 405


@asynchronous
async def test_answers_forbid_storing_and_sniffing() -> None:
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


class _Slow:
    """A call that lasts until it is cancelled."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()

    @route("GET", "/slow", VIEWER, "wait")
    async def wait(self, _request: Any) -> Any:
        self.is_asked.set()
        await asyncio.Event().wait()


@asynchronous
async def test_call_cut_off_by_stop_gets_answer() -> None:
    slow = _Slow()
    app = JsonApi([slow], TOKEN).app
    headers = {"authorization": f"Bearer {TOKEN}"}
    asking = asyncio.create_task(send(app, "GET", "/api/v1/slow", headers))
    await slow.is_asked.wait()
    asking.cancel()
    answer = await asking
    assert (answer.status, answer.json["code"]) == (503, "ServiceUnavailable")


@asynchronous
async def test_own_is_the_account_of_the_upstream() -> None:
    own, other = a_record(), a_record(recipientAccountId="111122223333", eventID=event_id(2))
    api = await filled(own, other)
    answer = await api.ask(EVENTS, account="own", limit="10")
    assert [event["EventId"] for event in answer.json["events"]] == [own["eventID"]]
    assert len((await api.ask(EVENTS)).json["events"]) == 2
