"""The tutorial about tests: writes its files and runs its commands."""

from __future__ import annotations

import os
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.live.processes import BIN, TIMEOUT_SECONDS, clean_environment, moto_server

DOCS = Path(__file__).parent.parent.parent / "docs"
TUTORIAL = DOCS / "tutorial/test-with-a-trail.md"
CONTAINERS = DOCS / "howto/testcontainers-cdk-sam.md"
#: The server at MOTO replaces moto's container: there may be no container engine.
TESTCONTAINERS = """
import os
from urllib.parse import urlsplit


class HttpWaitStrategy:
    def __init__(self, port, path):
        pass


class DockerContainer:
    def __init__(self, image):
        self.address = urlsplit(os.environ["MOTO"])

    def with_exposed_ports(self, port):
        return self

    def waiting_for(self, strategy):
        return self

    def get_container_host_ip(self):
        return self.address.hostname

    def get_exposed_port(self, port):
        return self.address.port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass
"""


def blocks(text: str) -> list[tuple[str, str]]:
    """Returns language and content of each code block."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S)


def plain(text: str) -> list[str]:
    timeless = re.sub(r"in \d+\.\d+s( \(\d+:\d\d:\d\d\))?", "in SECONDS", text)
    return [line.rstrip() for line in timeless.strip().splitlines()]


@pytest.mark.campaign
@pytest.mark.live
def test_the_tutorial_prints_its_documented_output(tmp_path: Path) -> None:
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


@pytest.mark.campaign
@pytest.mark.live
def test_calls_are_recorded_in_front_of_a_container(tmp_path: Path) -> None:
    for language, content in blocks(CONTAINERS.read_text()):
        if language == "python":
            (tmp_path / content.split()[1]).write_text(content)
    core = tmp_path / "testcontainers" / "core"
    core.mkdir(parents=True)
    (core / "container.py").write_text(TESTCONTAINERS)
    (core / "wait_strategies.py").write_text(TESTCONTAINERS)
    with moto_server() as moto:
        done = subprocess.run(
            [BIN / "python", "-m", "pytest", "-q"],
            cwd=tmp_path,
            env=clean_environment(MOTO=moto),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        assert "1 passed" in done.stdout, done.stdout + done.stderr
        with urllib.request.urlopen(f"{moto}/moto-api/data.json") as answer:  # noqa: S310
            assert "reports" in answer.read().decode(), "the call reached the container's address"
