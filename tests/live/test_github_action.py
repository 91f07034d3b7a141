"""The GitHub Actions in packaging/: bash runs their steps like a runner."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.processes import (
    BIN,
    TIMEOUT_SECONDS,
    clean_environment,
    eventually,
    free_port,
    moto_server,
    runs,
)

ACTIONS = Path(__file__).parent.parent.parent / "packaging" / "github-action"


class Runner:
    """Runs the shell steps of composite actions, with files for their variables."""

    def __init__(self, folder: Path) -> None:
        self.temp = folder
        self.variables = folder / "env"
        self.variables.touch()
        self.used: list[tuple[str, dict[str, str]]] = []

    def environment(self) -> dict[str, str]:
        """Returns the outputs and variables for later steps of the job."""
        pairs = dict(line.split("=", 1) for line in self.variables.read_text().splitlines())
        return clean_environment(
            PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}",
            RUNNER_TEMP=str(self.temp),
            GITHUB_ENV=str(self.variables),
            GITHUB_PATH=str(self.temp / "path"),
            **pairs,
        )

    def run(self, name: str, **inputs: str) -> None:
        """Runs an action; only records steps that use other actions."""
        action = yaml.safe_load((ACTIONS / name / "action.yml").read_text())
        given = {key: each.get("default") for key, each in action["inputs"].items()} | inputs
        assert None not in given.values(), "an input is required"
        for step in action["runs"]["steps"]:
            if step.get("if") == "inputs.package != ''" and not given["package"]:
                continue
            if "uses" in step:
                self.used.append((step["uses"], self._filled(step["with"], given)))
                continue
            assert step["shell"] == "bash"
            environment = self.environment() | self._filled(step.get("env", {}), given)
            script = self.temp / "step.sh"
            script.write_text(step["run"])
            command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
            subprocess.run(command, check=True, env=environment, timeout=TIMEOUT_SECONDS)

    def _filled(self, texts: dict[str, Any], given: dict[str, Any]) -> dict[str, str]:
        def fill(found: re.Match[str]) -> str:
            path = found[1]
            return str(self.temp) if path == "runner.temp" else str(given[path.split(".", 1)[1]])

        return {key: re.sub(r"\$\{\{ ([\w.-]+) \}\}", fill, text) for key, text in texts.items()}


@pytest.mark.slow
@pytest.mark.live
def test_a_jobs_calls_are_recorded_and_saved(tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    with moto_server() as url:
        ports = {"port": str(free_port()), "console-port": str(free_port())}
        runner.run("record", upstream=url, **ports)
        environment = runner.environment()
        pid = json.loads((tmp_path / "opentrail-data" / "server.json").read_text())["pid"]
        try:
            keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
            subprocess.run(
                [str(BIN / "aws"), "s3", "mb", "s3://reports"],
                check=True,
                env={**environment, **keys, "AWS_DEFAULT_REGION": "us-east-1"},
                timeout=TIMEOUT_SECONDS,
            )
            runner.run("save")
            eventually(lambda: not runs(pid), "the server has ended")
        finally:
            if runs(pid):
                os.kill(pid, 9)
    (used,) = runner.used
    assert used[0].startswith("actions/upload-artifact@")
    folder = Path(used[1]["path"])
    lines = [line for file in folder.glob("*.ndjson") for line in file.read_text().splitlines()]
    (record,) = map(json.loads, lines)
    assert record["eventName"] == "CreateBucket"
    assert record["userIdentity"]["arn"] == "arn:aws:iam::123456789012:user/moto"


@pytest.mark.slow
@pytest.mark.live
def test_failed_start_of_the_server_fails_the_step(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        Runner(tmp_path).run("record", upstream="not a URL")
