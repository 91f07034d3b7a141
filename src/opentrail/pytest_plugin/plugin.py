"""Options and fixtures; pytest imports this module in every session, so it imports little."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from opentrail.pytest_plugin.oracle import Oracle
    from opentrail.pytest_plugin.server import TestServer

_UPDATE = "--update-golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options of the plugin."""
    group = parser.getgroup("opentrail", "calls recorded by opentrail")
    _add_update(group, "--opentrail-update-golden")
    group.addoption(
        "--opentrail-upstream",
        metavar="URL",
        help="AWS-compatible endpoint that calls go to, instead of moto",
    )
    group.addoption(
        "--opentrail-endpoint",
        metavar="URL",
        help="console address of a running server; its token in OPENTRAIL_TOKEN",
    )
    group.addoption(
        "--opentrail-data-dir",
        metavar="DIR",
        help="data directory of a running server of this machine",
    )
    parser.addini("opentrail_upstream", "as --opentrail-upstream", default="")
    parser.addini(
        "opentrail_reset",
        "whether moto is emptied before each test that uses opentrail",
        type="bool",
        default=True,
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(parser: pytest.Parser) -> Iterator[None]:
    """Adds `--update-golden` unless another plugin or the project's conftest.py has it."""
    result = yield
    try:
        _, unknown = parser.parse_known_and_unknown_args([_UPDATE])
    except pytest.UsageError:  # it is known, and needs a value
        unknown = []
    if unknown:
        _add_update(parser.getgroup("opentrail"), _UPDATE)
    return result


def _add_update(group: pytest.OptionGroup, name: str) -> None:
    group.addoption(
        name,
        action="store_true",
        dest="opentrail_update_golden",
        help="write the golden trails of the tests that run instead of comparing with them",
    )


@pytest.fixture(scope="session")
def opentrail_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestServer]:
    """The server that records this session's calls; each worker of pytest-xdist has its own."""
    from opentrail.core.errors import OpentrailError
    from opentrail.pytest_plugin.server import connected, running

    config = request.config
    endpoint = config.getoption("opentrail_endpoint")
    data_dir = config.getoption("opentrail_data_dir")
    upstream = config.getoption("opentrail_upstream") or config.getini("opentrail_upstream")
    try:
        if endpoint or data_dir:
            yield connected(endpoint, data_dir)
            return
        with running(tmp_path_factory.mktemp("opentrail"), upstream or None) as server:
            yield server
    except OpentrailError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def opentrail(
    request: pytest.FixtureRequest,
    opentrail_server: TestServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Oracle:
    """What was recorded since the test began; AWS clients made in the test call the server."""
    from opentrail.pytest_plugin.golden import GoldenFolder
    from opentrail.pytest_plugin.oracle import Oracle

    opentrail_server.apply_to(monkeypatch)
    if request.config.getini("opentrail_reset"):
        opentrail_server.reset()
    is_update = bool(request.config.getoption("opentrail_update_golden"))
    golden = GoldenFolder(Path(request.path), request.node.name, is_update)
    return Oracle(opentrail_server, golden)
