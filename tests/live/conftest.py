"""A sandbox, and a browser that is signed in to its console."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.browser import Browser, browser
from tests.live.processes import Opentrail, opentrail_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    with opentrail_server(tmp_path_factory.mktemp("console") / "data", command="sandbox") as made:
        yield made


@pytest.fixture
def console(server: Opentrail) -> Iterator[Browser]:
    with browser(server) as opened:
        opened.open()
        yield opened
        opened.check()
