"""What all tests share."""

from __future__ import annotations

from tests import postgres

pytest_plugins = ["pytester"]


def pytest_sessionfinish() -> None:
    """Stops PostgreSQL: a worker of pytest-xdist ends without running what `atexit` has."""
    postgres.remove_shared_server()
