"""The servers under measurement: nginx as stub and as pass-through, and opentrail."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opentrail.core.errors import UsageError
from opentrail.sandbox import ADMIN_KEY_ID

_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 100000000;
  upstream stub {{ server 127.0.0.1:{stub}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{stub};
    location / {{ default_type text/xml; return 200 '{answer}'; }}
  }}
  server {{
    listen 127.0.0.1:{passing};
    location / {{
      proxy_pass http://stub; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; proxy_buffering off; proxy_request_buffering off;
    }}
  }}
}}
"""
ANSWER = (
    '<CreateUserResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><CreateUserResult>'
    "<User><Path>/</Path><UserName>bench</UserName><UserId>AIDAQEBALCAAAAAAAAAAA</UserId>"
    "<Arn>arn:aws:iam::123456789012:user/bench</Arn><CreateDate>2020-01-01T09:00:00Z</CreateDate>"
    "</User></CreateUserResult><ResponseMetadata>"
    "<RequestId>7a62c49f-347e-4fc4-9331-6e8eEXAMPLE</RequestId></ResponseMetadata>"
    "</CreateUserResponse>"
)


def free_port() -> int:
    """Returns a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Nginx:
    """Ports of the stub upstream and of the pass-through in front of it."""

    stub: int
    passing: int


@contextmanager
def nginx() -> Iterator[Nginx]:
    """Runs one nginx with both servers."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise UsageError("the benchmarks need nginx: apt-get install nginx-light")
    ports = Nginx(free_port(), free_port())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "nginx.conf"
        file.write_text(
            _NGINX.format(folder=folder, stub=ports.stub, passing=ports.passing, answer=ANSWER)
        )
        Path(folder).chmod(0o777)
        child = subprocess.Popen([program, "-c", str(file)], stderr=subprocess.DEVNULL)
        try:
            for port in (ports.stub, ports.passing):
                wait_for_port(port)
            yield ports
        finally:
            child.terminate()
            child.wait(10)


def wait_for_port(port: int) -> None:
    """Returns once somebody listens."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(f"nobody listens on port {port}")


@dataclass
class Server:
    """A running opentrail."""

    process: subprocess.Popen[str]
    port: int
    console: str
    seconds_to_ready: float

    @property
    def resident_mb(self) -> float:
        """Resident memory of the server process, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextmanager
def opentrail(upstream: int, *flags: str) -> Iterator[Server]:
    """Runs an opentrail server in front of a port."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "opentrail", "serve", "--data-dir", f"{folder}/data"),
                *("--upstream", f"http://127.0.0.1:{upstream}"),
                *("--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0", *flags),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("  data "):
                    break
            ready = time.perf_counter() - started
            described = json.loads(Path(f"{folder}/data/server.json").read_text())
            port = int(described["endpoint"].rpartition(":")[2])
            yield Server(process, port, described["console"], ready)
        finally:
            process.terminate()
            process.wait(20)


def create_user(name: str) -> bytes:
    """Returns a CreateUser request as boto3 would send it."""
    body = f"Action=CreateUser&Version=2010-05-08&UserName={name}"
    return post("iam", body, "application/x-www-form-urlencoded; charset=utf-8")


def lookup(name: str) -> bytes:
    """Returns a LookupEvents request for a user's name."""
    attribute = {"AttributeKey": "ResourceName", "AttributeValue": name}
    body = json.dumps({"LookupAttributes": [attribute], "MaxResults": 1})
    target = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents"
    return post("cloudtrail", body, "application/x-amz-json-1.1", f"X-Amz-Target: {target}\r\n")


def post(service: str, body: str, content_type: str, more: str = "") -> bytes:
    """Returns a POST request with the headers that boto3 sends."""
    scope = f"{ADMIN_KEY_ID}/20200101/us-east-1/{service}/aws4_request"
    return (
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: identity\r\n"
        "User-Agent: Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux#6.1 md/arch#x86_64 "
        "lang/python#3.11.7 md/pyimpl#CPython m/b,Z,D cfg/retry-mode#legacy Botocore/1.44.5\r\n"
        f"Content-Type: {content_type}\r\nX-Amz-Date: 20200101T000000Z\r\n{more}"
        f"Authorization: AWS4-HMAC-SHA256 Credential={scope}, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n"
        "amz-sdk-invocation-id: 7a62c49f-347e-4fc4-9331-6e8e6e8e6e8e\r\n"
        f"amz-sdk-request: attempt=1\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def machine() -> dict[str, str]:
    """Returns what the figures were measured on."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "cpu": f"{os.cpu_count()} x {cpu}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit,
        "command": "make bench",
    }
