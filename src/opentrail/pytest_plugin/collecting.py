"""The environment while modules are imported whose tests use the fixtures.

A client that such a module makes calls the tests' server, or nothing while there is none: it never
has a developer's own credentials.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest

#: A parameter named after a fixture of the plugin, or a fixture that is named in a string.
_USE = re.compile(
    rb"\bdef\s+\w+\s*\([^)]*\bopentrail(?:_server)?\b"
    rb"|\b(?:usefixtures|getfixturevalue)\s*\([^)]*[\"']opentrail(?:_server)?[\"']"
)
_CONFTEST = "conftest.py"


def imports_use_of_fixture(collector: pytest.Collector) -> bool:
    """Returns whether a collector may import what uses a fixture: a module, or a conftest.py."""
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
        address: of the server that will be started for the tests.
        endpoint: the console's address of one that runs already.
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
