"""The systemd unit: systemd's own checks, and a server under its limits."""

from __future__ import annotations

import ctypes.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from opentrail.setting_sources import load
from tests.live.processes import Opentrail, eventually
from tests.live.sources import ROOT

pytestmark = pytest.mark.live

UNIT = ROOT / "packaging/opentrail.service"
#: The upper limit of "OK" in `systemd-analyze security` is 5.0; this is in tenths.
_EXPOSURE = "15"


def _require_seccomp() -> None:
    if ctypes.util.find_library("seccomp") is None:
        pytest.skip("libseccomp is not installed")


@pytest.fixture(autouse=True)
def _systemd() -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")


def _analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_unit_is_valid_and_little_exposed(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/opentrail/bin/opentrail", sys.executable))
    assert _analyze("verify", "--man=no", str(unit)) == ""
    _analyze("security", "--offline=true", f"--threshold={_EXPOSURE}", str(unit))


#: The command prefix that applies the limits.
CONFINED = (sys.executable, str(Path(__file__).with_name("confined.py")), str(UNIT))
_WRITABLE_CODE = "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)"
_TRACE = "import ctypes, sys; sys.exit(-ctypes.CDLL(None).ptrace(0, 0, 0, 0))"


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.parametrize("forbidden", [_WRITABLE_CODE, _TRACE])
def test_the_limits_are_in_force(forbidden: str) -> None:
    _require_seccomp()
    for prefix, is_allowed in (((), True), (CONFINED, False)):
        command = [*prefix, sys.executable, "-c", forbidden]
        done = subprocess.run(command, capture_output=True, check=False)
        assert (done.returncode == 0) == is_allowed, done.stderr


@pytest.mark.campaign
@pytest.mark.slow
def test_server_works_under_the_limits_of_the_unit(tmp_path: Path) -> None:
    _require_seccomp()
    server = Opentrail(tmp_path / "data", command="sandbox")
    server.prefix = CONFINED
    try:
        server.start()
        server.boto("iam").create_user(UserName="Mary")
        server.boto("s3").create_bucket(Bucket="evidence")
        assert "created IAM user Mary" in server.opentrail("who", "Mary").stdout
        eventually(lambda: server.opentrail("status").returncode == 0, "status: ok")
        assert server.stop() == 0
    finally:
        server.close()
    assert "Operation not permitted" not in server.output


def test_the_example_of_settings_is_valid() -> None:
    settings = load({}, {}, ROOT / "packaging/opentrail.toml")
    assert settings.upstream == {"": "http://127.0.0.1:5000"}
