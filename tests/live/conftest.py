"""A sandbox, and a browser that is signed in to its console."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser as Chromium

from tests.live.browser import Browser, browser, running_chromium
from tests.live.processes import Opentrail, opentrail_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    with opentrail_server(tmp_path_factory.mktemp("console") / "data", command="sandbox") as made:
        yield made


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    # Not for longer: a running Playwright blocks this thread's event loop.
    with running_chromium() as running:
        yield running


@pytest.fixture
def window_options() -> dict[str, Any]:
    """Further options of `browser`, which a module may replace."""
    return {}


@pytest.fixture
def console(
    chromium: Chromium, server: Opentrail, window_options: dict[str, Any]
) -> Iterator[Browser]:
    with browser(chromium, server, **window_options) as opened:
        opened.open()
        yield opened
        opened.check()
