"""The programs in the docs on SDKs and in-process recording do their documented work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET
from tests.live.processes import (
    TIMEOUT_SECONDS,
    Opentrail,
    clean_environment,
    opentrail_server,
)

HOWTOS = Path(__file__).parent.parent.parent / "docs/howto"

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    folder = tmp_path_factory.mktemp("sdks")
    with opentrail_server(folder / "opentrail-data", command="sandbox") as running:
        running.boto("iam").create_user(UserName="Quinn")
        yield running


def programs(page: str, language: str) -> list[str]:
    """Returns the programs on a page."""
    text = (HOWTOS / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def run(command: list[str], server: Opentrail, folder: Path) -> str:
    """Runs a program with the variables of the page."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=clean_environment(
            AWS_ENDPOINT_URL=server.url,
            AWS_REGION="us-east-1",
            AWS_DEFAULT_REGION="us-east-1",
            AWS_ACCESS_KEY_ID=ADMIN_KEY_ID,
            AWS_SECRET_ACCESS_KEY=ADMIN_SECRET,
            AWS_CONFIG_FILE=os.devnull,
        ),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_boto3_calls_the_endpoint(server: Opentrail, tmp_path: Path) -> None:
    [program] = programs("set-up-sdks.md", "python")
    (tmp_path / "call.py").write_text(program)
    assert run([sys.executable, "call.py"], server, tmp_path) == "['Quinn']\n"
    newest = server.records()[0]
    assert (newest["eventName"], newest["userAgent"][:5]) == ("ListUsers", "Boto3")


def test_the_sdk_for_javascript_calls_the_endpoint(server: Opentrail, tmp_path: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node is missing")
    [program] = programs("set-up-sdks.md", "js")
    (tmp_path / "call.mjs").write_text(program)
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
    done = subprocess.run(
        [*install, "@aws-sdk/client-iam@3"],
        cwd=tmp_path,
        capture_output=True,
        timeout=TIMEOUT_SECONDS * 3,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("npm cannot install the SDK")
    assert run([node, "call.mjs"], server, tmp_path) == "[ 'Quinn' ]\n"
    newest = server.records()[0]
    assert (newest["eventName"], newest["userAgent"][:10]) == ("ListUsers", "aws-sdk-js")


def test_the_hook_and_the_middleware_find_the_server(server: Opentrail) -> None:
    hook, middleware = programs("record-from-within.md", "python")
    folder = server.data_dir.parent
    run([sys.executable, "-c", hook], server, folder)
    # The endpoint also records the call.
    names = [record["eventName"] for record in server.records()[:2]]
    assert names == ["GetCallerIdentity"] * 2
    run([sys.executable, "-c", f"app = application = print\n{middleware}"], server, folder)
