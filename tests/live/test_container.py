"""The image of the Containerfile, built from a minimal Debian, and run as documented there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET, start_moto
from tests.live.processes import eventually
from tests.live.sources import copy_of_source

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

_SECONDS = 900
_CODENAME = "bookworm"
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


class Buildah:
    """Debian's buildah with separate storage, which builds and runs without a daemon."""

    def __init__(self, folder: Path) -> None:
        storage = ("--root", f"{folder}/root", "--runroot", f"{folder}/run")
        self._command = ("buildah", *storage, "--storage-driver", "vfs")

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command, *arguments],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def inside(self, container: str, *command: str) -> str:
        """Returns the output of a command, from files: buildah may lose the end of its output."""
        command = ("sh", "-c", '"$@" >/tmp/stdout 2>/tmp/stderr', "sh", *command)
        folder = Path(self.run("mount", container)) / "tmp"
        try:
            self.run("run", "--isolation", "chroot", container, "--", *command)
        except AssertionError:
            said = [(folder / name).read_text() for name in ("stdout", "stderr")]
            raise AssertionError("".join(said)) from None
        return (folder / "stdout").read_text().strip()

    def start(self, container: str, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._command, "run", "--isolation", "chroot", container, "--", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _make_base(buildah: Buildah) -> None:
    """Makes an image with Python and this machine's settings for package registries."""
    # This fails early where no image can be made; making a root takes a minute.
    buildah.run("commit", "--quiet", "--rm", buildah.run("from", "scratch"), "localhost/empty")
    container = buildah.run("from", "scratch")
    root = Path(buildah.run("mount", container))
    include = "--include=ca-certificates,python3-venv,python-is-python3"
    debootstrap = ["debootstrap", "--variant=minbase", include, _CODENAME, str(root)]
    done = subprocess.run(debootstrap, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"debootstrap cannot make a root here: {done.stdout[-500:]}")
    if _AUTHORITIES.is_file():
        shutil.copy(_AUTHORITIES, root / _AUTHORITIES.relative_to("/"))
    for file in (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf"):
        if file.is_file():
            shutil.copy(file, root / "etc/pip.conf")
    if (Path.home() / ".npmrc").is_file():
        shutil.copy(Path.home() / ".npmrc", root / "root/.npmrc")
    settings = ("PIP_", "NODE_EXTRA_CA_CERTS", "npm_config_", "SSL_CERT_FILE")
    for name, value in os.environ.items():
        if name.startswith(settings) and name != "PIP_FIND_LINKS":
            buildah.run("config", "--env", f"{name}={value}", container)
    buildah.run("umount", container)
    buildah.run("commit", "--quiet", "--rm", container, "localhost/python")


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """A buildah with the image `opentrail`."""
    missing = [each for each in ("buildah", "debootstrap") if not shutil.which(each)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root, buildah and debootstrap; missing: {missing or 'root'}")
    folder = tmp_path_factory.mktemp("buildah")
    buildah = Buildah(folder)
    try:
        _make_base(buildah)
    except AssertionError as error:  # before anything of opentrail
        pytest.skip(f"buildah cannot make an image here: {error}")
    source = copy_of_source(folder / "source")
    base = "PYTHON_IMAGE=localhost/python"
    build = ("build", "--isolation", "chroot", "--format", "docker", "--build-arg", base)
    buildah.run(*build, "--tag", "opentrail", str(source))
    yield buildah
    shutil.rmtree(folder / "root")


def test_the_image_describes_its_command(buildah: Buildah) -> None:
    config: Any = json.loads(buildah.run("inspect", "--type", "image", "opentrail"))["Docker"][
        "config"
    ]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["opentrail"]
    assert set(config["ExposedPorts"]) == {"4747/tcp", "4748/tcp"}
    assert set(config["Volumes"]) == {"/data"}
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "/opt/opentrail/health.py"]


def test_a_container_records_calls_without_root(buildah: Buildah) -> None:
    container = buildah.run("from", "opentrail")
    listeners = ("--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0")
    moto = start_moto()
    server = buildah.start(container, "opentrail", "serve", "--upstream", moto.url, *listeners)
    try:
        console, url = _addresses(server)
        health = ("python", "/opt/opentrail/health.py")
        eventually(lambda: buildah.inside(container, *health) == "ok", "the server is well")
        session = boto3.session.Session(ADMIN_KEY_ID, ADMIN_SECRET, region_name="us-east-1")
        session.client("iam", endpoint_url=url).create_user(UserName="Mary")
        assert "created IAM user Mary" in buildah.inside(container, "opentrail", "who", "Mary")
        assert buildah.inside(container, "id", "-u") == "10001"
        assert "problem" not in buildah.inside(container, "opentrail", "doctor")
        with pytest.raises(AssertionError, match="Permission denied"):
            buildah.inside(container, "touch", "/opt/opentrail/written")
        with urllib.request.urlopen(console, timeout=30) as answer:  # noqa: S310 - http
            assert b'<div id="root">' in answer.read()
    finally:
        server.terminate()
        said, _ = server.communicate(timeout=60)
        moto.stop()
    assert "Traceback" not in said
    with pytest.raises(AssertionError, match=r"no server (answers|runs)"):
        buildah.inside(container, "python", "/opt/opentrail/health.py")


def _addresses(server: subprocess.Popen[str]) -> tuple[str, str]:
    """Returns the console's page and the endpoint that a starting server prints."""
    assert server.stdout is not None
    said = console = ""
    for line in server.stdout:
        said += line
        if line.startswith("  console "):
            console = line.split()[1].partition("#")[0]
        if line.startswith("export AWS_ENDPOINT_URL="):
            return console, line.partition("=")[2].strip()
    raise AssertionError(f"the container ended:\n{said}")
