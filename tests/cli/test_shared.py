"""What runs a command is imported only then."""

import argparse
import subprocess
import sys

import pytest

from opentrail.cli.shared import runs
from opentrail.commands import status


def test_a_command_runs_the_function_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "run", lambda options: options.code)
    assert runs("status")(argparse.Namespace(code=5)) == 5


def test_parsing_arguments_imports_no_command() -> None:
    program = (
        "import sys; from opentrail.cli.parser import parser; parser();"
        "print([name for name in sys.modules if name.startswith('opentrail.commands.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", ["lookup", "status", "tail", "trail", "who"])
def test_a_command_that_asks_a_server_starts_at_once(name: str) -> None:
    program = f"import sys; import opentrail.commands.{name}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert "opentrail.commands.client" in loaded
    assert loaded.isdisjoint({"botocore", "duckdb", "numpy", "sqlite3", "starlette"})
