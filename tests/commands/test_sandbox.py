"""The sandbox's moto: a child that never outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import boto3
import pytest

from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET, MotoChild, start_moto
from opentrail.core.identity import DEFAULT_ACCOUNT, account_of_key
from tests.fakes import TIMEOUT_SECONDS
from tests.live.processes import runs

PARENT = """
import sys
from opentrail.commands.sandbox import start_moto
child = start_moto()
print(child.process.pid, child.url, flush=True)
sys.stdin.read()
"""


def soon(condition: Callable[[], bool]) -> bool:
    """Waits for the end of a process that is not our child, of which there is no event."""
    ends = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(0.01)
    return True


def answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/moto-api/", timeout=TIMEOUT_SECONDS):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False


@pytest.fixture
def moto() -> Iterator[MotoChild]:
    child = start_moto()
    yield child
    child.stop()


def test_the_admin_key_encodes_the_sandboxs_account() -> None:
    assert account_of_key(ADMIN_KEY_ID) == DEFAULT_ACCOUNT
    assert ADMIN_KEY_ID.startswith("AKIA")
    assert len(ADMIN_KEY_ID) == 20


@pytest.mark.live
def test_moto_answers_on_a_free_port_of_this_machine_alone(moto: MotoChild) -> None:
    assert moto.url.startswith("http://127.0.0.1:")
    session = boto3.session.Session(ADMIN_KEY_ID, ADMIN_SECRET, region_name="us-east-1")
    sts = session.client("sts", endpoint_url=moto.url)
    assert sts.get_caller_identity()["Account"] == DEFAULT_ACCOUNT


@pytest.mark.live
def test_two_motos_do_not_get_in_each_others_way(moto: MotoChild) -> None:
    other = start_moto()
    assert other.url != moto.url
    other.stop()
    assert answers(moto.url)


@pytest.mark.live
def test_stopping_ends_it_and_stopping_again_is_harmless(moto: MotoChild) -> None:
    assert runs(moto.process.pid)
    moto.stop()
    assert moto.process.returncode is not None
    assert not answers(moto.url)
    moto.stop()


@pytest.mark.live
def test_it_ends_when_its_standard_input_ends(moto: MotoChild) -> None:
    assert moto.process.stdin is not None
    moto.process.stdin.close()
    assert moto.process.wait(TIMEOUT_SECONDS) == 0


@pytest.mark.live
@pytest.mark.anomaly
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_when_its_parent_is_killed(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        process_id, url = parent.stdout.readline().split()
        assert answers(url)
        parent.send_signal(number)
        parent.wait(TIMEOUT_SECONDS)
    assert soon(lambda: not runs(int(process_id)))
    assert not answers(url)


@pytest.mark.live
def test_it_does_not_take_its_own_calls_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """An AWS_ENDPOINT_URL that points at opentrail must not make moto call us."""
    monkeypatch.setitem(os.environ, "AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    child = start_moto()
    session = boto3.session.Session(ADMIN_KEY_ID, ADMIN_SECRET, region_name="us-east-1")
    s3 = session.client("s3", endpoint_url=child.url)
    s3.create_bucket(Bucket="my-bucket")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["my-bucket"]
    child.stop()
