"""Progress of long work: a bar on a terminal, otherwise a line every ten seconds.

It does not use `rich`, whose import takes 60 ms, and which has no lines without a terminal.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TextIO

#: Seconds between updates on a terminal.
_REDRAW_SECONDS = 0.2
#: Seconds between lines without a terminal.
_LINE_SECONDS = 10.0
#: Seconds of the window for rates.
_WINDOW = 30.0
#: Minimum width of the bar in characters.
_MIN_BAR = 10
#: Maximum width of the bar in characters.
_MAX_BAR = 40
#: Minimum rate shown without decimals.
_WHOLE_RATE = 10
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


class Progress:
    """Shows bytes, records (`noun` gives their name), rate and remaining time.

    The owner sets `total`, the number of bytes, once known, and `waiting`, the reason for a delay.
    `under_way` has the bytes read of unfinished work, by any key. Without `has_bytes` all numbers
    are records.
    """

    def __init__(
        self,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
        width: Callable[[], int] = lambda: shutil.get_terminal_size((80, 24)).columns,
        noun: str = "records",
        has_bytes: bool = True,
    ) -> None:
        self.total: int | None = None
        self.waiting = ""
        self.under_way: dict[object, int] = {}
        self._stream = stream
        self._clock = clock
        self._width = width
        self._noun = noun
        self._has_bytes = has_bytes
        self._is_terminal = stream.isatty()
        self._bytes = self._records = self._drawn = 0
        self._shown_at = clock()
        self._past: deque[tuple[float, int, int]] = deque([(clock(), 0, 0)])

    def advance(self, size: int, records: int) -> None:
        """Adds finished bytes and records."""
        self._bytes += size
        self._records += records
        self._measure(self._clock())
        self.show()

    def reach(self, read: int, total: int | None) -> None:
        """Shows the part of the total that is read."""
        self.total = total
        self.under_way["call"] = read
        self.show()

    def _measure(self, now: float) -> None:
        """Adds a measurement for the rates; the number read never decreases."""
        size = max(self._past[-1][1], self._bytes + sum([*self.under_way.values()]))
        self._past.append((now, size, self._records))
        while len(self._past) > 2 and now - self._past[0][0] > _WINDOW:
            self._past.popleft()

    def show(self) -> None:
        """Redraws the bar or writes a line, if due."""
        now = self._clock()
        if now - self._shown_at < (_REDRAW_SECONDS if self._is_terminal else _LINE_SECONDS):
            return
        self._shown_at = now
        self._measure(now)
        if not self._is_terminal:
            self._stream.write(f"{self._text(now)}\n")
        else:
            text = self._with_bar(self._text(now))
            self._stream.write(f"\r{text.ljust(self._drawn)}")
            self._drawn = len(text)
        self._stream.flush()

    def end(self) -> None:
        """Removes the bar from the terminal."""
        if self._drawn:
            self._stream.write(f"\r{' ' * self._drawn}\r")
            self._stream.flush()
            self._drawn = 0

    def _with_bar(self, text: str) -> str:
        room = self._width() - 1
        bar = min(_MAX_BAR, room - len(text) - 3)
        if bar >= _MIN_BAR and self.total:
            full = int(bar * min(1.0, self._past[-1][1] / self.total))
            text = f"[{'#' * full}{'-' * (bar - full)}] {text}"
        return text[: max(0, room)]

    def _text(self, now: float) -> str:
        return f"waiting: {self.waiting}; {self._rates(now)}" if self.waiting else self._rates(now)

    def _rates(self, now: float) -> str:
        since, size, records = self._past[0]
        read = self._past[-1][1]
        seconds = max(now - since, 0.001)
        speed = (read - size) / seconds
        if self._has_bytes:
            rate = (self._records - records) / seconds
            parts = [f"{self._records:,} {self._noun}", f"{rate:,.0f}/s"]
        else:
            parts = [f"{speed:,.0f}/s" if speed >= _WHOLE_RATE else f"{speed:.2g}/s"]
        if not self.total:
            return ", ".join([self._amount(read), *parts])
        # The server has read these bytes, but not written them yet.
        share = min(99 if self.under_way else 100, int(100 * read / self.total))
        parts.insert(0, f"{share}% of {self._amount(self.total)}")
        if speed > 0:
            parts.append(f"{_duration(max(0, self.total - read) / speed)} left")
        return ", ".join(parts)

    def _amount(self, count: int) -> str:
        return _size(count) if self._has_bytes else f"{count:,} {self._noun}"


@contextlib.contextmanager
def call_progress(noun: str) -> Iterator[Progress]:
    """Shows the progress passed to `reach` on standard error."""
    progress = Progress(sys.stderr, noun=noun, has_bytes=False)
    try:
        yield progress
    finally:
        progress.end()


def _size(count: float) -> str:
    """Returns a number of bytes with a unit.

    >>> _size(999), _size(1_200_000)
    ('999 B', '1.2 MB')
    """
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {_UNITS[-1]}"


def _duration(seconds: float) -> str:
    """Returns a duration as minutes and seconds.

    >>> _duration(59.6), _duration(3725)
    ('1:00', '1:02:05')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
