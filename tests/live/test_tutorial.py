"""The tutorial about tests: its files are written and its commands run, as a reader does."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.live.processes import BIN, TIMEOUT_SECONDS, clean_environment

TUTORIAL = Path(__file__).parent.parent.parent / "docs/tutorial/test-with-a-trail.md"


def blocks(text: str) -> list[tuple[str, str]]:
    """Returns language and content of each code block."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S)


def plain(text: str) -> list[str]:
    timeless = re.sub(r"in \d+\.\d+s( \(\d+:\d\d:\d\d\))?", "in SECONDS", text)
    return [line.rstrip() for line in timeless.strip().splitlines()]


@pytest.mark.campaign
@pytest.mark.live
def test_a_reader_sees_what_the_tutorial_shows(tmp_path: Path) -> None:
    environment = clean_environment(PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}", COLUMNS="80")
    for name in ("PYTEST_ADDOPTS", "CI", "BUILD_NUMBER"):  # they change what pytest prints
        environment.pop(name, None)
    commands = 0
    for language, content in blocks(TUTORIAL.read_text()):
        if language == "python":
            name, is_more = re.findall(r"\A# (\S+\.py)(, continued)?\n", content)[0]
            with (tmp_path / name).open("a" if is_more else "w") as file:
                file.write(content.partition("\n")[2])
        for part in re.split(r"^\$ ", content, flags=re.M)[1:] if language == "text" else ():
            command, _, shown = part.partition("\n")
            done = subprocess.run(
                command.split(),
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
            assert plain(done.stdout) == plain(shown), f"$ {command}\n{done.stdout}"
            commands += 1
    assert commands == 7
