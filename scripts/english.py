"""Counts constructions that native technical English rarely uses.

    python scripts/english.py                  # hits per 1,000 words of each part of the repository
    python scripts/english.py --list docs      # each hit of some files or folders, with its cure

Prose is Markdown without code, comments, docstrings, long strings, and names of tests. A hit points
to a sentence: rewrite the sentence, do not swap the word. `tests/test_english.py` limits the rates.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PARTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "src", "console/src", "tests")
#: Generated files, and lists of AWS's names.
_LEFT_OUT = re.compile(
    r"schema\.ts$|reference/(?:operations|event-permissions|hidden-values|openapi)"
)
#: Strings in code with fewer characters are rarely sentences.
_SENTENCE = 26
_FULL = "full|new|old|empty|lost|damaged|dead|missing|closed|open|late|known|unknown|deleted|stopped|paused|idle"
_AFTER_WHAT = (
    "is|are|was|were|has|had|have|it|they|others|a|an|the|of|callers|servers|does|did|cannot|may|must"
    "|comes?|came|each|no|another"
)

#: What a construction is called: its pattern, and what to write instead.
CONSTRUCTIONS = {
    "free relative": (
        rf"(?<![?])\bwhat (?:{_AFTER_WHAT})\b(?![^.\n]*\?)",
        "name the thing: missing records, the request",
    ),
    "pronoun for a noun": (
        r"\b(?:those (?:of|that|which)|that of|the ones? (?:that|of)|one that)\b",
        "repeat the noun",
    ),
    "passive without an actor": (
        r"\b(?:is|are|was|were) (?:tried|asked|answered|given (?:back|up)|waited for|looked (?:for|at|through)"
        r"|had|held up|put aside|made (?:again|up for)|asked for|found again|counted as)\b",
        "actor and verb: the server retries",
    ),
    "existence as a clause": (
        r"\b(?:that|which|what) (?:is|are|was|were|has been) (?:there|here|gone)\b|\b(?:is|are) there (?:already|once|too)\b",
        "exists, missing, deleted",
    ),
    "light verb": (
        r"\bgo(?:es)? on\b|\bgoing on\b|\b(?:is|are) away\b|\blacks?\b|\bhas nothing\b",
        "continue, is unreachable, is missing, is empty",
    ),
    "of its own": (r"\bof (?:its|their|his) own\b", "its own …"),
    "all of it": (r"\b(?:all of it|all else|what else|all that|nothing else|none of)\b", "name it"),
    "how as a noun": (
        r"\bhow (?:far|often|long|many|much)\b(?![^.\n]*\?)",
        "progress, frequency, duration, number",
    ),
    "trailing too": (r", too[.:;,]", "also"),
    "as it was": (r"\bas (?:it|they) (?:was|were|is|are)\b", "unchanged"),
    "so do": (r"\b[Ss]o (?:do|does|is it|are|it is|they are)\b", "repeat the verb"),
    "old adverb": (
        r"\b(?:at once|meanwhile|in the meantime|from then on|from now on|any longer|lately|by itself|of itself"
        r"|all the same|beside)\b",
        "immediately, while, later, no longer, recently, automatically, still, next to",
    ),
    "or none": (
        r"\bgood once\b|\bnothing of it\b|\b(?:or|of) none\b|\bany more\b",
        "single-use; nothing; no …",
    ),
    "a text": (
        r"\b(?:a|of) texts?\b(?! (?:that|field|file|editor|search))|\btexts\b",
        "string, message",
    ),
    "look-up, tries": (
        r"\blook-ups?\b|\b(?:a|of|many|most|maximum|recent|counts?) tr(?:y|ies)\b|\bpresent (?:folder|server|state)\b",
        "lookup, attempts, current",
    ),
    "clause for an adjective": (
        rf"\b(?:a|an|the|each|every|one|of) \w+ that (?:is|are|was|were|has been) (?:{_FULL})\b",
        "a full disk, a new file",
    ),
    # Beyond the ruler that this began with:
    "riddle as a name": (
        r"\bdef test_(?:what|nothing)_|\bdef test_\w*_is_not_\w+_for\b",
        "subject, verb, object: test_wait_times_out",
    ),
    "which of two": (r"\b(?:of which|in which case of|the latter|the former)\b", "name it"),
}
_PATTERNS = {
    name: re.compile(pattern, re.IGNORECASE) for name, (pattern, _) in CONSTRUCTIONS.items()
}


@dataclass(frozen=True)
class Hit:
    """A construction and where it is."""

    file: str
    line: int
    construction: str
    text: str


def files(parts: Sequence[str] = PARTS) -> list[str]:
    """Returns the committed and new files with prose below some paths, relative to the root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *parts],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    suffixes = (".md", ".py", ".ts", ".tsx")
    return [
        name
        for name in listed
        if name.endswith(suffixes) and not _LEFT_OUT.search(name) and (ROOT / name).is_file()
    ]


