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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the figures that tests recorded, on any worker."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            noted = dict(getattr(report, "user_properties", ()))
            if "figures" in noted and report.when == "call":
                terminalreporter.write_line(str(noted["figures"]))
