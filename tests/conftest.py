"""What all tests share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.stub_console import StubConsole, stub_console

pytest_plugins = ["pytester"]


def pytest_sessionfinish() -> None:
    """Stops PostgreSQL: a worker of pytest-xdist ends without running what `atexit` has."""
    postgres.remove_shared_server()


@pytest.fixture(autouse=True)
def no_handler_left() -> Iterator[None]:
    """A command that ran in this process no longer logs to the test's stderr, which is closed."""
    yield
    for handler in list(logging.root.handlers):
        if type(handler) is logging.StreamHandler:  # pytest's own ones are subclasses
            logging.root.removeHandler(handler)


@pytest.fixture
def empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder in which the test runs, without settings of the machine."""
    for name in list(os.environ):
        if name.startswith(("OPENTRAIL_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def console(empty_folder: Path) -> Iterator[StubConsole]:
    """A stub of a server that commands find by themselves."""
    with stub_console(empty_folder / "opentrail-data") as stub:
        yield stub
