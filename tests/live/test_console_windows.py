"""The web console in windows of a desktop, a tablet and a telephone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Route, expect

from tests.factories import a_record, an_assumed_role, event_id
from tests.live.browser import Browser, browser
from tests.live.processes import Opentrail

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

WINDOWS = ((1440, 900), (1024, 768), (390, 844))
#: What `g` and a letter open.
PAGES = {
    "d": "Dashboard",
    "e": "Event history",
    "l": "Live",
    "i": "Insights",
    "n": "Detections",
    "p": "Principals",
    "r": "Resources",
    "m": "Timeline",
    "t": "Trails",
    "v": "Integrity",
    "u": "Users",
    "s": "Settings",
}
#: Delays answers of a path by 3 s, and counts calls that their page aborted.
_DELAY = """
  const ask = window.fetch
  window.aborted = 0
  window.fetch = async (url, options) => {
    const answer = await ask(url, options)
    if (!String(url).includes("events/rows")) return answer
    await new Promise(resolve => setTimeout(resolve, 3_000))
    if (options?.signal?.aborted) window.aborted += 1
    return answer
  }
"""

#: Returns times and targets of rows that are cut.
_FIND_CUT = """rows => rows.flatMap(row => {
    const isCut = (element) => {
      const text = document.createRange()
      text.selectNodeContents(element)
      const {left, right} = text.getBoundingClientRect()
      for (let at = element; at !== row; at = at.parentElement) {
        const box = at.getBoundingClientRect()
        const isHidden = getComputedStyle(at).overflowX !== "visible"
        if (isHidden && (left < box.left - 1 || right > box.right + 1)) return true
      }
      return false
    }
    return [".events-time", ".object"].map(part => row.querySelector(part)).filter(isCut)
      .map(element => element.innerText)
})"""


@pytest.fixture(params=WINDOWS, ids=lambda size: f"{size[0]}x{size[1]}")
def console(
    request: pytest.FixtureRequest, chromium: Chromium, server: Opentrail
) -> Iterator[Browser]:
    width, height = request.param
    with browser(chromium, server, width, height) as opened:
        opened.open()
        yield opened
        opened.check()


def test_activity_fills_while_answers_are_slow(console: Browser, server: Opentrail) -> None:
    page = console.page
    name = f"slow-{console.width}"
    page.add_init_script(_DELAY)
    console.go("turn-on")
    page.get_by_label("Trail name").fill(name)
    console.requests.clear()
    page.get_by_role("button", name="Turn On").click()
    expect(page.get_by_role("heading", name="API activity history")).to_be_visible()
    expect(page.locator("[data-row]").first).to_contain_text(f"created trail {name}")
    server.boto("s3").create_bucket(Bucket=f"after-{name}")
    expect(page.locator("[data-row]").last).to_contain_text(f"created S3 bucket after-{name}")
    first, *_, last = [url for url in console.requests if "events/rows" in url]
    assert "since=" not in first
    assert "since=" in last
    assert page.evaluate("window.aborted") == 0


@pytest.fixture(scope="module")
def mary(server: Opentrail, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Imports two events that name Mary among others, and returns the sentence of the older one."""
    records = [
        a_record(
            eventID=event_id(number),
            eventTime=f"2020-01-01T09:{number:02}:00Z",
            requestParameters={"userName": "Mary" if number < 2 else f"user-{number}"},
            responseElements=None,
        )
        for number in range(20)
    ]
    _import(server, tmp_path_factory.mktemp("records") / "mary.ndjson", records)
    return "On January 1, 2020 at 9:00 AM UTC, IAM user John created IAM user Mary"


@pytest.fixture(scope="module")
def callers(server: Opentrail, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Imports calls of callers with long names: one of this year, one of another."""
    role = an_assumed_role("AWSReservedSSO_AdministratorAccess_0123456789abcdef", "a" * 40)
    records = [
        a_record(
            eventID=event_id(100 + number),
            eventTime=f"{year}-01-01T09:00:59Z",
            eventSource="s3.amazonaws.com",
            eventName="CreateBucket",
            userIdentity=role,
            requestParameters={"bucketName": f"quarterly-reports-{year}"},
            responseElements=None,
        )
        for number, year in enumerate((2020, datetime.now(UTC).year))
    ]
    _import(server, tmp_path_factory.mktemp("records") / "callers.ndjson", records)


def _import(server: Opentrail, file: Path, records: Sequence[dict[str, Any]]) -> None:
    file.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    done = server.opentrail("import", str(file))
    assert done.returncode == 0, done.stderr


def test_enter_in_the_filter_moves_to_the_rows(console: Browser, mary: str) -> None:
    page = console.page
    console.go("events?expression=")
    filter_ = page.get_by_placeholder("Filter events by property or text")
    rows = page.locator("[data-row] a")
    expect(rows.nth(2)).to_be_visible()
    page.keyboard.press("/")
    expect(filter_).to_be_focused()
    page.keyboard.type("mary")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(2)
    expect(rows.first).to_be_focused()
    page.keyboard.press("j")
    expect(rows.nth(1)).to_be_focused()
    expect(filter_).to_have_value("")

    page.keyboard.press("/")
    expect(filter_).to_be_focused()
    page.keyboard.press("Escape")
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    opened = page.get_by_role("heading", name=mary)
    expect(opened).to_be_visible()
    if console.width < 600:  # an event is a page
        return
    page.keyboard.press("/")
    expect(filter_).to_be_focused()
    page.keyboard.press("Escape")
    expect(filter_).not_to_be_focused()
    expect(opened).to_be_visible()
    page.keyboard.press("Escape")
    expect(opened).to_have_count(0)
    expect(rows.nth(1)).to_be_focused()


def test_palette_has_keys_that_were_typed_before_it(console: Browser, mary: str) -> None:
    page = console.page
    script: list[Route] = []
    page.route("**/Palette-*.js", lambda route: script.append(route))
    with page.expect_request("**/Palette-*.js"):
        page.keyboard.press("Control+k")
    page.keyboard.type("Marr")
    page.keyboard.press("Backspace")
    script.pop().continue_()
    page.keyboard.type("y")
    box = page.get_by_role("combobox", name="Search or jump to")
    expect(box).to_have_value("Mary")
    expect(page.get_by_role("option", name="Mary Resources · AWS::IAM::User")).to_be_visible()


def test_g_and_a_letter_reach_every_page(console: Browser, mary: str) -> None:
    page = console.page
    for letter, name in PAGES.items():
        # From event history, whose own keys are some of these letters.
        console.go("events?expression=")
        expect(page.locator("[data-row]").first).to_be_visible()
        page.keyboard.press("g")
        page.keyboard.press(letter)
        expect(page).to_have_title(f"{name} · opentrail")


def test_rows_show_seconds_and_targets(console: Browser, callers: None) -> None:
    page = console.page
    console.go("events?expression=AWSReservedSSO_AdministratorAccess")
    rows = page.locator("[data-row]")
    expect(rows).to_have_count(2)
    assert rows.evaluate_all(_FIND_CUT) == []
    assert console.overflow() <= 0
