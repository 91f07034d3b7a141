"""Options and fixtures; pytest imports this module in every session, so it imports little."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from opentrail.commands.sandbox import ReservedPort
    from opentrail.pytest_plugin.oracle import Oracle
    from opentrail.pytest_plugin.session_server import TestServer
import re
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from functools import cache

#: A parameter named after a fixture of the plugin, or a fixture that is named in a string.
_USE = re.compile(
    rb"\bdef\s+\w+\s*\([^)]*\bopentrail(?:_server)?\b"
    rb"|\b(?:usefixtures|getfixturevalue)\s*\([^)]*[\"']opentrail(?:_server)?[\"']"
)
_CONFTEST = "conftest.py"


def imports_use_of_fixture(collector: pytest.Collector) -> bool:
    """Returns whether a collector may import users of a fixture: a module, or a conftest.py."""
    if isinstance(collector, pytest.Module):
        return uses_fixture(collector.path, collector.config.rootpath)
    if isinstance(collector, pytest.Directory | pytest.Session):
        folder = collector.path
        return any_uses_fixture([folder / _CONFTEST, *folder.glob(f"*/{_CONFTEST}")])
    return False


def uses_fixture(module: Path, root: Path) -> bool:
    """Returns whether a module, or a conftest.py of its folder or one above, uses a fixture."""
    folders = [module.parent, *module.parent.parents]
    if root in folders:
        folders = folders[: folders.index(root) + 1]
    return any(map(_names_fixture, [module, *(folder / _CONFTEST for folder in folders)]))


def initial_conftests(arguments: Sequence[str], root: Path, here: Path) -> list[Path]:
    """Returns the conftest.py files that pytest may import before it collects."""
    conftests: list[Path] = []
    for argument in arguments or ["."]:
        path = here / argument.partition("::")[0]
        folder = path if path.is_dir() else path.parent
        conftests += [folder / _CONFTEST, *sorted(folder.glob(f"test*/{_CONFTEST}"))]
        conftests += [
            parent / _CONFTEST for parent in folder.parents if parent.is_relative_to(root)
        ]
    return conftests


def any_uses_fixture(files: Sequence[Path]) -> bool:
    """Returns whether one of these files uses a fixture."""
    return any(map(_names_fixture, files))


@cache
def _names_fixture(file: Path) -> bool:
    try:
        return _USE.search(file.read_bytes()) is not None
    except OSError:
        return False


@contextmanager
def importing(address: str, endpoint: str | None, data_dir: str | None) -> Iterator[None]:
    """Points clients that are created in the block to the tests' server.

    Args:
        address: the address of the server that the plugin will start for the tests.
        endpoint: the console's address of a running server.
        data_dir: its data directory.
    """
    from opentrail.commands.server_process import ADMIN_ACCESS, environment_of
    from opentrail.core.errors import OpentrailError
    from opentrail.pytest_plugin.session_server import apply_environment, connected

    environment = environment_of(address, ADMIN_ACCESS)
    if endpoint or data_dir:
        # A server that does not answer is an error of the tests that use it.
        with suppress(OpentrailError):
            environment = connected(endpoint, data_dir).environment
    with pytest.MonkeyPatch.context() as monkeypatch:
        apply_environment(monkeypatch, environment)
        yield


_UPDATE = "--update-golden"
#: The port of the session's server, from the first module on that uses a fixture.
_PORT: pytest.StashKey[ReservedPort] = pytest.StashKey()


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
    parser.addini(
        "opentrail_allowed_hosts",
        "further hosts that AWS clients may call in tests that use opentrail",
        type="args",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Describes the marker of the plugin."""
    config.addinivalue_line(
        "markers", "opentrail_fresh: the test begins with a server without any history"
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser
) -> Iterator[None]:
    """Adds `--update-golden` unless another plugin or the project's conftest.py has it."""
    from opentrail.pytest_plugin.plugin import any_uses_fixture, initial_conftests

    options = early_config.known_args_namespace
    here = early_config.invocation_params.dir
    names = options.file_or_dir or early_config.getini("testpaths")
    with ExitStack() as stack:
        if any_uses_fixture(initial_conftests(names, early_config.rootpath, here)):
            stack.enter_context(_importing(early_config))
        result = yield
    try:
        _, unknown = parser.parse_known_and_unknown_args([_UPDATE])
    except pytest.UsageError:  # it is known, and needs a value
        unknown = []
    if unknown:
        _add_update(parser.getgroup("opentrail"), _UPDATE)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Imports modules that use a fixture in the environment of the tests' server."""
    from opentrail.pytest_plugin.plugin import imports_use_of_fixture

    with ExitStack() as stack:
        if imports_use_of_fixture(collector):
            stack.enter_context(_importing(collector.config))
        return (yield)


def _importing(config: pytest.Config) -> AbstractContextManager[None]:
    """Points clients that are created in the block to the tests' server."""
    from opentrail.pytest_plugin.plugin import importing

    options = config.known_args_namespace
    address = f"http://{_reserved(config).address}"
    return importing(address, options.opentrail_endpoint, options.opentrail_data_dir)


def _reserved(config: pytest.Config) -> ReservedPort:
    """Returns the port that this session's server will have."""
    from opentrail.commands.sandbox import ReservedPort

    if _PORT not in config.stash:
        config.stash[_PORT] = port = ReservedPort()
        config.add_cleanup(port.release)
    return config.stash[_PORT]


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
    from opentrail.pytest_plugin.session_server import connected, running

    config = request.config
    endpoint = config.getoption("opentrail_endpoint")
    data_dir = config.getoption("opentrail_data_dir")
    upstream = config.getoption("opentrail_upstream") or config.getini("opentrail_upstream")
    try:
        if endpoint or data_dir:
            yield connected(endpoint, data_dir)
            return
        folder = tmp_path_factory.mktemp("opentrail")
        with running(folder, upstream or None, _reserved(config)) as server:
            yield server
    except OpentrailError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def opentrail(
    request: pytest.FixtureRequest,
    opentrail_server: TestServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Oracle:
    """The calls recorded since the test began; AWS clients made in the test call the server."""
    from opentrail.core.errors import OpentrailError
    from opentrail.pytest_plugin.golden import GoldenFolder
    from opentrail.pytest_plugin.oracle import Oracle

    is_fresh = request.node.get_closest_marker("opentrail_fresh") is not None
    opentrail_server.apply_to(monkeypatch, request.config.getini("opentrail_allowed_hosts"))
    if is_fresh or request.config.getini("opentrail_reset"):
        try:
            opentrail_server.reset(is_fresh)
        except OpentrailError as error:
            pytest.fail(str(error), pytrace=False)
    is_update = bool(request.config.getoption("opentrail_update_golden"))
    golden = GoldenFolder(Path(request.path), request.node.name, is_update)
    return Oracle(opentrail_server, golden)
