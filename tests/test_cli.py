"""The command line: help, version, completion, exit codes; modules loaded on demand."""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opentrail.cli import FORMER_COMMANDS, main, parser
from opentrail.core.version import __version__
from tests.commands.events import an_event
from tests.commands.exits import exits
from tests.factories import event_id
from tests.stub_console import StubConsole

Capture = pytest.CaptureFixture[str]


def commands(of: argparse.ArgumentParser, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yields the names of every command and action."""
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield (*names, name)
                yield from commands(command, (*names, name))


COMMANDS = tuple(commands(parser()))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: tuple[str, ...], capsys: Capture) -> None:
    assert exits(*command, "--help") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: opentrail {' '.join(command)}")
    assert "--help" in out


def test_help_lists_every_command(capsys: Capture) -> None:
    assert exits("--help") == 0
    out = capsys.readouterr().out
    assert all(f"\n    {command[0]}" in out for command in COMMANDS)


@pytest.mark.parametrize("former", FORMER_COMMANDS)
def test_former_commands_run_the_new_ones_and_name_them(former: str, capsys: Capture) -> None:
    new = FORMER_COMMANDS[former]
    assert exits(*new, "--help") == 0
    helped = capsys.readouterr().out
    assert exits(former, "--help") == 0
    captured = capsys.readouterr()
    assert captured.out == helped
    assert captured.err == f"opentrail: {former} is now {' '.join(new)}\n"
    assert former not in {command[0] for command in COMMANDS}
    assert main(["completion", "bash"]) == 0
    assert former not in capsys.readouterr().out


def test_former_query_commands_pass_their_flags(capsys: Capture) -> None:
    assert main(["query-history", "--limit", "5", "--endpoint", "http://127.0.0.1:1"]) == 2
    told = capsys.readouterr().err
    assert "query-history is now query --history" in told
    assert "needs a token" in told


def test_the_version_is_printed(capsys: Capture) -> None:
    assert exits("--version") == 0
    assert capsys.readouterr().out == f"opentrail {__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("fly",), *COMMANDS], ids=" ".join)
def test_an_unknown_argument_is_wrong_use(arguments: tuple[str, ...], capsys: Capture) -> None:
    assert exits(*arguments, "--fly") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "usage: opentrail" in captured.err


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize(
    "arguments",
    [
        ("lookup",),
        ("who", "Mary"),
        ("tail",),
        ("export", "--csv", "here"),
        ("trail", "flush", "my-trail"),
        ("status",),
        ("console",),
        ("insights",),
        ("users", "list"),
    ],
    ids=" ".join,
)
def test_without_a_server_a_question_is_wrong_use(
    arguments: tuple[str, ...], capsys: Capture
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("opentrail: no server runs on data directory opentrail-data")
    assert "--data-dir" in said


def test_help_shows_the_usage_of_the_command(capsys: Capture) -> None:
    assert main(["help", "trail", "create"]) == 0
    assert capsys.readouterr().out.startswith("usage: opentrail trail create ")
    assert main(["help"]) == 0
    assert capsys.readouterr().out.startswith("usage: opentrail ")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["fly"], "opentrail has no command 'fly'; known are serve, "),
        (["trail", "fly"], "opentrail trail has no command 'fly'; known are list, "),
        (["status", "now"], "opentrail status has no command 'now'; it has no actions"),
    ],
)
def test_help_of_unknown_commands_names_known_ones(
    names: list[str], said: str, capsys: Capture
) -> None:
    assert main(["help", *names]) == 2
    assert said in capsys.readouterr().err


def test_the_version_is_shown(capsys: Capture) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"opentrail {__version__} (Python 3.")
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["opentrail"] == __version__


def script(shell: str, capsys: Capture) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def complete_in_bash(program: str, *words: str) -> set[str]:
    asked = " ".join(words)
    last, before = words[-1], words[-2]
    code = (
        f"{program}\nCOMP_WORDS=({asked}); COMP_CWORD={len(words) - 1}\n"
        f"_shtab_opentrail opentrail {last} {before}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_bash_completes_commands_actions_and_flags(capsys: Capture) -> None:
    program = script("bash", capsys)
    assert complete_in_bash(program, "opentrail", "ver") == {"version", "verify-store"}
    assert complete_in_bash(program, "opentrail", "trail", "st") == {"start", "stop"}
    assert {"--all-regions", "--all-accounts"} <= complete_in_bash(
        program, "opentrail", "lookup", "--all"
    )


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("serve", "--auth"), {"permissive", "verify", "enforced"}),
        (("serve", "--role"), {"all", "recorder", "worker", "query"}),
        (("sandbox", "--s3"), {"moto", "seaweedfs"}),
        (("sandbox", "--insights-preset"), {"balanced", "strict", "aws"}),
        (("users", "create", "--role"), {"viewer", "auditor", "operator", "admin"}),
    ],
)
def test_bash_completes_values_of_flags(
    words: tuple[str, ...], values: set[str], capsys: Capture
) -> None:
    program = script("bash", capsys)
    assert complete_in_bash(program, "opentrail", *words, "''") == values


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_their_script(shell: str, capsys: Capture, tmp_path: Path) -> None:
    program = script(shell, capsys)
    assert "verify-store" in program
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    file = tmp_path / "script"
    file.write_text(program)
    subprocess.run([shell, "-n", str(file)], check=True)


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


@pytest.mark.slow
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


def loaded_by(program: str) -> set[str]:
    """Returns the modules that a program has loaded at its end."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {program}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("arguments", [["version"], ["help"], ["help", "fly"], ["fly"]])
def test_only_the_typed_command_is_imported(arguments: list[str]) -> None:
    program = (
        "from contextlib import suppress; from opentrail.cli import main\n"
        f"with suppress(SystemExit): main({arguments})\n"
        "print()"
    )
    loaded = loaded_by(program)
    assert [name for name in loaded if name.startswith("opentrail.commands.")] == []
    assert "shtab" not in loaded


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("lookup", "lookup"),
        ("status", "status"),
        ("tail", "tail"),
        ("trail", "trail"),
        ("who", "asked"),
    ],
)
def test_a_command_for_a_server_imports_no_engine(name: str, module: str) -> None:
    loaded = loaded_by(f"from opentrail.cli import parser; parser({name!r})")
    assert f"opentrail.commands.{module}" in loaded
    assert "opentrail.commands.client" in loaded
    assert loaded.isdisjoint({"botocore", "duckdb", "numpy", "shtab", "sqlite3", "starlette"})
