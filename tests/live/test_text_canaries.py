"""Secrets in strings, sent to a real server, reach no file, metric, state or log."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.capture.proxy.wires import Wire, scripted
from tests.capture.text_canaries import TextCase, canary, cases
from tests.live.processes import Opentrail, files_in, opentrail_server
from tests.live.test_canaries import raw

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]


def sent() -> list[tuple[int, TextCase]]:
    """Returns one in four cases with its number."""
    return list(enumerate(cases()))[::4]


def answering(wire: Wire) -> None:
    while True:
        head, _ = wire.request()
        response = cases()[int(re.search(rb"X-Case: (\d+)", head)[1])].response  # type: ignore[index]
        lines = (b"HTTP/1.1 %d -" % response.status, b"Content-Length: %d" % len(response.body))
        wire.send(b"\r\n".join((*lines, b"", response.body)))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    folder: Path = tmp_path_factory.mktemp("texts")
    with (
        scripted(answering) as upstream,
        opentrail_server(folder / "data", "--upstream", upstream.url) as running,
    ):
        for number, case in sent():
            wire = Wire.to(running.url).send(raw(case.request, number))
            wire.answer()
            wire.close()
        yield running


def found_in(content: bytes) -> list[str]:
    return [case.text for number, case in sent() if canary(number).encode() in content]


def test_no_canary_leaves_server(server: Opentrail) -> None:
    everything = ("--all-accounts", "--all-regions", "--all-categories", "--limit", "10000")
    records = server.opentrail("lookup", *everything, "--json").stdout
    assert len(records.splitlines()) >= len(sent()) >= 1_500
    assert len({json.loads(record)["eventName"] for record in records.splitlines()}) >= 12
    assert found_in(records.encode()) == []
    state = json.loads((server.data_dir / "server.json").read_text())
    for page in ("metrics", "health"):
        with urllib.request.urlopen(f"{state['console']}/{page}", timeout=60) as answer:  # noqa: S310
            assert found_in(answer.read()) == []
    assert server.stop() == 0
    assert found_in(server.output.encode()) == []
    for file, content in files_in(server.data_dir).items():
        assert found_in(content) == [], file
