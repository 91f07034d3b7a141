"""Secrets in bodies of more than 1 MiB, while their call is in progress (guarantee S4)."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.capture.proxy.wires import Wire, ok, scripted
from tests.capture.test_secrets import canary
from tests.factories import an_sdk_request
from tests.live.processes import TIMEOUT_SECONDS, Opentrail, eventually, files_in

pytestmark = pytest.mark.live

SKIPPED = {"content-length", "host", "transfer-encoding", "expect"}
BODY_BYTES = 2 * 1024 * 1024


@pytest.mark.parametrize("recorders", ["1", "2"])
def test_no_file_has_the_secrets_of_a_large_body(tmp_path: Path, recorders: str) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    searched = threading.Event()
    secrets = [canary(number).encode() for number in (1, 2)]
    answer = json.dumps({"Name": "n", "SecretString": canary(2) * (BODY_BYTES // 10)})

    def answering(wire: Wire) -> None:
        wire.request()
        whole = ok(answer.encode(), "Content-Type: application/x-amz-json-1.1")
        wire.send(whole[:-1])
        assert searched.wait(TIMEOUT_SECONDS)
        wire.send(whole[-1:])

    with scripted(answering) as upstream:
        server = Opentrail(tmp_path / "data", "--upstream", upstream.url, "--recorders", recorders)
        try:
            server.start(TMPDIR=str(temporary))
            request = an_sdk_request(
                "secretsmanager",
                "CreateSecret",
                {"Name": "n", "SecretString": canary(1) * (BODY_BYTES // 10)},
            )
            wire = Wire.to(server.url)
            head = [f"{request.method} {request.path} HTTP/1.1", "Host: 127.0.0.1"]
            head += [f"{k}: {v}" for k, v in request.headers.items() if k.lower() not in SKIPPED]
            head += [f"Content-Length: {len(request.body)}", "", ""]
            wire.send("\r\n".join(head).encode() + request.body)
            eventually(lambda: len(spilled(server)) == 2, "both bodies are in temporary files")
            files = contents(server, tmp_path)
            searched.set()
            assert wire.answer()[0] == 200
            files |= contents(server, tmp_path)
        finally:
            searched.set()
            server.close()
    assert len(files) > 2
    assert not [file for file, content in files.items() if any(s in content for s in secrets)]


def contents(server: Opentrail, folder: Path) -> dict[str, bytes]:
    """Returns the content of all open files, and of the files in a folder."""
    stored = {str(file): content for file, content in files_in(folder).items()}
    return {**server.open_files(), **stored}


def spilled(server: Opentrail) -> list[str]:
    """Returns the temporary files with large bodies."""
    return [
        file
        for file, content in server.open_files().items()
        if file.endswith("(deleted)") and len(content) > BODY_BYTES // 2
    ]
