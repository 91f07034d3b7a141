"""A real browser on a real server's console."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

from tests.live.processes import Opentrail

#: Flags of Chromium for tests.
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
#: Permissions of windows whose clipboard tests read.
CLIPBOARD = ["clipboard-read", "clipboard-write"]
#: Milliseconds for any action on a page.
_TIMEOUT = 30_000
#: Accessibility checks, installed with the console's own tests.
_AXE = Path(__file__).parents[2] / "console/node_modules/axe-core/axe.min.js"
#: Returns violations only: axe's full report has megabytes.
_FIND_VIOLATIONS = """async ([part, options]) =>
    (await axe.run(part, options)).violations.flatMap(violation =>
        violation.nodes.map(node => `${violation.id}: ${node.html.slice(0, 200)}`))"""
#: A moving element may cover others, and its position still changes.
_IS_STILL = """() => document.getAnimations().every(each => each.playState !== "running"
    || each.effect.getComputedTiming().iterations === Infinity)"""
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@dataclass
class Browser:
    """A page, with its errors and its requests to other hosts."""

    page: Page
    server: Opentrail
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Opens the console by a new link."""
        done = self.server.opentrail("console")
        assert done.returncode == 0, done.stderr
        self.page.goto(done.stdout.strip())
        expect(self.page.get_by_role("heading", name="Dashboard")).to_be_visible()

    def go(self, path: str) -> None:
        self.page.goto(f"{self.server.console}/console/{path}")

    @property
    def width(self) -> int:
        size = self.page.viewport_size
        assert size is not None
        return size["width"]

    def violations(self, *but: str, within: str = "html") -> list[str]:
        """Returns axe's violations on the page, rule and element.

        Args:
            but: rules to ignore.
            within: selector of the checked part.
        """
        if not _AXE.is_file():
            pytest.skip("axe-core is not installed: run npm ci in console/")
        self.page.wait_for_function(_IS_STILL)
        if not self.page.evaluate("'axe' in window"):
            # Without `null`, the script would return all of axe.
            self.page.evaluate(f"{_AXE.read_text(encoding='utf-8')}\n;null")
        options = {
            "runOnly": _RULES,
            "rules": {rule: {"enabled": False} for rule in but},
            "resultTypes": ["violations"],
        }
        found: list[str] = self.page.evaluate(_FIND_VIOLATIONS, [within, options])
        return found

    def overflow(self) -> int:
        """Returns the number of pixels by which the page is wider than its window."""
        wider = "document.scrollingElement.scrollWidth - window.innerWidth"
        return int(self.page.evaluate(wider))

    def check(self) -> None:
        """Fails on failed scripts, policy violations and requests to other hosts."""
        assert not self.problems, "\n".join(self.problems)
        foreign = [url for url in self.requests if not url.startswith(self.server.console)]
        assert foreign == []


@contextmanager
def running_chromium() -> Iterator[Chromium]:
    """Runs Chromium; skips the test if it is not installed.

    Its headless shell takes half of the CPU time, as it draws no window frames.
    """
    program = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed: apt-get install chromium-headless-shell")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def browser(
    chromium: Chromium, server: Opentrail, width: int = 1440, height: int = 900, **options: Any
) -> Iterator[Browser]:
    """Opens a window with a new profile.

    Args:
        chromium: browser of the window.
        server: server of the console.
        width: width of the window in pixels.
        height: height of the window in pixels.
        options: further options of Playwright's context, such as `color_scheme`.
    """
    context = chromium.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    page.set_default_timeout(_TIMEOUT)
    expect.set_options(timeout=_TIMEOUT)
    opened = Browser(page, server)

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            opened.problems.append(message.text)

    page.on("pageerror", lambda error: opened.problems.append(str(error)))
    page.on("console", note)
    page.on("request", lambda request: opened.requests.append(request.url))
    try:
        yield opened
    finally:
        context.close()
