"""Importing into a real server: a user's steps, and a kill."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.factories import a_record, an_iam_user, event_id
from tests.live.processes import Opentrail, clean_environment, opentrail_server

pytestmark = pytest.mark.live

NOBODY = "http://127.0.0.1:9"


def write_log(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps({"Records": records}).encode()))


def test_who_answers_from_an_imported_file(tmp_path: Path) -> None:
    record = a_record(
        eventTime="2020-01-01T09:00:00Z",
        userIdentity=an_iam_user("John"),
        userAgent="console.amazonaws.com",
    )
    write_log(tmp_path / "logs" / "2020" / "one.json.gz", [record])
    with opentrail_server(tmp_path / "data", "--upstream", NOBODY) as server:
        done = server.opentrail("import", str(tmp_path / "logs"))
        assert done.returncode == 0, done.stderr
        assert "1 line = 1 imported + 0 doubled + 0 rejected" in done.stdout
        text = server.opentrail("who", "Mary").stdout
        assert text.startswith(
            "On January 1, 2020 at 9:00 AM UTC, IAM user John created IAM user Mary"
            " through the AWS Management Console"
        )


def some_files(folder: Path, files: int, records: int) -> set[str]:
    """Writes log files; two of them share a tenth of the records."""
    ids = set()
    for number in range(files):
        first = number * records - (records // 10 if number else 0)
        batch = [
            a_record(eventID=event_id(n), requestParameters={"userName": f"user-{n}"})
            for n in range(first, (number + 1) * records)
        ]
        ids |= {record["eventID"] for record in batch}
        write_log(folder / f"{number:04d}.json.gz", batch)
    return ids


def imported_ids(server: Opentrail) -> Counter[str]:
    return Counter(record["eventID"] for record in server.records())


def test_importing_twice_is_importing_once(tmp_path: Path) -> None:
    ids = some_files(tmp_path / "logs", 6, 200)
    with opentrail_server(tmp_path / "data", "--upstream", NOBODY) as server:
        first, again = (
            json.loads(server.opentrail("import", str(tmp_path / "logs"), "--json").stdout)
            for _ in range(2)
        )
        assert first["imported"] == again["doubled"] - first["doubled"] == len(ids) == 1_200
        assert again["imported"] == 0
        assert (first["doubled"], first["known"], again["known"]) == (100, 0, 6)
        renamed = tmp_path / "others"
        renamed.mkdir()
        for number, path in enumerate(sorted((tmp_path / "logs").iterdir())):
            content = gzip.decompress(path.read_bytes())
            (renamed / f"{number}.json").write_bytes(content)  # unpacked: other bytes
        third = json.loads(server.opentrail("import", str(renamed), "--json").stdout)
        assert (third["imported"], third["doubled"], third["known"]) == (0, 1_300, 0)
        assert imported_ids(server) == Counter(ids)


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.anomaly
def test_import_killed_at_six_moments_resumes(tmp_path: Path) -> None:
    """Five random moments, and one between a durable batch and its answer."""
    ids = some_files(tmp_path / "logs", 60, 150)
    chance = random.Random(20200101)
    server = Opentrail(tmp_path / "data", "--upstream", NOBODY)
    # Batches of one file, so that there are many moments between them.
    importing = (
        "import sys; from opentrail.commands import import_files; import_files.MAX_FILES = 4;"
        "from opentrail.cli import main; sys.exit(main())"
    )
    try:
        for kill in range(6):
            point = {"OPENTRAIL_CRASH_AT": f"import.written:{chance.randint(1, 3)}"}
            server.start(**(point if kill == 5 else {}))
            command = subprocess.Popen(
                [
                    *(sys.executable, "-c", importing, "import", str(tmp_path / "logs")),
                    *("--data-dir", str(server.data_dir)),
                ],
                env=clean_environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if kill < 5:
                assert server.process is not None
                threading.Timer(chance.uniform(0.2, 1.5), server.process.kill).start()
            assert server.wait() == -9
            command.kill()
            command.wait()
        server.start()
        before = imported_ids(server)
        assert not before or max(before.values()) == 1
        done = server.opentrail("import", str(tmp_path / "logs"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert imported_ids(server) == Counter(ids)
        assert server.stop() == 0
        server.start()
        assert imported_ids(server) == Counter(ids)
    finally:
        server.close()
