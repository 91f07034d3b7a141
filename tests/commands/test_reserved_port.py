"""A port reserved for a server that starts later."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opentrail.commands.sandbox import ReservedPort, start_seaweedfs


def is_free(number: int) -> bool:
    """Returns whether a program that asks for an exclusive port gets it."""
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", number))
        except OSError:
            return False
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="nowhere else can a port be kept")
def test_a_reserved_port_goes_to_no_other_program() -> None:
    port = ReservedPort()
    assert not is_free(port.number)
    port.release()
    assert is_free(port.number)


@pytest.mark.live
@pytest.mark.skipif(sys.platform != "linux", reason="nowhere else can a port be kept")
def test_a_seaweedfs_port_goes_to_no_other_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = []

    class Started(subprocess.Popen[bytes]):
        def __init__(self, command: list[str], **options: Any) -> None:
            numbers.extend(re.findall(r"-\w+\.port(?:\.grpc)?=([1-9]\d*)", " ".join(command)))
            assert not any(is_free(int(number)) for number in numbers)
            super().__init__(command, **options)

    monkeypatch.setattr(subprocess, "Popen", Started)
    start_seaweedfs(tmp_path / "store").stop()
    assert len(numbers) == 8


def test_a_reserved_port_refuses_connections_until_used() -> None:
    port = ReservedPort()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port.number))
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port.number))
        server.listen()
        socket.create_connection(("127.0.0.1", port.number)).close()
    port.release()
