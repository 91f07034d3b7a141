"""Data of earlier versions opens whole; afterwards those versions refuse it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from opentrail.core.version import DATA_VERSION
from tests.live.processes import eventually, health, opentrail_server, run_opentrail

pytestmark = [pytest.mark.live, pytest.mark.campaign]

DIRECTORIES = Path(__file__).parents[1] / "data" / "directories"
FLAGS = ("--upstream", "http://127.0.0.1:9", "--history-retention-days", "36500")
#: Commits of the data, and whether they had users' keys.
COMMITS = {"516ca8c5": False, "784fbbec": True, "4a8687fb": True, "00cde0e9": True}


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
            assert server.stop() == 0
        assert run_opentrail("verify-store", "--data-dir", str(folder)).returncode == 0
    assert int((folder / "version").read_text()) == DATA_VERSION > 1
