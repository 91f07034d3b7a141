"""Probes of real upstreams, and of an unused port."""

from __future__ import annotations

from pathlib import Path

import pytest

from opentrail.adapters.aws.probe import Probe
from opentrail.commands.sandbox import start_seaweedfs
from tests.live.ministack import ministack
from tests.live.processes import free_port, moto_server


def kind_of(url: str) -> str | None:
    kind, answer = Probe(url).kind()
    assert answer.failure is None
    return kind.name if kind else None


@pytest.mark.slow
def test_moto_is_recognized() -> None:
    with moto_server() as url:
        assert kind_of(url) == "moto"


@pytest.mark.slow
@pytest.mark.live
def test_ministack_is_distinguished_from_localstack() -> None:
    with ministack() as url:
        assert Probe(url).get("/_localstack/health").status == 200
        assert kind_of(url) == "MiniStack"


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.live
def test_seaweedfs_is_recognized(tmp_path: Path) -> None:
    seaweed = start_seaweedfs(tmp_path)
    try:
        assert kind_of(seaweed.url) == "SeaweedFS"
    finally:
        seaweed.stop()


def test_a_silent_upstream_has_no_kind() -> None:
    kind, answer = Probe(f"http://127.0.0.1:{free_port()}").kind()
    assert kind is None
    assert answer.failure == "Connection refused"
