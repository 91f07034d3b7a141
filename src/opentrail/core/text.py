"""Text that others wrote, shown on a terminal."""

from __future__ import annotations

import unicodedata

#: Unicode categories of control, format and surrogate characters, and of line separators.
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")


def printable(text: str) -> str:
    r"""Returns text with control and direction characters escaped (guarantee N8).

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    if text.isprintable():
        return text
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in _UNPRINTABLE else c for c in text)


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun.

    >>> counted(1, "log file"), counted(2_000, "log file")
    ('1 log file', '2,000 log files')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
