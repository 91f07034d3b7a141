"""The sandbox's upstreams, as child processes: moto, and SeaweedFS for durable S3.

python -m opentrail.commands.sandbox                      serves moto on a free port
python -m opentrail.commands.sandbox --port NUMBER        serves moto on this port
python -m opentrail.commands.sandbox PROGRAM ARGUMENT…    runs a program

Both end when their standard input closes, see `adapters/ipc/parent.py`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from opentrail.adapters.ipc.parent import wait_for_end_of_parent
from opentrail.core.errors import OpentrailError, UsageError
from opentrail.core.identity import DEFAULT_ACCOUNT, key_for_account
from opentrail.core.version import command_for
from opentrail.wire.pinning import direct_opener


class ReservedPort:
    """A port of this machine that no other program gets.

    A socket is bound to it but does not listen, so connections are refused until a server, which
    can also bind the port, listens there. Where two sockets cannot share an address, another
    program may get the port before the server.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.number}"
        if sys.platform != "linux":
            self._socket.close()

    def release(self) -> None:
        """Frees the port for other programs."""
        self._socket.close()


ADMIN_KEY_ID = key_for_account(DEFAULT_ACCOUNT)
#: moto does not verify signatures, so any secret works.
ADMIN_SECRET = "opentrail-sandbox"  # noqa: S105 - only for a sandbox on this machine
#: The admin's entry in the directory; the id has the form of IAM's user ids.
ADMIN = {"user": "admin", "principal_id": f"{key_for_account(DEFAULT_ACCOUNT, 'AIDA')}A"}
_SEAWEED_SECONDS = 60.0
#: Seconds before a stopping program is killed.
_STOP_SECONDS = 2.0
#: Timeout of a reset of moto.
_RESET_SECONDS = 30.0
_open_directly = direct_opener().open


@dataclass(slots=True)
class BuiltInUpstream:
    """A running upstream; it ends when its standard input closes."""

    process: subprocess.Popen[bytes]
    url: str

    def stop(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_moto() -> BuiltInUpstream:
    """Starts moto on a free port; raises as `begin_moto` and `wait_for_moto`."""
    moto = begin_moto()
    wait_for_moto(moto)
    return moto


def reset_moto(url: str) -> None:
    """Removes all resources in moto.

    Raises:
        OSError: moto does not answer.
    """
    _open_directly(f"{url}/moto-api/reset", b"", _RESET_SECONDS).close()


def begin_moto(port: ReservedPort | None = None) -> BuiltInUpstream:
    """Begins to start moto; its URL is known immediately if a port is given.

    Raises:
        UsageError: the extra `opentrail[sandbox]` is not installed.
    """
    if importlib.util.find_spec("moto") is None:
        raise UsageError(f"the sandbox needs moto: {command_for('sandbox')}")
    arguments = ["--port", str(port.number)] if port else []
    process = _start(arguments, subprocess.PIPE, subprocess.DEVNULL)
    return BuiltInUpstream(process, f"http://{port.address}" if port else "")


def wait_for_moto(moto: BuiltInUpstream) -> None:
    """Waits until a starting moto answers, and sets its URL.

    Raises:
        OpentrailError: moto did not start.
    """
    output = moto.process.stdout
    moto.url = output.readline().decode().strip() if output else ""
    if not moto.url.startswith("http://"):
        moto.process.kill()
        raise OpentrailError("the sandbox's moto server did not start")


def start_seaweedfs(folder: Path, *flags: str) -> BuiltInUpstream:
    """Starts SeaweedFS on free ports; its data are in `folder` and survive a restart.

    It verifies signatures and accepts only the sandbox admin's key.

    Raises:
        UsageError: the extra `opentrail[sandbox-s3]` is not installed.
        OpentrailError: SeaweedFS did not start.
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
    parts = ("master", "volume", "filer", "s3")
    ports = {f"{part}.{kind}": ReservedPort() for part in parts for kind in ("port", "port.grpc")}
    arguments = [*_weed_arguments(folder, access, ports), *flags]
    try:
        with (folder / "weed.log").open("ab") as output:
            process = _start([str(program), *arguments], output, output)
        child = BuiltInUpstream(process, f"http://{ports['s3.port'].address}")
        _wait_for_seaweedfs(child, f"http://{ports['master.port'].address}", folder)
    finally:
        for port in ports.values():
            port.release()
    return child


def _weed_arguments(folder: Path, access: Path, ports: dict[str, ReservedPort]) -> list[str]:
    """Returns the command line of `weed server`; `ports` maps flags to ports."""
    return [
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
        *(f"-{flag}={port.number}" for flag, port in ports.items()),
    ]


def _wait_for_seaweedfs(child: BuiltInUpstream, master: str, folder: Path) -> None:
    """Waits until its S3 answers and its master knows the volumes.

    S3 answers first. The volumes register within 5 s; before that, reads of objects from an
    earlier run fail with status 500.
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
        return True  # a running S3 refuses the unsigned call
    except OSError:
        return False
    return True


def _knows_volumes(master: str) -> bool:
    try:
        with _open_directly(f"{master}/dir/status", timeout=2) as answer:
            return bool(json.load(answer)["Topology"]["DataCenters"])
    except (OSError, ValueError, KeyError):
        return False


def _start(
    arguments: list[str], output: int | IO[bytes], errors: int | IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - this module in this environment
        [sys.executable, "-P", "-m", "opentrail.commands.sandbox", *arguments],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=errors,
        start_new_session=True,  # Ctrl-C reaches only this process, which then stops the child
        # A missing profile, or an endpoint, would affect moto's own clients.
        env={name: text for name, text in os.environ.items() if not name.startswith("AWS_")},
    )


def _serve_moto(port: int) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    sys.stdout.write(f"http://{host}:{port}\n")
    sys.stdout.flush()
    wait_for_end_of_parent()
    os._exit(0)


def _run_program(command: list[str]) -> int:
    """Runs a program that does not watch its standard input; returns its exit code."""
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - of `_start`

    def stop_with_parent() -> None:
        wait_for_end_of_parent()
        program.terminate()
        try:
            program.wait(
                _STOP_SECONDS
            )  # SeaweedFS would take 15 s; its answered writes are on disk
        except subprocess.TimeoutExpired:
            program.kill()

    threading.Thread(target=stop_with_parent, daemon=True).start()
    return program.wait()


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] != "--port":
        sys.exit(_run_program(sys.argv[1:]))
    _serve_moto(int(sys.argv[2]) if sys.argv[1:] else 0)
