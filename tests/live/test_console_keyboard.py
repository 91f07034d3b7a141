"""Both stories of the web console with only the keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.factories import a_record
from tests.live.browser import Browser
from tests.live.processes import Opentrail, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

MARY = (
    "On January 1, 2020 at 9:00 AM UTC, IAM user John created IAM user Mary "
    "through the AWS Management Console"
)
#: Maximum number of controls between two on a page.
_MAX_STEPS = 80
_NAME = """() => {
  const {activeElement: at} = document
  const label = at.labels?.length ? at.labels[0].innerText : ""
  return (at.getAttribute("aria-label") || label || at.innerText || at.placeholder || "").trim()
}"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Opentrail]:
    with opentrail_server(tmp_path / "data", command="sandbox") as made:
        yield made


def _tab_to(page: Page, name: str) -> None:
    """Presses Tab until the control with this name has the focus."""
    seen = []
    for _ in range(_MAX_STEPS):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(_NAME))
        if seen[-1].startswith(name):
            return
    raise AssertionError(f"Tab does not reach {name!r}, only {seen}")


def test_who_created_mary_is_found(console: Browser, server: Opentrail, tmp_path: Path) -> None:
    record = a_record(userAgent="Mozilla/5.0 (X11; Linux x86_64)", responseElements=None)
    (tmp_path / "mary.ndjson").write_text(json.dumps(record))
    done = server.opentrail("import", str(tmp_path / "mary.ndjson"))
    assert done.returncode == 0, done.stderr
    page = console.page
    page.reload()
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("e")
    expect(page.get_by_role("heading", name="Event history")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("CreateUser")
    expect(page.get_by_role("option", name="eventName=CreateUser")).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Edit eventName=CreateUser")).to_be_visible()
    expect(page.locator("[data-row] a").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=MARY)).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name=MARY)).to_have_count(0)


def test_three_keys_find_a_name_from_anywhere(
    console: Browser, server: Opentrail, tmp_path: Path
) -> None:
    record = a_record(userAgent="Mozilla/5.0 (X11; Linux x86_64)", responseElements=None)
    (tmp_path / "mary.ndjson").write_text(json.dumps(record))
    assert server.opentrail("import", str(tmp_path / "mary.ndjson")).returncode == 0
    page = console.page
    page.keyboard.press("Control+k")
    box = page.get_by_role("combobox", name="Search or jump to")
    expect(box).to_be_focused()
    page.keyboard.type("Mary")
    expect(page.get_by_role("option", name="Mary Resources · AWS::IAM::User")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Answer")).to_contain_text(MARY)

    page.keyboard.press("Control+k")
    page.keyboard.type("trails")
    expect(page.get_by_role("option", selected=True)).to_contain_text("Trails")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Trails", level=1)).to_be_visible()
    page.keyboard.press("Control+k")
    page.keyboard.type("jo")
    page.get_by_role("option", name="John Users").click()
    expect(page.get_by_role("heading", name="Event history (1)")).to_be_visible()
    page.keyboard.press("Control+k")
    page.keyboard.press("Escape")
    expect(box).to_have_count(0)


def test_cloudtrail_is_turned_on(console: Browser, server: Opentrail) -> None:
    page = console.page
    _tab_to(page, "Get Started Now")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Turn On CloudTrail")).to_be_visible()
    _tab_to(page, "Trail name")
    page.keyboard.type("audit")
    _tab_to(page, "Turn On")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="API activity history")).to_be_visible()
    expect(page.get_by_role("row").nth(1)).to_contain_text("CreateTrail")
    assert server.boto("cloudtrail").get_trail_status(Name="audit")["IsLogging"]
