"""The sandbox's moto and SeaweedFS: children that never outlive us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from opentrail.commands.sandbox import (
    ADMIN_KEY_ID,
    ADMIN_SECRET,
    BuiltInUpstream,
    start_moto,
    start_seaweedfs,
)
from opentrail.core.identity import DEFAULT_ACCOUNT, account_of_key
from tests.fakes import TIMEOUT_SECONDS
from tests.live.processes import of_process, runs

PARENT = """
import sys
from opentrail.commands.sandbox import start_moto
child = start_moto()
print(child.process.pid, child.url, flush=True)
sys.stdin.read()
"""
PARENT_OF_SEAWEEDFS = """
import sys
from pathlib import Path
from opentrail.commands.sandbox import start_seaweedfs
print(start_seaweedfs(Path(sys.argv[1])).url, flush=True)
sys.stdin.read()
"""


def soon(condition: Callable[[], bool]) -> bool:
    """Waits for the end of a process that is not our child, so without an event."""
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
def moto() -> Iterator[BuiltInUpstream]:
    child = start_moto()
    yield child
    child.stop()


def test_the_admin_key_encodes_the_sandboxs_account() -> None:
    assert account_of_key(ADMIN_KEY_ID) == DEFAULT_ACCOUNT
    assert ADMIN_KEY_ID.startswith("AKIA")
    assert len(ADMIN_KEY_ID) == 20


@pytest.mark.live
def test_moto_answers_only_on_this_machine(moto: BuiltInUpstream) -> None:
    assert moto.url.startswith("http://127.0.0.1:")
    session = boto3.session.Session(ADMIN_KEY_ID, ADMIN_SECRET, region_name="us-east-1")
    sts = session.client("sts", endpoint_url=moto.url)
    assert sts.get_caller_identity()["Account"] == DEFAULT_ACCOUNT


@pytest.mark.live
def test_two_motos_do_not_interfere(moto: BuiltInUpstream) -> None:
    other = start_moto()
    assert other.url != moto.url
    other.stop()
    assert answers(moto.url)


@pytest.mark.live
def test_stopping_ends_it_and_stopping_again_is_harmless(moto: BuiltInUpstream) -> None:
    assert runs(moto.process.pid)
    moto.stop()
    assert moto.process.returncode is not None
    assert not answers(moto.url)
    moto.stop()


@pytest.mark.live
def test_it_ends_when_its_standard_input_ends(moto: BuiltInUpstream) -> None:
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


def processes_with(argument: str) -> list[int]:
    """Returns the ids of the processes with this in their command line."""
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if argument.encode() in of_process(Path(f"/proc/{pid}/cmdline"))]


@pytest.mark.campaign
@pytest.mark.live
@pytest.mark.anomaly
def test_seaweedfs_and_its_watcher_end_with_their_parent(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    with subprocess.Popen(
        [sys.executable, "-c", PARENT_OF_SEAWEEDFS, store],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith(b"http://127.0.0.1:")
        assert len(processes_with(f"-dir={store}")) == 2
        parent.kill()
    assert soon(lambda: not processes_with(f"-dir={store}"))


@pytest.mark.campaign
@pytest.mark.live
def test_a_stopped_seaweedfs_leaves_no_process(tmp_path: Path) -> None:
    store = start_seaweedfs(tmp_path / "store")
    assert processes_with(f"-dir={tmp_path}")
    store.stop()
    assert store.process.returncode is not None
    assert soon(lambda: not processes_with(f"-dir={tmp_path}"))
    store.stop()


@pytest.mark.live
def test_it_distinguishes_its_own_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """An AWS_ENDPOINT_URL that points at opentrail must not make moto call us."""
    monkeypatch.setitem(os.environ, "AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    child = start_moto()
    session = boto3.session.Session(ADMIN_KEY_ID, ADMIN_SECRET, region_name="us-east-1")
    s3 = session.client("s3", endpoint_url=child.url)
    s3.create_bucket(Bucket="my-bucket")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["my-bucket"]
    child.stop()
