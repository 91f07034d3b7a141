"""`opentrail doctor`: its findings and its repairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opentrail.adapters.sql.control_store import SqlControl
from opentrail.app.cluster.listed_stores import STORE_FILE
from opentrail.app.cluster.shared_files import to_list
from opentrail.cli import main
from opentrail.core.version import __version__
from opentrail.ports.event_store import SharedFile
from tests.commands.test_status import TRAIL, a_status
from tests.factories import MOMENT
from tests.fakes import run
from tests.stub_console import StubConsole
from tests.stub_upstream import StubUpstream

Capture = pytest.CaptureFixture[str]


def findings(capsys: Capture, *arguments: str, code: int) -> list[tuple[str, str, str]]:
    assert main(["doctor", "--json", *arguments]) == code
    found = json.loads(capsys.readouterr().out)["findings"]
    return [(one["level"], one["subject"], one["text"]) for one in found]


def healthy(**changes: Any) -> dict[str, Any]:
    return a_status(**{"version": __version__, "upstreams": {}, **changes})


@pytest.fixture
def folder(console: StubConsole) -> Path:
    console.data_dir.chmod(0o700)
    console.answers(healthy())
    return console.data_dir


@pytest.mark.usefixtures("empty_folder")
def test_without_a_data_directory_it_suggests_a_remedy(capsys: Capture) -> None:
    found = findings(capsys, code=1)
    assert [(level, subject) for level, subject, _ in found] == [
        ("problem", "data directory"),
        ("problem", "server"),
    ]
    assert "--data-dir DIR" in found[0][2]


def test_a_healthy_server_has_no_findings(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = json.loads((folder / "server.json").read_text())
    (folder / "server.json").write_text(json.dumps({**described, "endpoint": "http://e:1"}))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://e:1/")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found = findings(capsys, code=0)
    assert {level for level, subject, _ in found if subject != "aws-cli"} == {"ok"}
    assert ("ok", "environment", "AWS_ENDPOINT_URL is http://e:1/") in found


def test_open_permissions_are_mended(folder: Path, capsys: Capture) -> None:
    (folder / "keys").mkdir()
    (folder / "keys").chmod(0o755)
    key = folder / "keys" / "master.key"
    key.write_text("x")
    key.chmod(0o644)
    found = findings(capsys, code=1)
    assert [text for _, subject, text in found if subject == "permissions"] == [
        f"{folder / 'keys'} may be read by others (mode 755)".replace(f"{folder.parent}/", ""),
        f"{key} may be read by others (mode 644)".replace(f"{folder.parent}/", ""),
    ]
    assert main(["doctor"]) == 1
    assert "'opentrail doctor --fix' fixes what can be fixed" in capsys.readouterr().out
    fixed = findings(capsys, "--fix", code=0)
    assert all(text.startswith("fixed: ") for _, what, text in fixed if what == "permissions")
    assert key.stat().st_mode & 0o777 == 0o600
    assert findings(capsys, code=0)


def test_missing_files_of_stores_are_named(folder: Path, capsys: Capture) -> None:
    async def list_file(name: str) -> None:
        control = SqlControl.in_file(folder / "state.db")
        await control.apply([to_list(STORE_FILE, SharedFile(1, 9, name, MOMENT), "a/")])
        await control.close()

    run(list_file("stores/a/1.parquet"))
    found = findings(capsys, code=1)
    text = "stores/a/1.parquet is missing: restore it from a backup"
    assert ("problem", "event data stores", text) in found
    (folder / "stores" / "a").mkdir(parents=True)
    (folder / "stores" / "a" / "1.parquet").touch()
    assert "event data stores" not in {subject for _, subject, _ in findings(capsys, code=1)}


def test_leftovers_of_killed_processes_are_removed(folder: Path, capsys: Capture) -> None:
    described = json.loads((folder / "server.json").read_text())
    (folder / "server.json").write_text(json.dumps({**described, "pid": 999_999_999}))
    (folder / ".backup-999999999").mkdir()
    found = findings(capsys, code=1)
    assert [level for level, subject, _ in found if subject == "left over"] == [
        "problem",
        "warning",
    ]
    findings(capsys, "--fix", code=1)  # then there is no server
    assert not (folder / "server.json").exists()
    assert not (folder / ".backup-999999999").exists()


@pytest.mark.slow
def test_the_server_its_upstreams_and_trails_are_checked(
    folder: Path, console: StubConsole, capsys: Capture
) -> None:
    failing = {**TRAIL, "status": "Failing", "reason": "NoSuchBucket"}
    answer = b"HTTP/1.1 403 Forbidden\r\nServer: MinIO\r\nContent-Length: 0\r\n\r\n"
    with StubUpstream(answer=lambda _request: answer) as stub:
        url = stub.url
        console.answers(
            healthy(
                status="degraded",
                version="0.0.1",
                upstreams={"*": url, "s3": "http://127.0.0.1:1"},
                trails=[failing],
                lastProblem={"time": "2020-01-01T09:00:00", "message": "delivery failed"},
            )
        )
        found = findings(capsys, code=1)
    assert folder.is_dir()
    said = {f"{level} {subject}": text for level, subject, text in found}
    assert said["problem server"].endswith("is degraded; 'opentrail status' says why")
    assert "restart it" in said["warning version"]
    assert "delivery failed" in said["warning log"]
    assert said["ok upstream"].startswith(f"{url}  MinIO")
    assert said["problem upstream"].startswith("s3=http://127.0.0.1:1  nothing answers yet")
    assert said["problem trail"] == "my-trail: NoSuchBucket"


@pytest.mark.parametrize(
    ("given", "finding"),
    [
        ({}, "AWS_ENDPOINT_URL is not set here: export AWS_ENDPOINT_URL=http://e:1"),
        (
            {"AWS_ENDPOINT_URL": "http://other:1"},
            "AWS_ENDPOINT_URL is http://other:1, which is not this server: http://e:1",
        ),
        (
            {"AWS_ENDPOINT_URL": "http://e:1", "HTTP_PROXY": "http://proxy:3128"},
            "calls of http://e:1 go to a proxy: export NO_PROXY=e",
        ),
    ],
)
def test_the_terminals_settings_are_checked(
    folder: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    finding: str,
) -> None:
    described = json.loads((folder / "server.json").read_text())
    (folder / "server.json").write_text(json.dumps({**described, "endpoint": "http://e:1"}))
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert main(["doctor"]) in (0, 1)
    assert finding in capsys.readouterr().out
