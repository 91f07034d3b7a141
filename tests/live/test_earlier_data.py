"""Data of earlier versions opens whole; afterwards those versions refuse it."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from opentrail.core.version import DATA_VERSION
from tests.live.processes import (
    Opentrail,
    eventually,
    health,
    opentrail_server,
    run_opentrail,
)

pytestmark = [pytest.mark.live, pytest.mark.campaign]

DIRECTORIES = Path(__file__).parents[1] / "data" / "directories"
FLAGS = ("--upstream", "http://127.0.0.1:9", "--history-retention-days", "36500")
#: Commits of the data, and whether they had users' keys.
COMMITS = {
    "516ca8c5": False,
    **dict.fromkeys(("784fbbec", "4a8687fb", "00cde0e9", "880b6e9f"), True),
}
#: The commit whose data has an event data store.
WITH_STORE = "880b6e9f"
ROOT = Path(__file__).parents[2]


def test_every_directory_is_opened() -> None:
    assert {path.name.removesuffix(".tar.xz") for path in DIRECTORIES.iterdir()} == set(COMMITS)


@pytest.mark.parametrize("commit", COMMITS)
def test_earlier_data_opens_whole(tmp_path: Path, commit: str) -> None:
    folder = tmp_path / "data"
    with tarfile.open(DIRECTORIES / f"{commit}.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    for _ in range(2):  # the earlier version's data, then the data of the first start
        with opentrail_server(folder, *FLAGS) as server:
            state = eventually(
                lambda: (
                    (state := health(server))["journal"]["checked"]
                    and state["history"]["position"] >= 23
                    and state
                ),
                "all events",
            )
            assert [state[kind] for kind in ("dataProblems", "keyProblems", "missing")] == [[]] * 3
            users = {
                record["requestParameters"]["userName"]
                for record in server.records("eventName=CreateUser")
            }
            assert users == {f"u{number}" for number in range(20)}
            trails = server.boto("cloudtrail").describe_trails()["trailList"]
            assert [trail["Name"] for trail in trails] == ["mine"]
            keys = json.loads(server.opentrail("keys", "list", "--json").stdout)["AccessKeys"]
            owners = [key["Principal"].rpartition("/")[2] for key in keys]
            assert owners == ["ann"] * COMMITS[commit]
            if commit == WITH_STORE:
                assert counted(server) == ["2100", "2100"]
            assert server.stop() == 0
        assert run_opentrail("verify-store", "--data-dir", str(folder)).returncode == 0
    assert int((folder / "version").read_text()) == DATA_VERSION > 1


def counted(server: Opentrail) -> list[str]:
    """Returns the number of the store's events, and of their different ids."""
    statement = "SELECT count(*), count(DISTINCT eventID) FROM kept WHERE eventName = 'ListUsers'"
    return [*json.loads(server.opentrail("query", "--json", statement).stdout).values()]


def test_last_release_reads_or_refuses_data_of_today(tmp_path: Path) -> None:
    """It is built from its commit, because clones may have no tags."""
    release = re.findall(r"^## \[([\d.]+)\] - ", (ROOT / "CHANGELOG.md").read_text(), re.M)[0]
    git = ("git", "-C", str(ROOT))
    search = (*git, "log", "-1", "--format=%H", f"--grep=^release: cut {release}$")
    commit = subprocess.run(search, capture_output=True, text=True, check=True).stdout.strip()
    if not commit:
        pytest.skip("the history does not go back to the last release")
    archive = subprocess.run((*git, "archive", commit, "src"), capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
        packed.extractall(tmp_path / "release", filter="data")
    source = tmp_path / "release" / "src"
    text = (source / "opentrail/core/version.py").read_text()
    (version,) = re.findall(r"^DATA_VERSION = (\d+)$", text, re.M)
    with opentrail_server(tmp_path / "data", *FLAGS):
        pass
    command = (sys.executable, "-m", "opentrail", "serve", "--data-dir", tmp_path / "data", *FLAGS)
    ports = ("--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0")
    process = subprocess.Popen(
        (*command, *ports), env={**os.environ, "PYTHONPATH": str(source)}, stderr=subprocess.PIPE
    )
    try:
        if int(version) < DATA_VERSION:
            assert process.wait(60) == 4
        else:
            eventually((tmp_path / "data" / "server.json").exists, "the release has started")
    finally:
        process.kill()
        process.communicate()
