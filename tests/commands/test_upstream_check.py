"""What answers behind an upstream, and what that means."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from opentrail.commands.sandbox import start_moto, start_seaweedfs
from opentrail.commands.upstream_check import MEANINGS, UpstreamCheck
from opentrail.settings import Settings, UpstreamAccess
from tests.live.processes import free_port


@contextmanager
def answering(paths: dict[str, str], **headers: str) -> Iterator[str]:
    """Runs a server that answers these paths with text, and all others with 404."""

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = headers.pop("server", "x"), ""

        def do_GET(self) -> None:
            body = paths.get(self.path)
            self.send_response(404 if body is None else 200)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, *_: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def line(url: str, **changes: object) -> str:
    settings = dataclasses.replace(Settings(upstream={"": url}), **changes)  # type: ignore[arg-type]
    (only,) = UpstreamCheck(settings).lines()
    assert only.startswith(f"{url}  ")
    return only.removeprefix(f"{url}  ")


@pytest.mark.slow
def test_moto_is_recognized() -> None:
    moto = start_moto()
    try:
        assert line(moto.url) == f"moto; {MEANINGS['moto']}"
    finally:
        moto.stop()


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.live
def test_seaweedfs_is_recognized(tmp_path: Path) -> None:
    seaweed = start_seaweedfs(tmp_path)
    try:
        assert line(seaweed.url) == f"SeaweedFS; {MEANINGS['SeaweedFS']}"
    finally:
        seaweed.stop()


@pytest.mark.parametrize(
    ("name", "paths", "headers"),
    [
        ("Ceph", {}, {"server": "Ceph Object Gateway (squid)"}),
        ("Ceph", {"/": "<x/>"}, {"x_amz_request_id": "tx000001-00659-1-default"}),
        ("MinIO", {}, {"server": "MinIO"}),
        ("LocalStack", {"/_localstack/health": json.dumps({"services": {"s3": "running"}})}, {}),
    ],
)
@pytest.mark.slow
def test_others_are_recognized_by_their_answers(
    name: str, paths: dict[str, str], headers: dict[str, str]
) -> None:
    with answering(paths, **headers) as url:
        assert line(url) == f"{name}; {MEANINGS[name]}"


@pytest.mark.parametrize("health", ["[]", "text", "{}"])
@pytest.mark.slow
def test_what_is_not_known_is_only_said_to_answer(health: str) -> None:
    with answering({"/_localstack/health": health}, server="nginx") as url:
        assert line(url).startswith("answers (nginx")


def test_aws_is_known_by_its_name_and_not_asked() -> None:
    url = "https://s3.eu-west-1.amazonaws.com"
    assert "resign = true" in line(url)
    access = {"": UpstreamAccess("AKIA", "secret", resign=True)}
    assert line(url, access=access) == "AWS; calls are signed again for it"


def test_an_upstream_that_does_not_answer_is_no_error() -> None:
    said = line(f"http://127.0.0.1:{free_port()}")
    assert said == "nothing answers yet (Connection refused); until then calls get 502"


@pytest.mark.slow
def test_each_service_has_its_line() -> None:
    with answering({}, server="MinIO") as url:
        settings = Settings(upstream={"s3": url, "": url})
        meaning = f"MinIO; {MEANINGS['MinIO']}"
        assert UpstreamCheck(settings).lines() == [f"{url}  {meaning}", f"s3={url}  {meaning}"]
