"""The Live page in a real browser, and pages whose server stops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, expect

from opentrail.capture.in_process.shipping import ServerShipper
from tests.factories import a_record, an_iam_user, event_id, record_bytes
from tests.live.browser import Browser, browser
from tests.live.processes import Opentrail, eventually, free_port, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

#: Rows that the page keeps.
MAX_ROWS = 2_000
#: Maximum number of late events on a page; more are skipped.
MAX_LATE = 20_000
_BATCH = 500


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Opentrail]:
    flags = ("--console-listen", f"127.0.0.1:{free_port()}")
    options = {"command": "sandbox", "port": free_port()}
    with opentrail_server(tmp_path / "data", *flags, **options) as made:
        yield made


@pytest.fixture
def live(chromium: Chromium, server: Opentrail) -> Iterator[Browser]:
    with browser(chromium, server) as opened:
        opened.open()
        opened.go("live")
        expect(opened.page.get_by_text("Connected")).to_be_visible()
        yield opened


def _ship(server: Opentrail, numbers: Sequence[int]) -> None:
    records = [
        record_bytes(
            a_record(
                eventID=event_id(number),
                eventTime=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
                userIdentity=an_iam_user("John"),
                requestParameters={"userName": f"user-{number}"},
                responseElements=None,
            )
        )
        for number in numbers
    ]
    shipper = ServerShipper.of_data_dir(server.data_dir)
    for start in range(0, len(records), _BATCH):
        shipper.ship_all(records[start : start + _BATCH])


def _rows(page: Page) -> list[str]:
    """Returns the sentences of the page's events, the newest first."""
    return page.locator(".live-rows [data-row] a").all_text_contents()


def _sentence(number: int) -> str:
    return f"IAM user John created IAM user user-{number}"


def test_the_first_call_replaces_the_hint(chromium: Chromium, server: Opentrail) -> None:
    with browser(chromium, server) as console:
        console.open()
        expect(console.page.get_by_role("heading", name="Get started")).to_be_visible()
        server.boto("s3").create_bucket(Bucket="first")
        created = console.page.get_by_text("IAM user admin created S3 bucket first")
        expect(created.first).to_be_visible()
        expect(console.page.get_by_role("heading", name="Latest changes")).to_be_visible()
        server.boto("s3").create_bucket(Bucket="second")
        expect(console.page.get_by_text("created S3 bucket second")).to_be_visible()
        console.check()


def test_events_arrive_pause_and_stay_bounded(live: Browser, server: Opentrail) -> None:
    page = live.page
    _ship(server, range(50))
    expect(page.get_by_text(_sentence(49))).to_be_visible()
    expect(page.get_by_role("heading", name="Live (50)")).to_be_visible()
    assert [row.partition(" through")[0] for row in _rows(page)] == [
        _sentence(number) for number in reversed(range(50))
    ]

    page.locator("h1").click()
    page.keyboard.press("Space")
    _ship(server, range(50, 80))
    expect(page.get_by_text("Paused · 30 new")).to_be_visible()
    assert len(_rows(page)) == 50
    page.get_by_role("button", name="Resume").first.click()
    expect(page.get_by_text(_sentence(79))).to_be_visible()
    expect(page.get_by_role("heading", name="Live (80)")).to_be_visible()

    count = MAX_ROWS + 500
    _ship(server, range(80, count))
    expect(page.get_by_text(_sentence(count - 1))).to_be_visible()
    dropped = count - MAX_ROWS + 1
    expect(page.get_by_text(f"{dropped:,} events skipped")).to_be_visible()
    live.check()


def test_a_page_continues_after_its_server_restarts(live: Browser, server: Opentrail) -> None:
    page = live.page
    _ship(server, range(10))
    expect(page.get_by_text(_sentence(9))).to_be_visible()
    server.stop()
    expect(page.get_by_text("The server does not answer")).to_be_visible()
    expect(page.get_by_text(_sentence(9))).to_be_visible()
    server.start()
    expect(page.get_by_text("The session expired")).to_be_visible()
    _ship(server, range(10, 20))
    other = page.context.new_page()
    other.goto(server.opentrail("console").stdout.strip())
    expect(other.get_by_role("heading", name="Dashboard")).to_be_visible()
    page.bring_to_front()
    expect(page.get_by_text(_sentence(19))).to_be_visible()
    expect(page.get_by_text("The session expired")).to_have_count(0)
    assert [row.partition(" through")[0] for row in _rows(page)] == [
        _sentence(number) for number in reversed(range(20))
    ]


def test_late_page_shows_the_number_of_skipped_events(live: Browser, server: Opentrail) -> None:
    page = live.page
    _ship(server, range(10))
    expect(page.get_by_text(_sentence(9))).to_be_visible()
    page.context.clear_cookies()
    server.stop()
    server.start()
    count = MAX_LATE + 5_000
    _ship(server, range(10, count))
    other = page.context.new_page()
    other.goto(server.opentrail("console").stdout.strip())
    expect(other.get_by_role("heading", name="Dashboard")).to_be_visible()
    page.bring_to_front()
    expect(page.get_by_text("events skipped, faster than they can be shown")).to_be_visible()
    expect(page.get_by_text(_sentence(count - 1))).to_be_visible()
    last = f"requestParameters.userName=user-{count - 1}"
    eventually(lambda: server.records(last), "event history has the last event")
    button = page.get_by_role("button", name="Open in Event history")
    # Scrolling pauses the page, and the message about it moves the button.
    button.scroll_into_view_if_needed()
    expect(page.get_by_text("Paused · 0 new")).to_be_visible()
    button.click()
    expect(page.get_by_role("heading", name="Event history")).to_be_visible()
    expect(page.get_by_text(_sentence(count - 1)).first).to_be_visible()
