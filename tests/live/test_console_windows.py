"""The web console in windows of a desktop, a tablet and a telephone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, Route, expect

from tests.factories import a_record, an_assumed_role, event_id
from tests.live.browser import Browser, browser
from tests.live.processes import Opentrail

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

WINDOWS = ((1440, 900), (1024, 768), (390, 844))
#: Pages that `g` and a letter open.
PAGES = {
    "d": "Dashboard",
    "e": "Event history",
    "l": "Live",
    "i": "Insights",
    "n": "Detections",
    "p": "Principals",
    "r": "Resources",
    "m": "Timeline",
    "o": "Event data stores",
    "t": "Trails",
    "v": "Integrity",
    "u": "Users",
    "s": "Settings",
}
PATHS = ("", "insights", "detections", "principals", "resources", "timeline", "trails", "settings")
FONTS = ("DejaVu Sans", "Liberation Sans")
_SET_FONT = """document.addEventListener("DOMContentLoaded", () => {
    const style = document.createElement("style")
    style.textContent = `* {font-family: "FONT" !important}`
    document.head.append(style)
})"""
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

#: Returns times and targets of truncated rows.
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
    return [...row.querySelectorAll(".events-time, .object:not(.long), .object .kept")]
      .filter(isCut).map(element => element.innerText)
})"""
#: Returns truncated strings without a title.
_FIND_UNTITLED = """() => [...document.querySelectorAll("main *")].filter(element => {
    const {overflowX, textOverflow} = getComputedStyle(element)
    const isCut = overflowX !== "visible" && textOverflow === "ellipsis"
    return isCut && element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 1
        && element.innerText.trim() && !element.closest("[title]")
}).map(element => element.outerHTML.slice(0, 200))"""


@pytest.fixture(
    params=[(size, font) for size in WINDOWS for font in FONTS],
    ids=lambda each: f"{each[0][0]}x{each[0][1]} {each[1]}",
)
def typeset(
    request: pytest.FixtureRequest, chromium: Chromium, server: Opentrail
) -> Iterator[Browser]:
    """A console in a window of each size, in each font."""
    (width, height), font = request.param
    program = shutil.which("fc-list")
    if program is None:
        pytest.skip("fontconfig is not installed")
    listed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    if font not in listed:
        pytest.skip(f"the font {font} is not installed")
    with browser(chromium, server, width, height, bypass_csp=True) as opened:
        opened.page.add_init_script(_SET_FONT.replace("FONT", font))
        opened.open()
        yield opened
        opened.check()


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
    """Imports two events with Mary among the names, and returns the sentence of the older one."""
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
    """Imports calls by callers with long names: one of this year, one of an earlier year."""
    this_year = datetime.now(UTC).year
    role = an_assumed_role("AWSReservedSSO_AdministratorAccess_0123456789abcdef", "a" * 40)
    records = [
        a_record(
            eventID=event_id(100 + number),
            eventTime=f"{year}-01-01T09:00:59Z",
            eventSource="s3.amazonaws.com",
            eventName="CreateBucket",
            userIdentity=role,
            requestParameters={"bucketName": f"quarterly-reports-{name}"},
            responseElements=None,
        )
        for number, (year, name) in enumerate(
            ((2020, "2020"), (this_year, "now"), (this_year, "of-a-department-" + "x" * 60))
        )
    ]
    _import(server, tmp_path_factory.mktemp("records") / "callers.ndjson", records)


def _import(server: Opentrail, file: Path, records: Sequence[dict[str, Any]]) -> None:
    file.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    done = server.opentrail("import", str(file))
    assert done.returncode == 0, done.stderr


def test_enter_in_the_filter_moves_to_the_rows(console: Browser, mary: str) -> None:
    page = console.page
    console.go("events?expression=")
    filter_ = page.get_by_role("combobox", name="Filter events")
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
    if console.width < 600:  # an event has its own page
        return
    page.keyboard.press("/")
    expect(filter_).to_be_focused()
    page.keyboard.press("Escape")
    expect(filter_).not_to_be_focused()
    expect(opened).to_be_visible()
    page.keyboard.press("Escape")
    expect(opened).to_have_count(0)
    expect(rows.nth(1)).to_be_focused()


def test_palette_receives_keys_typed_before_it_opens(console: Browser, mary: str) -> None:
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
        # From event history, which also uses some of these letters as keys.
        console.go("events?expression=")
        expect(page.locator("[data-row]").first).to_be_visible()
        page.keyboard.press("g")
        page.keyboard.press(letter)
        expect(page).to_have_title(f"{name} · opentrail")


def _type(page: Page, text: str) -> None:
    page.keyboard.press("/")
    expect(page.get_by_role("combobox", name="Filter events")).to_be_focused()
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def test_filter_speaks_the_search_language(console: Browser, mary: str) -> None:
    page = console.page
    rows = page.locator("[data-row] a")
    console.go("events?expression=")
    expect(rows.nth(2)).to_be_visible()
    _type(page, "resource=Mary time<2020-01-02")
    expect(rows).to_have_count(2)
    terms = page.get_by_role("list", name="Terms of the filter")
    expect(terms).to_have_text("resource=Marytime<2020-01-02")
    page.get_by_role("button", name="Edit resource=Mary").click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("resource=user-7 OR resource=user-8")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("user-8")
    expect(terms).to_have_text("(resource=user-7 OR resource=user-8)time<2020-01-02")
    page.get_by_role("button", name="Remove time<2020-01-02").click()
    expect(terms).to_have_text("(resource=user-7 OR resource=user-8)")


