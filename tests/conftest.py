"""Fixtures of all tests."""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import postgres
from tests.stub_console import StubConsole, stub_console

pytest_plugins = ["pytester"]

# Otherwise each process that a test starts would compile its imports, which takes seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A busy machine must not decide whether an example of Hypothesis passes.
hypothesis.settings.register_profile("patient", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("patient")

# Imported modules are no garbage: skipping them takes a tenth of the time.
gc.set_threshold(700, 10, 1_000)

#: Duration of each test file that takes more than one second.
DURATIONS = Path(__file__).parent / "durations.json"
_seconds_by_file: defaultdict[str, float] = defaultdict(float)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-durations", action="store_true", help=f"measure the files for {DURATIONS.name}"
    )
    parser.addoption(
        "--random-order",
        metavar="SEED",
        help="shuffle files, and the tests in each, by a seed; `new` draws one, and shows it first",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--random-order") == "new":
        # The workers of pytest-xdist get the unchanged option, and the environment.
        seed = os.environ.setdefault("PYTEST_RANDOM_ORDER", str(random.randrange(10**6)))
        config.option.random_order = seed
    # Processes that a shell starts in the background ignore SIGINT.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header(config: pytest.Config) -> list[str]:
    seed = config.getoption("--random-order")
    return [] if seed is None else [f"--random-order {seed}"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A run of only the campaigns imports only the files with some: one in six."""
    only_campaigns = str(config.getoption("markexpr")).startswith("campaign and ")
    if only_campaigns and collection_path.match("test_*.py"):
        return b"mark.campaign" not in collection_path.read_bytes() or None
    return None


@pytest.hookimpl(tryfirst=True)  # before pytest groups tests that share a fixture
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts the longest files first, so that the workers of pytest-xdist end together."""
    seed = config.getoption("--random-order")
    if seed is not None:
        chance = random.Random(seed)
        chance.shuffle(items)
        order = {_file(item.nodeid): chance.random() for item in items}
        items.sort(key=lambda item: order[_file(item.nodeid)])
        return
    seconds: dict[str, int] = json.loads(DURATIONS.read_text(encoding="utf-8"))
    items.sort(key=lambda item: -seconds.get(_file(item.nodeid), 0))


def pytest_collection_finish() -> None:
    gc.freeze()  # before the first test: modules and tests are no garbage


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds_by_file[_file(report.nodeid)] += report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    # A worker of pytest-xdist ends without running the functions of `atexit`.
    postgres.remove_shared_server()
    gc.unfreeze()  # otherwise libraries report leaks when the process ends
    if session.config.getoption("--write-durations") and not hasattr(session.config, "workerinput"):
        before: dict[str, int] = json.loads(DURATIONS.read_text(encoding="utf-8"))
        measured = {file: round(seconds) for file, seconds in _seconds_by_file.items()}
        files = sorted((before | measured).items())
        after = {file: seconds for file, seconds in files if seconds > 1}
        DURATIONS.write_text(json.dumps(after, indent=0) + "\n", encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def left_objects_stay() -> Iterator[None]:
    """The garbage collector does not search the objects of earlier test files.

    A collection of all objects would stop a process for seconds, in any test.
    """
    yield
    gc.freeze()


@pytest.fixture(autouse=True)
def no_trace_of_a_command() -> Iterator[None]:
    """A command in this process no longer logs to the test's stderr, which is closed.

    If it was `serve` and ended before it was ready, garbage collection would stay disabled.
    """
    yield
    gc.enable()
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
    """A stub of a server that commands find automatically."""
    with stub_console(empty_folder / "opentrail-data") as stub:
        yield stub
