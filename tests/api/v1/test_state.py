"""The state of the server, as its callers may know it."""

from __future__ import annotations

from opentrail.access.users import ConsoleRole
from tests.api.browser import Browser
from tests.factories import (
    a_record,
)
from tests.fakes import asynchronous


@asynchronous
async def test_health_shows_recorded_and_visible_positions() -> None:
    browser = Browser()
    found = (await browser.get("health")).json
    assert (found["status"], found["degradations"]) == ("ok", [])
    assert (found["recorded"], found["visible"], found["events"]) == (7, 6, 16)
    assert found["freshness"] == {"p50Ms": None, "p99Ms": None}
    await browser.api.record([a_record()])
    assert (await browser.get("health")).json["freshness"]["p99Ms"] >= 0


@asynchronous
async def test_health_names_networks_of_unverified_callers() -> None:
    browser = Browser()
    assert (await browser.get("health")).json["insecureTrustedNetworks"] == []
    browser.health["insecureTrustedNetworks"] = ("10.0.0.0/8",)
    assert (await browser.get("health")).json["insecureTrustedNetworks"] == ["10.0.0.0/8"]


@asynchronous
async def test_health_names_every_problem() -> None:
    browser = Browser()
    browser.health["missing"] = ["position 3"]
    browser.health["journal"]["failure"] = "the disk is full"
    browser.health["history"]["responding"] = False
    browser.health["controlStore"]["failure"] = "the control store does not answer"
    assert (await browser.get("health")).json["degradations"] == [
        "event history is missing position 3",
        "calls are not recorded: the disk is full",
        "event history does not answer",
        "trails, keys and policies are not known: the control store does not answer",
    ]


@asynchronous
async def test_health_hides_other_accounts_from_limited_users() -> None:
    browser = Browser()
    await browser.api.record([a_record(), a_record(recipientAccountId="1" * 12)])
    browser.health["missing"] = ["positions 3 to 4"]
    browser.become(ConsoleRole.VIEWER, "1" * 12)
    found = (await browser.get("health")).json
    assert (found["recorded"], found["visible"], found["events"]) == (1, 1, 1)
    assert found["degradations"] == ["event history is missing events"]
