"""nginx: the stub upstream, and the plain pass-through that opentrail is compared with."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import find_program, free_port, launch, stop, wait_for_port
from benchmarks.wire import Connection

_CONFIGURATION = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 2048; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 100000000; client_max_body_size 0;
  {server}
}}
"""
_STUB = """
  map $arg_UserName $user {{ "" bench; default $arg_UserName; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ default_type text/xml; return 200 '{answer}'; }}
    location /objects/ {{
      default_type application/octet-stream; set $kilobyte '{kilobyte}';
      return 200 $kilobyte$kilobyte$kilobyte$kilobyte;
    }}
    location = /benchmark-status {{ stub_status; }}
  }}
"""
_PASS_THROUGH = """
  upstream behind {{ server 127.0.0.1:{upstream}; keepalive 256; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; proxy_buffering off; proxy_request_buffering off;
    }}
  }}
"""
ANSWER = (
    '<CreateUserResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><CreateUserResult>'
    "<User><Path>/</Path><UserName>$user</UserName><UserId>AIDAQEBALCAAAAAAAAAAA</UserId>"
    "<Arn>arn:aws:iam::123456789012:user/$user</Arn><CreateDate>2020-01-01T09:00:00Z</CreateDate>"
    "</User></CreateUserResult><ResponseMetadata>"
    "<RequestId>7a62c49f-347e-4fc4-9331-6e8eEXAMPLE</RequestId></ResponseMetadata>"
    "</CreateUserResponse>"
)


@contextmanager
def stub(cpu: int | None = None) -> Iterator[int]:
    """Runs an upstream that gives every call the same answer; yields its port.

    Only the name of a user that stands in the address stands in the answer, too. What is below
    `/objects/` is an object of 4 kB.
    """
    port = free_port()
    with _running(_STUB.format(port=port, answer=ANSWER, kilobyte="x" * 1024), port, cpu):
        yield port


@contextmanager
def pass_through(upstream: int, cpu: int | None = None) -> Iterator[int]:
    """Runs an unbuffered proxy in front of a port; yields its own."""
    port = free_port()
    with _running(_PASS_THROUGH.format(port=port, upstream=upstream), port, cpu):
        yield port


def answered_by(stub_port: int) -> int:
    """Returns how many requests a stub has read, this one among them."""
    request = b"GET /benchmark-status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    counts = Connection(stub_port).call(request).splitlines()[2].split()
    return int(counts[2])


@contextmanager
def _running(server: str, port: int, cpu: int | None) -> Iterator[None]:
    program = find_program("nginx", "apt-get install nginx-light")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "nginx.conf"
        file.write_text(_CONFIGURATION.format(folder=folder, server=server))
        Path(folder).chmod(0o777)
        child = launch([program, "-c", str(file)], cpu, stderr=subprocess.DEVNULL)
        try:
            wait_for_port(port)
            yield
        finally:
            stop(child)
