"""Gestures of the console in a real browser: dragging, hovering, scrolling, marking, copying."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.live.browser import CLIPBOARD, Browser
from tests.live.processes import Opentrail, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow]

CONSOLE = Path(__file__).parents[2] / "console/src"
#: Handlers of gestures, which no click or key replaces in tests.
_HANDLER = re.compile(r"\bon(?:Pointer|Drag|Drop|Scroll|Wheel|Mouse|Touch|DoubleClick|Copy)\w*=")
#: File of such handlers -> its tests here.
GESTURES = {
    "app/Palette.tsx": ("test_pointer_chooses_in_the_palette",),
    "filter/FilterBar.tsx": ("test_copying_in_the_filter_copies_the_expression",),
    "pages/Live.tsx": ("test_scrolling_pauses_the_running_history",),
    "pages/SqlEditor.tsx": ("test_scrolling_closes_the_suggestions_of_sql",),
    "parts/Suggestions.tsx": ("test_pointer_takes_a_suggestion",),
    "parts/TimeChart.tsx": (
        "test_dragging_selects_a_period_of_history",
        "test_dragging_on_the_dashboard_opens_the_period",
        "test_chart_reads_the_bar_under_the_pointer",
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    with opentrail_server(tmp_path_factory.mktemp("gestures") / "data", command="sandbox") as made:
        iam = made.boto("iam")
        for number in range(40):
            iam.create_user(UserName=f"user-{number}")
        yield made


@pytest.fixture
def window_options() -> dict[str, Any]:
    return {"permissions": CLIPBOARD}


def test_every_gesture_has_a_test() -> None:
    files = {
        str(file.relative_to(CONSOLE))
        for file in CONSOLE.rglob("*.tsx")
        if _HANDLER.search(file.read_text())
    }
    assert files == GESTURES.keys()
    assert all(name in globals() for names in GESTURES.values() for name in names)


def _drag(page: Page, chart: Locator, start: float, end: float) -> None:
    """Drags over a chart, from one fraction of its width to another."""
    box = chart.locator("svg").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * start, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * end, y, steps=8)
    expect(chart.locator("rect.brush")).to_be_visible()
    page.mouse.up()


def _period(page: Page) -> tuple[datetime, datetime]:
    """Returns the period in the address."""
    query = parse_qs(urlsplit(page.url).query)
    since, until = (datetime.fromisoformat(query[name][0]) for name in ("since", "until"))
    return since, until


@pytest.mark.parametrize(("start", "end"), [(0.3, 0.6), (0.6, 0.3), (0.5, 0.5)])
def test_dragging_selects_a_period_of_history(console: Browser, start: float, end: float) -> None:
    page, now = console.page, datetime.now(UTC)
    console.go(f"events?since={now - timedelta(hours=10):%Y-%m-%dT%H:%M:%SZ}")
    chart = page.get_by_role("group", name="Events over time")
    expect(chart.locator("svg rect").first).to_be_visible()
    before = page.url
    _drag(page, chart, start, end)
    expect(page).not_to_have_url(before)
    since, until = _period(page)
    share = (until - since) / timedelta(hours=10)
    assert abs(share - abs(end - start)) < 0.1
    assert since < until
    expect(page.get_by_role("heading", name="Event history")).to_be_visible()


def test_dragging_on_the_dashboard_opens_the_period(console: Browser) -> None:
    page = console.page
    chart = page.get_by_role("group", name="Calls of the last day")
    expect(chart.locator("svg rect").first).to_be_visible()
    _drag(page, chart, 0.5, 0.9)
    expect(page.get_by_role("heading", name="Event history")).to_be_visible()
    since, until = _period(page)
    assert timedelta(hours=8) < until - since < timedelta(hours=12)


def test_chart_reads_the_bar_under_the_pointer(console: Browser) -> None:
    page = console.page
    chart = page.locator("figure.chart").first
    expect(chart.locator("svg rect").first).to_be_visible()
    reading = chart.locator(".chart-reading")
    expect(reading).to_contain_text("per bar")
    chart.locator("svg").hover()
    expect(reading).to_contain_text("succeeded")
    page.get_by_role("heading", name="Dashboard").hover()
    expect(reading).to_contain_text("per bar")


def test_pointer_takes_a_suggestion(console: Browser) -> None:
    page = console.page
    console.go("events")
    field = page.get_by_role("combobox", name="Filter")
    field.click()
    field.press_sequentially("e")
    option = page.get_by_role("listbox", name="Suggestions").get_by_role("option")
    second = option.nth(1)
    text = second.locator("span").first.inner_text()
    second.hover()
    expect(second).to_have_attribute("aria-selected", "true")
    second.click()
    expect(field).to_be_focused()
    assert text in field.input_value() or page.get_by_text(text).count()


def test_pointer_chooses_in_the_palette(console: Browser) -> None:
    page = console.page
    page.keyboard.press("Control+k")
    choices = page.get_by_role("listbox", name="Choices").get_by_role("option")
    trails = choices.filter(has_text="Trails").first
    trails.hover()
    expect(trails).to_have_attribute("aria-selected", "true")
    trails.click()
    expect(page.get_by_role("heading", name="Trails", exact=False).first).to_be_visible()


def test_scrolling_pauses_the_running_history(console: Browser, server: Opentrail) -> None:
    page = console.page
    console.go("live")
    expect(page.get_by_text("Connected")).to_be_visible()
    iam = server.boto("iam")
    for number in range(40):
        iam.tag_user(UserName=f"user-{number}", Tags=[{"Key": "a", "Value": "b"}])
    rows = page.get_by_role("region", name="New events")
    expect(rows.locator("[data-row]").nth(30)).to_be_attached()
    rows.hover()
    page.mouse.wheel(0, 400)
    iam.untag_user(UserName="user-1", TagKeys=["a"])
    expect(page.get_by_text(re.compile(r"Paused · [1-9]"))).to_be_visible()


def test_copying_in_the_filter_copies_the_expression(console: Browser) -> None:
    page = console.page
    console.go("events?expression=name%3DCreateUser%20is%3Awrite")
    field = page.get_by_role("combobox", name="Filter")
    field.click()
    page.keyboard.press("Control+c")
    assert page.evaluate("navigator.clipboard.readText()") == "name=CreateUser is:write"


def test_marking_text_of_a_row_does_not_open_it(console: Browser) -> None:
    page = console.page
    console.go("events?expression=name%3DCreateUser")
    row = page.locator("[data-row]").first
    box = row.get_by_text("127.0.0.1").last.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 2, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, y, steps=5)
    page.mouse.up()
    assert page.evaluate("String(window.getSelection())").strip()
    assert "event=" not in page.url
    assert "/events/" not in page.url


def test_scrolling_closes_the_suggestions_of_sql(console: Browser) -> None:
    page = console.page
    console.go("sql")
    editor = page.get_by_role("textbox", name="Statement")
    editor.fill("SELECT 1\n" * 60)
    editor.press("Control+Home")
    editor.press_sequentially("SELECT event")
    suggestions = page.get_by_role("listbox", name="Suggestions")
    expect(suggestions).to_be_visible()
    editor.hover()
    page.mouse.wheel(0, 300)
    expect(suggestions).to_be_hidden()
