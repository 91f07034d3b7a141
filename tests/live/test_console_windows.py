"""The web console in windows of a desktop, a tablet and a telephone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect

from tests.live.browser import Browser, browser
from tests.live.processes import Opentrail

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

WINDOWS = ((1440, 900), (1024, 768), (390, 844))
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
