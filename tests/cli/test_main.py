"""How commands end: exit codes, closed pipes."""

import subprocess
import sys
from pathlib import Path

from opentrail.version import __version__
from tests.commands.events import an_event
from tests.factories import event_id
from tests.stub_console import StubConsole


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "opentrail", "--version"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"opentrail {__version__}\n"


def test_a_closed_pipe_is_not_an_error(console: StubConsole, tmp_path: Path) -> None:
    """As in `opentrail lookup | head -1`."""
    console.answers({"events": [an_event(eventID=event_id(n)) for n in range(3_000)]})
    command = [sys.executable, "-m", "opentrail", "lookup", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(timeout=60) == 0
    assert said == ""