def prose(name: str, text: str) -> Iterator[tuple[int, str]]:
    """Yields the lines of a file that have prose, with their numbers."""
    if name.endswith(".md"):
        shown = re.sub(r"^```.*?^```", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S)
        return enumerate(re.sub(r"`[^`\n]*`", "X", shown).split("\n"), 1)
    return _in_python(text) if name.endswith(".py") else _in_typescript(text)


def _in_python(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        is_long = kind == "STRING" and len(token.string) >= _SENTENCE
        if kind == "COMMENT" or kind == "FSTRING_MIDDLE" or is_long:
            for offset, line in enumerate(token.string.split("\n")):
                yield token.start[0] + offset, line
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test_"
        ):
            yield node.lineno, f"def {node.name}"


def _in_typescript(text: str) -> Iterator[tuple[int, str]]:
    pattern = r"//.*|/?\*.*|>[^<>{}=]{12,}<|\"[^\"]{25,}\"|`[^`]{25,}`"
    for number, line in enumerate(text.split("\n"), 1):
        for found in re.findall(pattern, line):
            yield number, found


def read(names: Iterable[str]) -> tuple[list[Hit], int]:
    """Returns the hits in some files, and the number of words."""
    hits: list[Hit] = []
    words = 0
    for name in names:
        for number, line in prose(name, (ROOT / name).read_text(errors="replace")):
            words += len(
                line.replace("_", " ").split() if line.startswith("def test") else line.split()
            )
            hits += [Hit(name, number, *found) for found in hits_in(line)]
    return hits, words


def hits_in(line: str) -> Iterator[tuple[str, str]]:
    """Yields each construction in a line of prose, with the line."""
    for construction, pattern in _PATTERNS.items():
        for _ in pattern.finditer(line if "def test_" in pattern.pattern else spaced(line)):
            yield construction, line.strip()


def spaced(line: str) -> str:
    """Returns a line with the name of a test as words."""
    return line.replace("_", " ") if line.startswith("def test_") else line


def rate(hits: Sequence[Hit], words: int) -> float:
    """Returns the hits per 1,000 words."""
    return round(1000 * len(hits) / max(1, words), 2)


def rates() -> dict[str, float]:
    """Returns the rate of each part."""
    return {part: rate(*read(files([part]))) for part in PARTS}


def main() -> None:
    """Prints the rates, or each hit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("paths", nargs="*", help="files or folders (all parts)")
    parser.add_argument("--list", action="store_true", help="print each hit")
    options = parser.parse_args()
    groups = [[part] for part in PARTS] if not options.paths else [options.paths]
    hits: list[Hit] = []
    words = 0
    for group in groups:
        found, size = read(files(group))
        hits += found
        words += size
        if not options.paths:
            print(f"{rate(found, size):6.2f}  {group[0]}")
    if options.list:
        for hit in hits:
            print(f"{hit.file}:{hit.line}: {hit.construction}: {hit.text[:120]}")
    print(f"{rate(hits, words):6.2f}  in all, {words:,} words")
    for construction, number in Counter(hit.construction for hit in hits).most_common():
        print(f"{number:6}  {construction}: {CONSTRUCTIONS[construction][1]}")


if __name__ == "__main__":
    main()
