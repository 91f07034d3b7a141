"""How far long work is: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

_REDRAWN, _TOLD = 0.2, 10.0
#: The rate is that of so many seconds.
_WINDOW = 30.0
_NARROWEST_BAR, _WIDEST_BAR = 10, 40
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


class Progress:
    """Shows bytes, records (or what `noun` calls them) and time.

    `total` is set once it is known; `waiting` tells what sending waits for, if anything.
    """

    def __init__(
        self,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
        width: Callable[[], int] = lambda: shutil.get_terminal_size((80, 24)).columns,
        noun: str = "records",
    ) -> None:
        self.total: int | None = None
        self.waiting = ""
        self._stream = stream
        self._clock = clock
        self._width = width
        self._noun = noun
        self._is_terminal = stream.isatty()
        self._bytes = self._records = self._drawn = 0
        self._shown_at = clock()
        self._past: deque[tuple[float, int, int]] = deque([(clock(), 0, 0)])

    def advance(self, size: int, records: int) -> None:
        """Counts what is imported now."""
        self._bytes += size
        self._records += records
        now = self._clock()
        self._past.append((now, self._bytes, self._records))
        while len(self._past) > 2 and now - self._past[0][0] > _WINDOW:
            self._past.popleft()
        self.show()

    def show(self) -> None:
        """Draws the bar again or writes a line, if it is time for that."""
        now = self._clock()
        if now - self._shown_at < (_REDRAWN if self._is_terminal else _TOLD):
            return
        self._shown_at = now
        if not self._is_terminal:
            self._stream.write(f"{self._told(now)}\n")
        else:
            text = self._with_bar(self._told(now))
            self._stream.write(f"\r{text.ljust(self._drawn)}")
            self._drawn = len(text)
        self._stream.flush()

    def end(self) -> None:
        """Takes the bar off the terminal."""
        if self._drawn:
            self._stream.write(f"\r{' ' * self._drawn}\r")
            self._stream.flush()
            self._drawn = 0

    def _with_bar(self, text: str) -> str:
        room = self._width() - 1
        bar = min(_WIDEST_BAR, room - len(text) - 3)
        if bar >= _NARROWEST_BAR and self.total:
            full = int(bar * min(1.0, self._bytes / self.total))
            text = f"[{'#' * full}{'-' * (bar - full)}] {text}"
        return text[: max(0, room)]

    def _told(self, now: float) -> str:
        return f"waiting: {self.waiting}; {self._rates(now)}" if self.waiting else self._rates(now)

    def _rates(self, now: float) -> str:
        since, size, records = self._past[0]
        seconds = max(now - since, 0.001)
        rate = (self._records - records) / seconds
        speed = (self._bytes - size) / seconds
        parts = [f"{self._records:,} {self._noun}", f"{rate:,.0f}/s"]
        if not self.total:
            return ", ".join([_size(self._bytes), *parts])
        share = min(100, int(100 * self._bytes / self.total))
        parts.insert(0, f"{share}% of {_size(self.total)}")
        if speed > 0:
            parts.append(f"{_duration(max(0, self.total - self._bytes) / speed)} left")
        return ", ".join(parts)


def _size(count: float) -> str:
    """Returns bytes as people read them.

    >>> _size(999), _size(1_200_000)
    ('999 B', '1.2 MB')
    """
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {_UNITS[-1]}"


def _duration(seconds: float) -> str:
    """Returns a time as people read it.

    >>> _duration(59.6), _duration(3725)
    ('1:00', '1:02:05')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
