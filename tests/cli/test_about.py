"""Help, version and completion."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from opentrail.cli import main
from opentrail.version import __version__

Capture = pytest.CaptureFixture[str]


def test_help_is_that_of_the_command(capsys: Capture) -> None:
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
def test_help_of_an_unknown_command_names_those_that_there_are(
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


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_their_script(shell: str, capsys: Capture, tmp_path: Path) -> None:
    program = script(shell, capsys)
    assert "verify-store" in program
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    file = tmp_path / "script"
    file.write_text(program)
    subprocess.run([shell, "-n", str(file)], check=True)


def test_the_library_for_scripts_is_loaded_only_then() -> None:
    program = "import sys; from opentrail.cli.parser import parser; parser();"
    subprocess.run(
        [sys.executable, "-c", f"{program} assert 'shtab' not in sys.modules"], check=True
    )