def test_filter_marks_its_errors(console: Browser, mary: str) -> None:
    page = console.page
    field = page.get_by_role("combobox", name="Filter events")
    console.go("events?expression=")
    expect(page.locator("[data-row]").first).to_be_visible()
    address = page.url
    _type(page, "is:write usr=John")
    expect(page.get_by_role("alert")).to_contain_text("column 10: expected a field such as user")
    assert field.evaluate("at => at.value.slice(at.selectionStart, at.selectionEnd)") == "usr"
    assert page.url == address
    page.keyboard.type("user")
    expect(page.get_by_role("alert").filter(has_text="column")).to_have_count(0)
    page.keyboard.press("Enter")
    terms = page.get_by_role("list", name="Terms of the filter")
    expect(terms).to_have_text("is:writeuser=John")


def test_filter_gives_its_expression_back(chromium: Chromium, server: Opentrail, mary: str) -> None:
    with browser(chromium, server, permissions=["clipboard-read", "clipboard-write"]) as console:
        console.open()
        page = console.page
        console.go("events?expression=user%3DJohn%20resource%3DMary")
        expect(page.locator("[data-row]")).to_have_count(2)
        page.keyboard.press("/")
        page.keyboard.press("ControlOrMeta+c")
        console.go("events?expression=")
        expect(page.locator("[data-row]").nth(2)).to_be_visible()
        page.keyboard.press("/")
        page.keyboard.press("ControlOrMeta+v")
        page.keyboard.press("Enter")
        terms = page.get_by_role("list", name="Terms of the filter")
        expect(terms).to_have_text("user=Johnresource=Mary")
        console.check()


def test_range_is_the_shortest_with_events(console: Browser, mary: str) -> None:
    page = console.page
    said = page.get_by_text("None in the last 24 hours: all time")
    console.go("events?expression=resource%3Duser-7&last=auto")
    expect(page.locator("[data-row]")).to_have_count(1)
    if console.width >= 600:
        expect(said).to_be_visible()
    name = f"today-{console.width}"
    console.server.boto("s3").create_bucket(Bucket=name)
    console.go("events")
    expect(page.locator("[data-row]").first).to_contain_text(name)
    expect(page.get_by_role("button", name="Last 24 hours")).to_be_visible()
    expect(page.get_by_text("2020-01-01")).to_have_count(0)


def test_rows_show_seconds_and_targets(typeset: Browser, callers: None) -> None:
    page = typeset.page
    typeset.go("events?expression=AWSReservedSSO_AdministratorAccess")
    rows = page.locator("[data-row]")
    expect(rows).to_have_count(3)
    assert rows.evaluate_all(_FIND_CUT) == []
    assert typeset.overflow() <= 0


def test_a_match_in_a_long_caller_is_shown(typeset: Browser, callers: None) -> None:
    page = typeset.page
    typeset.go("events?expression=0123456789abcdef")
    rows = page.locator("[data-row]")
    expect(rows).to_have_count(3)
    expect(rows.first.locator("mark")).to_be_visible()
    assert rows.evaluate_all(_FIND_CUT.replace(".object .kept", "mark")) == []


def test_first_row_is_high_up(typeset: Browser, mary: str) -> None:
    page = typeset.page
    row = page.locator("[data-row]").first
    for path, most in (
        ("events?expression=", 240),
        ("events?expression=Mary", 380),
        ("events?expression=is%3Awrite%20user%3DJohn%20NOT%20Eve%20service%3Diam*&last=all", 240),
    ):
        typeset.go(path)
        expect(row).to_be_visible()
        # The text above the rows arrives with the answers.
        expect(page.get_by_role("heading", name="Event history (")).to_be_visible()
        expect(page.get_by_role("region", name="Answer")).to_have_count(int(path.endswith("Mary")))
        place = row.bounding_box()
        assert place is not None
        # A telephone's list has no head, and its answers have more lines.
        assert place["y"] <= most or typeset.width < 600, path
        assert place["y"] <= 2 * most


def test_truncated_text_has_a_title(typeset: Browser, callers: None, mary: str) -> None:
    for path in ("events?expression=", "live", *(name for name in PATHS if name)):
        typeset.go(path)
        expect(typeset.page.get_by_role("heading", level=1).first).to_be_visible()
        if path != "live":  # whose answer is endless
            typeset.page.wait_for_load_state("networkidle")
        assert typeset.page.evaluate(_FIND_UNTITLED) == [], path


def test_narrow_panel_shows_all_tabs(chromium: Chromium, server: Opentrail, mary: str) -> None:
    with browser(chromium, server) as console:
        console.open()
        page = console.page
        console.go(f"events?expression=&event={event_id(0)}")
        expect(page.get_by_role("heading", name=mary)).to_be_visible()
        page.get_by_role("slider").focus()
        panel = page.get_by_role("region", name=mary)
        expect(page.get_by_role("tab")).to_have_count(5)
        place = panel.bounding_box()
        while place is not None and place["width"] > 480:
            page.keyboard.press("ArrowRight")
            place = panel.bounding_box()
        assert place is not None
        for tab in page.get_by_role("tab").all():
            box = tab.bounding_box()
            assert box is not None
            assert place["x"] <= box["x"] <= box["x"] + box["width"] <= place["x"] + place["width"]
        console.check()


def test_lists_show_the_age_of_events(chromium: Chromium, server: Opentrail, mary: str) -> None:
    with browser(chromium, server) as console:
        console.open()
        page = console.page
        console.go("events?expression=resource%3DMary")
        time = page.locator("[data-row] .events-time").first
        expect(time).to_have_text("2020-01-01 09:01:00")
        page.get_by_role("button", name="Time zone: UTC").click()
        page.get_by_role("menuitem", name="As “5 min ago” in lists").click()
        expect(time).to_have_text(re.compile(r"\d+ d ago"))
        expect(time).to_have_attribute("title", re.compile("2020-01-01 09:01:00 UTC"))
        console.check()
