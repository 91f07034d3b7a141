"""Text that others wrote: shown on a terminal, compared with wildcards."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

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


def with_anything_between(chunks: Sequence[str]) -> str:
    """Returns the source of a regular expression: chunks of fixed length, any characters between.

    A whole text is matched in a time that grows linearly with its length, whatever the chunks are.

    >>> with_anything_between(["Create", "User", ""])
    'Create(?>.*?User).*'
    """
    if len(chunks) == 1:
        return chunks[0]
    # The leftmost place of a chunk is as good as any other, so no chunk needs a second try.
    middle = "".join(f"(?>.*?{chunk})" for chunk in chunks[1:-1] if chunk)
    return f"{chunks[0]}{middle}.*{chunks[-1]}"


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun.

    >>> counted(1, "log file"), counted(2_000, "log file")
    ('1 log file', '2,000 log files')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
