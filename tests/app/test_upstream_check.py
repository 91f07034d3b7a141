"""The messages about each upstream at start."""

from __future__ import annotations

import dataclasses

import pytest

from opentrail.adapters.aws.probe import AWS, KINDS
from opentrail.app.upstreams import UpstreamCheck
from opentrail.settings import Settings, UpstreamAccess
from tests.live.processes import free_port, moto_server
from tests.stub_upstream import StubUpstream

_MOTO = next(kind for kind in KINDS if kind.name == "moto").signatures


def line(url: str, **changes: object) -> str:
    settings = dataclasses.replace(Settings(upstream={"": url}), **changes)  # type: ignore[arg-type]
    (only,) = UpstreamCheck(settings).lines()
    assert only.startswith(f"{url}  ")
    return only.removeprefix(f"{url}  ")


@pytest.mark.slow
def test_each_service_has_its_line() -> None:
    with moto_server() as url:
        settings = Settings(upstream={"s3": url, "": url})
        meaning = f"moto; {_MOTO}"
        assert UpstreamCheck(settings).lines() == [f"{url}  {meaning}", f"s3={url}  {meaning}"]


@pytest.mark.slow
def test_unknown_servers_are_only_reported_to_answer() -> None:
    answer = b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n"
    with StubUpstream(answer=lambda _request: answer) as stub:
        assert line(stub.url) == "answers (nginx)"


def test_aws_is_known_by_name_without_requests() -> None:
    url = "https://s3.eu-west-1.amazonaws.com"
    assert line(url) == f"AWS; {AWS.signatures}"
    access = {"": UpstreamAccess("AKIA", "secret", resign=True)}
    assert line(url, access=access) == "AWS; calls are signed again for it"


def test_a_silent_upstream_is_no_error() -> None:
    said = line(f"http://127.0.0.1:{free_port()}")
    assert said == "nothing answers yet (Connection refused); until then calls get 502"
