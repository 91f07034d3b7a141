"""The round trip of all operations takes minutes: it runs only with `-m conformance`."""

from __future__ import annotations

import pytest

_MARKER = "conformance"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{_MARKER}: every operation of every service, minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _MARKER in str(config.getoption("-m")):
        return
    for item in items:
        if item.get_closest_marker(_MARKER) is not None:
            item.add_marker(pytest.mark.skip(reason="takes minutes: run it with -m conformance"))
