"""Event history in a real browser: finding, counting, paging, comparing, files and links."""

from __future__ import annotations

import csv
import ipaddress
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.factories import a_record, an_iam_user, event_id
from tests.live.browser import CLIPBOARD, Browser
from tests.live.processes import Opentrail, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

EVENTS = 1_200
MAX_PAGE = 200
#: Times of the events: one a minute, the last one now.
LAST = datetime(2026, 3, 29, 12, tzinfo=UTC)
NAMES = ("CreateUser", "DeleteUser", "CreateRole", "CreateGroup")
PEOPLE = ("John", "Mary", "Eve")
FORMULA = "=1+1"

Record = Mapping[str, Any]


def _record(number: int) -> dict[str, Any]:
    failed = number % 7 == 0
    return a_record(
        eventID=event_id(number),
        eventTime=f"{LAST - timedelta(minutes=number):%Y-%m-%dT%H:%M:%SZ}",
        eventName=NAMES[number % len(NAMES)],
        userIdentity=an_iam_user(PEOPLE[number % len(PEOPLE)]),
        sourceIPAddress=f"10.{number % 3}.0.{number % 250}",
        userAgent=FORMULA if number % 11 == 0 else "Boto3/1.43",
        requestParameters={"userName": f"user-{number}"},
        errorCode="AccessDenied" if failed else None,
        errorMessage="denied" if failed else None,
        responseElements=None,
    )


RECORDS = [_record(number) for number in range(EVENTS)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    folder = tmp_path_factory.mktemp("console")
    file = folder / "events.ndjson"
    file.write_text("\n".join(json.dumps(record) for record in RECORDS), encoding="utf-8")
    with opentrail_server(folder / "data", command="sandbox") as made:
        done = made.opentrail("import", str(file))
        assert done.returncode == 0, done.stderr
        yield made


@pytest.fixture
def window_options() -> dict[str, Any]:
    return {"permissions": CLIPBOARD}


def _history(expression: str, **more: str) -> str:
    """Returns the address of the imported events that an expression finds."""
    until = f"{LAST:%Y-%m-%dT%H:%M:%SZ}"
    query = {"expression": expression, "until": until, **more}
    return "events?" + "&".join(f"{name}={quote(value)}" for name, value in query.items())


def _count(page: Page) -> int:
    """Returns the number in the heading of event history."""
    heading = page.get_by_role("heading", name="Event history")
    expect(heading).to_contain_text("(")
    return int(heading.inner_text().partition("(")[2].rstrip(")").replace(",", ""))


def _download(page: Page, kind: str) -> Path:
    page.get_by_role("button", name="Download events").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name=kind).click()
    return Path(download.value.path())


def _ids(page: Page) -> list[str]:
    """Returns the ids of the events in the table."""
    rows = "rows => [...new Set(rows.map(row => row.dataset.row))]"
    return list(page.locator("[data-row]").evaluate_all(rows))


def _in(address: str, network: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        (
            "name=CreateUser OR name=DeleteUser",
            lambda record: record["eventName"] in ("CreateUser", "DeleteUser"),
        ),
        (
            "(name=CreateUser OR is:failure) AND user!=John",
            lambda record: (
                (record["eventName"] == "CreateUser" or record["errorCode"] is not None)
                and record["userIdentity"]["userName"] != "John"
            ),
        ),
        (
            "ip=10.1.0.0/16 AND user=Mary",
            lambda record: (
                _in(record["sourceIPAddress"], "10.1.0.0/16")
                and record["userIdentity"]["userName"] == "Mary"
            ),
        ),
        (
            "ip!=10.0.0.0/15 AND requestParameters.userName=user-2*",
            lambda record: (
                not _in(record["sourceIPAddress"], "10.0.0.0/15")
                and record["requestParameters"]["userName"].startswith("user-2")
            ),
        ),
    ],
)
def test_a_filter_finds_and_downloads_the_scanned_events(
    console: Browser, expression: str, matches: Callable[[Record], bool]
) -> None:
    expected = {record["eventID"] for record in RECORDS if matches(record)}
    assert 0 < len(expected) < EVENTS
    page = console.page
    console.go(_history(expression))
    expect(page.locator("[data-row]").first).to_be_visible()
    assert _count(page) == len(expected)
    lines = _download(page, "NDJSON").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["eventID"] for line in lines} == expected
    assert len(lines) == len(expected)


def test_csv_file_has_every_event_and_no_formulas(console: Browser) -> None:
    page = console.page
    console.go(_history("user=John"))
    expect(page.locator("[data-row]").first).to_be_visible()
    with _download(page, "CSV").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [each for each in RECORDS if each["userIdentity"]["userName"] == "John"]
    assert [row["eventId"] for row in rows] == [record["eventID"] for record in expected]
    assert {row["userAgent"] for row in rows} == {"Boto3/1.43", f"'{FORMULA}"}


