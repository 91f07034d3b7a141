#!/usr/bin/env python3
"""Checks the subject of a commit message: `area: verb …`. Git runs it as its hook `commit-msg`.

scripts/commit_message.py FILE     # the file with the message, as Git passes it
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

_MAX_LENGTH = 72
_FORM = re.compile(
    r"(?P<areas>[a-z][\w/.-]*(?:, [a-z][\w/.-]*)*): (?P<verb>[A-Za-z-]+)(?P<rest>.*)"
)
#: Verbs in the imperative that end like others.
_IMPERATIVE = re.compile(
    r"(?:.*(?:ss|us)|bring|string|embed|feed|need|seed|shed|speed|exceed|proceed)$"
)
_OTHER_FORM = re.compile(r"(?:.*(?:s|ed|ing)|no|not|an?|the|one|all|what|when|if|more|some|new)$")


def problems(subject: str) -> Iterator[str]:
    """Yields what is wrong with a subject.

    >>> [*problems("journal: retry a commit after a full disk")]
    []
    >>> [*problems("journal: retries commits.")]
    ['begin with a verb in the imperative, not "retries"', 'remove the final period']
    """
    if subject.startswith(("Merge ", "Revert ", "fixup! ", "squash! ")):
        return
    if len(subject) > _MAX_LENGTH:
        yield f"use at most {_MAX_LENGTH} characters, not {len(subject)}"
    found = _FORM.fullmatch(subject)
    if found is None:
        yield 'write "area: verb …", such as "journal: retry a commit after a full disk"'
        return
    verb = found["verb"]
    if not verb.islower() or (_OTHER_FORM.match(verb) and not _IMPERATIVE.match(verb)):
        yield f'begin with a verb in the imperative, not "{verb}"'
    if subject.endswith("."):
        yield "remove the final period"
    if ";" in found["rest"]:
        yield "make a commit for each purpose"


def main() -> int:
    """Prints what is wrong with a message; the exit code is 1 if anything is."""
    lines = Path(sys.argv[1]).read_text().splitlines()
    subject = next((line for line in lines if line and not line.startswith("#")), "")
    found = [*problems(subject)] if subject else []  # Git itself refuses an empty one
    for problem in found:
        print(f"commit message: {problem}", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
