"""Foreign text: shown on a terminal, compared with wildcards, cached by length."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, wraps
from typing import TypeVar

#: Unicode categories of control, format and surrogate characters, and of line separators.
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
#: First characters of a formula, also in full width.
_FORMULAS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
#: Possible starts of a formula: the start of a cell, and after a separator of other locales.
_CELL_BEGIN = re.compile(rf"(^|[;|\t\r\n])(?= *[{re.escape(_FORMULAS)}])")


def printable(text: str) -> str:
    r"""Returns text with control and direction characters escaped (guarantee N8).

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    if text.isprintable():
        return text
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in _UNPRINTABLE else c for c in text)


def escape_formulas(cell: str) -> str:
    """Returns a cell of CSV without formulas and control characters (guarantee N7).

    >>> escape_formulas("=1+1"), escape_formulas("a;=1+1")
    ("'=1+1", "a;'=1+1")
    """
    text = cell
    if not cell.isprintable():
        text = "".join(c if c in "\t\r\n" else printable(c) for c in cell)
    return _CELL_BEGIN.sub(r"\1'", text)


def csv_line(cells: Iterable[object], end: str = "\r\n", unchanged: Sequence[str] = ()) -> str:
    r"""Returns a line of CSV without formulas and control characters; None is an empty cell.

    Args:
        cells: what callers chose may be among them.
        end: the end of the line.
        unchanged: further cells, such as records, which are evidence.

    >>> csv_line(["a,b", None, True, "=1+1"], "")
    '"a,b",,true,\'=1+1'
    """
    line = io.StringIO()
    csv.writer(line, lineterminator=end).writerow([*map(_cell, cells), *unchanged])
    return line.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else escape_formulas(str(value))


def unique_names(names: Iterable[str]) -> list[str]:
    """Returns names of columns, of which later ones get a number; names have no case.

    >>> unique_names(["n", "N", "n_1", "n"])
    ['n', 'N_1', 'n_1_1', 'n_2']
    """
    unique: list[str] = []
    used: set[str] = set()
    for name in names:
        free = name
        number = 0
        while free.lower() in used:
            number += 1
            free = f"{name}_{number}"
        used.add(free.lower())
        unique.append(free)
    return unique


def with_anything_between(chunks: Sequence[str]) -> str:
    """Returns the source of a regular expression: chunks of fixed length, any characters between.

    Matching a whole string takes time linear in its length, for any chunks.

    >>> with_anything_between(["Create", "User", ""])
    'Create(?>.*?User).*'
    """
    if len(chunks) == 1:
        return chunks[0]
    # The leftmost match of a chunk is as good as any other, so no chunk needs a second attempt.
    middle = "".join(f"(?>.*?{chunk})" for chunk in chunks[1:-1] if chunk)
    return f"{chunks[0]}{middle}.*{chunks[-1]}"


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun.

    >>> counted(1, "log file"), counted(2_000, "log file"), counted(0, "match")
    ('1 log file', '2,000 log files', '0 matches')
    """
    plural = "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


T = TypeVar("T")


def cached_if_short(
    max_length: int, entries: int = 4_096
) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """Returns a decorator that caches results for strings of at most `max_length` characters.

    A cache of all strings would hold as many bytes as callers send, with any number of entries.
    """

    def decorate(function: Callable[[str], T]) -> Callable[[str], T]:
        cached = lru_cache(entries)(function)

        @wraps(function)
        def call(text: str) -> T:
            return cached(text) if len(text) <= max_length else function(text)

        return call

    return decorate