def test_the_chart_counts_and_narrows_the_list(console: Browser) -> None:
    page = console.page
    start = f"{LAST - timedelta(hours=20):%Y-%m-%dT%H:%M:%SZ}"
    console.go(_history("is:write", since=start))
    expect(page.locator("[data-row]").first).to_be_visible()
    total = _count(page)
    page.get_by_text("Show as a table").first.click()
    rows = page.get_by_role("region", name="Events over time, as a table").locator("tbody tr")
    expect(rows.first).to_be_visible()
    numbers = [row.locator("td").all_inner_texts() for row in rows.all()]
    assert sum(int(ok) + int(failed) for _, ok, failed, *_ in numbers) == total == EVENTS

    before = page.url
    chart = page.get_by_role("group", name="Events over time")
    chart.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Enter")
    expect(page).not_to_have_url(before)
    last_two = sum(int(ok) + int(failed) for _, ok, failed, *_ in numbers[-2:])
    expect(page.get_by_role("heading", name=f"Event history ({last_two})")).to_be_visible()
    page.go_back()
    expect(page).to_have_url(before)
    expect(page.get_by_role("heading", name=f"Event history ({total:,})")).to_be_visible()


@contextmanager
def _calls(server: Opentrail) -> Iterator[None]:
    """Makes calls continuously while the block runs."""
    stop = threading.Event()

    def call() -> None:
        iam = server.boto("iam")
        number = 0
        while not stop.is_set():
            number += 1
            iam.create_user(UserName=f"written-{number}")

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_pages_miss_and_repeat_nothing_during_arrivals(console: Browser, server: Opentrail) -> None:
    page = console.page
    page.evaluate(
        "size => localStorage.setItem('opentrail.preferences', JSON.stringify({pageSize: size}))",
        MAX_PAGE,
    )
    seen: list[str] = []
    with _calls(server):
        console.go("events?last=all")
        older = page.get_by_role("button", name="Older").first
        expect(page.locator("[data-row]").first).to_be_visible()
        while True:
            shown = _ids(page)
            seen += shown
            if not older.is_enabled():
                break
            older.click()
            expect(page.locator(f"[data-row='{shown[0]}']")).to_have_count(0)
            expect(page.locator("[data-row]").first).to_be_visible()
    page.get_by_role("button", name="Newer").first.click()
    expect(page.locator(f"[data-row='{seen[-1]}']")).to_have_count(0)
    before = page.locator(f"[data-row='{seen[-len(shown) - 1]}']").first
    expect(before).to_be_visible()
    assert len(seen) == len(set(seen))
    imported = [record["eventID"] for record in RECORDS]
    assert [each for each in seen if each in set(imported)] == imported


@pytest.mark.parametrize("last", ["auto", "9999d"])
def test_page_of_a_relative_range_can_be_reloaded(console: Browser, last: str) -> None:
    page = console.page
    console.go(_history("user=John", last=last))
    first = page.locator(f"[data-row='{RECORDS[0]['eventID']}']")
    expect(first).to_be_visible()
    page.get_by_role("button", name="Older").first.click()
    expect(first).to_have_count(0)
    expect(page.locator("[data-row]").first).to_be_visible()
    shown = _ids(page)
    page.reload()
    expect(page.locator("[data-row]").first).to_be_visible()
    assert _ids(page) == shown


def test_events_are_stepped_through_and_compared(console: Browser) -> None:
    page = console.page
    console.go(_history("is:write"))
    first, second = RECORDS[:2]
    page.locator(f"[data-row='{first['eventID']}'] a").first.click()
    expect(page.get_by_role("tab", name="Summary")).to_be_visible()
    page.keyboard.press("]")
    expect(page).to_have_url(re.compile(second["eventID"]))
    page.keyboard.press("[")
    expect(page).to_have_url(re.compile(first["eventID"]))
    page.keyboard.press("Escape")
    for record in RECORDS[:5]:
        page.locator(f"[data-row='{record['eventID']}']").get_by_role("checkbox").check()
    page.get_by_role("button", name="Compare 5").click()
    differences = page.get_by_role("region", name="Differences")
    expect(differences).to_contain_text("user-4")
    members = differences.locator("tbody th").all_inner_texts()
    assert "requestParameters.userName" in members
    assert "awsRegion" not in members


def test_laptop_shows_twenty_rows_in_one_tab_stop(console: Browser) -> None:
    page = console.page
    page.set_viewport_size({"width": 1440, "height": 900})
    console.go(_history("is:write"))
    expect(page.locator("[data-row]").first).to_be_visible()
    # Next to their values, the chart and the filter's token.
    expect(page.get_by_role("complementary", name="Facets").get_by_text("John")).to_be_visible()
    bottoms = page.locator("[data-row]").evaluate_all(
        "rows => rows.map(row => row.getBoundingClientRect().bottom)"
    )
    assert sum(bottom <= 900 for bottom in bottoms) >= 20
    stops = page.locator("[role=grid] [tabindex='0'], [role=grid] a:not([tabindex])")
    assert stops.count() == 1


