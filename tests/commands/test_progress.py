"""Progress of long work, on terminals and elsewhere."""

import contextlib
import http.server
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from opentrail.commands.progress import Progress
from tests.serving import serving
from tests.stub_console import describe_server


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def drawn(terminal: io.StringIO) -> str:
    return terminal.getvalue().rpartition("\r")[2].rstrip()


@pytest.fixture
def time() -> Time:
    return Time()


def test_a_terminal_shows_share_rate_and_remaining_time(time: Time) -> None:
    terminal = Terminal()
    progress = Progress(terminal, time, lambda: 100)
    progress.total = 4_000_000
    time.now += 10
    progress.advance(1_000_000, 5_000)
    assert drawn(terminal) == (
        f"[{'#' * 10}{'-' * 30}] 25% of 4.0 MB, 5,000 records, 500/s, 0:30 left"
    )


def test_the_line_is_drawn_over_the_last_one(time: Time) -> None:
    terminal = Terminal()
    progress = Progress(terminal, time, lambda: 100)
    progress.waiting = "the disk does not keep up"
    time.now += 1
    progress.show()
    progress.waiting = ""
    time.now += 1
    progress.show()
    first, second = terminal.getvalue().split("\r")[1:]
    assert "waiting: the disk" in first
    assert len(second) >= len(first)
    assert "waiting" not in second
    progress.end()
    assert terminal.getvalue().endswith(" \r")


@pytest.mark.parametrize("width", [1, 10, 40, 60, 80, 300])
def test_the_line_fits_the_terminal(time: Time, width: int) -> None:
    terminal = Terminal()
    progress = Progress(terminal, time, lambda: width)
    progress.total = 10
    for _ in range(20):
        time.now += 1
        progress.advance(1_000_000_000_000, 123_456_789)
    assert all(len(line.rstrip()) < width for line in terminal.getvalue().split("\r"))
    assert terminal.getvalue().isascii()
    assert "\n" not in terminal.getvalue()


def test_without_a_total_the_share_is_missing(time: Time) -> None:
    terminal = Terminal()
    progress = Progress(terminal, time, lambda: 100)
    time.now += 2
    progress.advance(3_000, 10)
    assert drawn(terminal) == "3.0 kB, 10 records, 5/s"


def test_the_rate_covers_the_last_half_minute(time: Time) -> None:
    terminal = Terminal()
    progress = Progress(terminal, time, lambda: 100)
    for _ in range(100):
        time.now += 1
        progress.advance(1, 100)
    for _ in range(40):
        time.now += 1
        progress.advance(1, 7)
    assert "7/s" in drawn(terminal)


def test_elsewhere_a_line_is_written_now_and_then(time: Time) -> None:
    log = io.StringIO()
    progress = Progress(log, time)
    progress.total = 100
    for _ in range(25):
        time.now += 1
        progress.advance(1, 2)
    progress.end()
    assert log.getvalue().splitlines() == [
        "10% of 100 B, 20 records, 2/s, 1:30 left",
        "20% of 100 B, 40 records, 2/s, 1:20 left",
    ]


def test_counted_fields_have_aliases(time: Time) -> None:
    log = io.StringIO()
    progress = Progress(log, time, noun="files")
    time.now += 11
    progress.advance(1, 2)
    assert "2 files" in log.getvalue()


def test_the_bar_moves_while_a_file_is_read(time: Time) -> None:
    terminal = Terminal()
    progress = Progress(terminal, time, lambda: 100)
    progress.total = 1_000
    shares = []
    for read in (200, 600, 500, 1_000):
        time.now += 1
        progress.under_way["file"] = read
        progress.show()
        shares.append(drawn(terminal).partition("] ")[2].partition(" ")[0])
    time.now += 1
    progress.under_way.clear()
    progress.advance(1_000, 5)
    shares.append(drawn(terminal).partition("] ")[2].partition(" ")[0])
    assert shares == ["20%", "60%", "60%", "99%", "100%"]


def test_numbers_without_bytes_have_share_and_rate(time: Time) -> None:
    terminal = Terminal()
    progress = Progress(terminal, time, lambda: 100, noun="days", has_bytes=False)
    time.now += 10
    progress.reach(5, 95)
    assert drawn(terminal).endswith("] 5% of 95 days, 0.5/s, 3:00 left")
    time.now += 10
    progress.reach(3_000, None)
    assert drawn(terminal) == "3,000 days, 150/s"


# Through a command


class LongScan(http.server.BaseHTTPRequestHandler):
    """Answers a scan that lasts until the test has seen a bar."""

    seen: threading.Event

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            while not self.seen.wait(0.05):
                self.wfile.write(b'{"read": 24, "total": 97}\n')
            self.wfile.write(b'{"incidents": [], "known": 0}\n')

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


def test_a_scan_shows_a_bar_on_a_terminal(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    try:
        master, terminal = pty.openpty()
    except OSError:
        pytest.skip("this machine gives no pseudo-terminal")
    LongScan.seen = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), LongScan)
    describe_server(tmp_path, f"http://127.0.0.1:{server.server_port}")
    command = [sys.executable, "-m", "opentrail", "insights", "scan", "--since", "60d"]
    with serving(server), os.fdopen(master, "rb", buffering=0) as screen:
        process = subprocess.Popen(
            [*command, "--data-dir", str(tmp_path)], stdout=subprocess.PIPE, stderr=terminal
        )
        os.close(terminal)
        drawn = b""
        with contextlib.suppress(OSError):  # the end of a terminal is an error
            while part := screen.read(1_000):
                drawn += part
                if b"24% of 97 days" in drawn:
                    LongScan.seen.set()
        LongScan.seen.set()
        out, _ = process.communicate()
    assert (process.returncode, out) == (0, b"")
    assert b"[####" in drawn
    assert drawn.endswith(b"\r0 found and recorded, 0 recorded before\r\n")
