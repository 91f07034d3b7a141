"""Large bodies, sent and thrown away without being copied: client and upstream cost little."""

from __future__ import annotations

import multiprocessing
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.processes import free_port, wait_for_port

_PIECE = 16 * 1024 * 1024
_PATIENCE_SECONDS = 120


def send_body(connection: socket.socket, length: int) -> None:
    """Sends so many zero bytes, which stay in the kernel."""
    source = os.memfd_create("body")
    try:
        os.truncate(source, _PIECE)
        left = length
        while left:
            left -= os.sendfile(connection.fileno(), source, 0, min(left, _PIECE))
    finally:
        os.close(source)


def receive_body(connection: socket.socket, length: int) -> None:
    """Takes so many bytes; the kernel throws them away (MSG_TRUNC)."""
    buffer, left = bytearray(1024 * 1024), length
    while left:
        taken = connection.recv_into(buffer, min(left, len(buffer)), socket.MSG_TRUNC)
        if not taken:
            raise ConnectionError(f"closed with {left} bytes left to come")
        left -= taken


def receive_head(connection: socket.socket) -> str:
    """Returns a message's head and leaves its body in the socket; "" if there is no more."""
    looked = b""
    while b"\r\n\r\n" not in looked:
        more = connection.recv(65536, socket.MSG_PEEK)
        if len(more) == len(looked):
            if not more:
                return ""
            connection.recv(1, socket.MSG_PEEK | socket.MSG_WAITALL)
        looked = more
    head = looked.partition(b"\r\n\r\n")[0]
    connection.recv(len(head) + 4, socket.MSG_WAITALL)
    return head.decode("latin-1")


def content_length(head: str) -> int:
    """Returns how long the body behind a head is."""
    _, found, rest = head.lower().partition("\r\ncontent-length:")
    return int(rest.partition("\r\n")[0]) if found else 0


@contextmanager
def upstream(get_bytes: int, cpu: int) -> Iterator[int]:
    """Runs an upstream that takes every PUT and answers every GET with so many bytes."""
    port = free_port()
    child = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(port, get_bytes, cpu), daemon=True
    )
    child.start()
    try:
        wait_for_port(port)
        yield port
    finally:
        child.terminate()
        child.join(10)


def _serve(port: int, get_bytes: int, cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    with socket.create_server(("127.0.0.1", port)) as listening:
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=_answer, args=(connection, get_bytes), daemon=True).start()


def _answer(connection: socket.socket, get_bytes: int) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        while head := receive_head(connection):
            receive_body(connection, content_length(head))
            length = get_bytes if head.startswith("GET") else 0
            connection.sendall(
                b'HTTP/1.1 200 OK\r\nETag: "0123456789abcdef0123456789abcdef"\r\n'
                b"x-amz-request-id: 7a62c49f347e4fc4\r\nContent-Length: %d\r\n\r\n" % length
            )
            send_body(connection, length)


def put_object(port: int, length: int) -> None:
    """Uploads an object of zero bytes."""
    with _connected(port) as connection:
        connection.sendall(_head("PUT", f"Content-Length: {length}\r\n"))
        send_body(connection, length)
        _check(receive_head(connection))


def get_object(port: int, length: int) -> None:
    """Downloads an object that must be so long."""
    with _connected(port) as connection:
        connection.sendall(_head("GET", ""))
        head = receive_head(connection)
        _check(head)
        if content_length(head) != length:
            raise RuntimeError(f"expected {length} bytes: {head}")
        receive_body(connection, length)


def _head(method: str, more: str) -> bytes:
    return (
        f"{method} /bench-bucket/large-object HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "x-amz-content-sha256: UNSIGNED-PAYLOAD\r\nX-Amz-Date: 20200101T000000Z\r\n"
        "Authorization: AWS4-HMAC-SHA256 "
        "Credential=AKIAIOSFODNN7EXAMPLE/20200101/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;x-amz-content-sha256;x-amz-date, "
        f"Signature={'0123456789abcdef' * 4}\r\n{more}\r\n"
    ).encode()


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    # The kernel's own time limits: a timeout of Python's would make the socket non-blocking.
    for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, limit, struct.pack("ll", _PATIENCE_SECONDS, 0))
    return connection


def _check(head: str) -> None:
    if not head.startswith("HTTP/1.1 200"):
        raise RuntimeError(f"not answered well: {head!r}")