def test_values_next_to_the_list_narrow_it(console: Browser) -> None:
    page = console.page
    console.go(_history("is:write"))
    facets = page.get_by_role("complementary", name="Facets")
    users = facets.get_by_role("group", name="User")
    users.get_by_role("button", name="Mary", exact=True).click()
    expect(page.get_by_role("heading", name="Event history (400)")).to_be_visible()
    expect(users.get_by_role("button", name="Mary", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    users.get_by_role("button", name="Mary", exact=True).click()
    expect(page.get_by_role("heading", name=f"Event history ({EVENTS:,})")).to_be_visible()
    users.get_by_role("button", name="Eve", exact=True).click(modifiers=["Alt"])
    expect(page.get_by_role("heading", name="Event history (800)")).to_be_visible()
    facets.get_by_role("group", name="Source IP").get_by_role("button").first.click()
    expect(facets.get_by_text("10.0.0.0", exact=True)).to_be_visible()


def test_a_copied_link_shows_the_same_events_later(console: Browser, server: Opentrail) -> None:
    page = console.page
    server.boto("iam").create_user(UserName="before")
    console.go("events?last=1h")
    expect(page.get_by_text("created IAM user before").first).to_be_visible()
    shown = _ids(page)
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    # The link ends with this second.
    page.wait_for_function(
        "end => Date.now() > end", arg=int(datetime.now(UTC).timestamp() + 1) * 1_000
    )
    server.boto("iam").create_user(UserName="after")
    console.go("events?last=1h")
    expect(page.get_by_text("created IAM user after").first).to_be_visible()
    page.goto(link)
    expect(page.locator(f"[data-row='{shown[0]}']").first).to_be_visible()
    assert _ids(page) == shown


def test_times_are_shown_in_the_chosen_zone(console: Browser) -> None:
    page = console.page
    page.evaluate(
        "zone => localStorage.setItem('opentrail.preferences', JSON.stringify({zone}))",
        "Europe/Berlin",
    )
    page.reload()
    since, until = "2026-03-29T00:59:00Z", "2026-03-29T01:00:00Z"
    console.go(f"events?since={since}&until={until}")
    expect(page.get_by_text("03-29 03:00:00").first).to_be_visible()
    expect(page.get_by_text("03-29 01:59:00").first).to_be_visible()
    page.locator("[data-row] a").first.click()
    heading = page.get_by_role("heading", name="On March 29, 2026 at 3:00 AM (Europe/Berlin), IAM")
    expect(heading).to_be_visible()


def test_an_empty_page_suggests_the_next_step(console: Browser) -> None:
    page = console.page
    console.go(_history("user=john"))
    expect(page.get_by_text("No event has the user john. Did you mean John (")).to_be_visible()
    page.get_by_role("button", name="Search for John").click()
    expect(page.get_by_role("heading", name="Event history (400)")).to_be_visible()

    console.go(_history("user=John AND name=NeverCalled"))
    page.get_by_role("button", name="Remove “name=NeverCalled”").click()
    expect(page.get_by_role("heading", name="Event history (400)")).to_be_visible()

    console.go(
        "events?expression=user%3DJohn&since=2001-01-01T00:00:00Z&until=2001-01-02T00:00:00Z"
    )
    expect(page.get_by_text("The newest match is from 2026-03-29")).to_be_visible()
    page.get_by_role("button", name="Search all time").click()
    expect(page.locator("[data-row]").first).to_be_visible()

    console.go(_history("user=John", account="999999999999"))
    page.get_by_role("button", name="All accounts and Regions").click()
    expect(page.get_by_role("heading", name="Event history (400)")).to_be_visible()


def test_the_list_stays_visible_during_an_outage(console: Browser) -> None:
    page = console.page
    console.go(_history("user=John"))
    row = page.locator("[data-row]").first
    expect(row).to_be_visible()
    page.context.set_offline(True)
    page.get_by_role("button", name="Older").first.click()
    expect(page.get_by_text("The server does not answer").first).to_be_visible()
    expect(row).to_be_visible()
    page.context.set_offline(False)
    expect(page.get_by_text("The server does not answer")).to_have_count(0)
    expect(page.get_by_role("button", name="Newer").first).to_be_enabled()
    console.problems.clear()  # the failed calls


def test_an_invalid_filter_shows_its_error(console: Browser) -> None:
    page = console.page
    console.go(_history("usr=John"))
    expect(page.get_by_text("expected a field such as").first).to_be_visible()
    expect(page.get_by_text(re.compile("request [0-9a-f-]{36}")).first).to_be_visible()
    console.problems.clear()  # the refused call
