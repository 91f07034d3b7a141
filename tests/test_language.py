"""Code and documents use plain English, and one name for one thing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHECKED = ("src", "docs", "scripts", "README.md", "CONTRIBUTING.md", "Makefile")
SUFFIXES = {".py", ".md", ".sh", ""}
#: Strings in records, so they cannot change.
RECORDED = ("the answer does not tell",)

#: Words to avoid → what to write instead. `_` counts as a space, so identifiers match too.
WORDS = {
    r"(?:un)?told|tells?|telling": "describe, report, message, name; for 'told apart', distinguish",
    r"taker|takers": "the name of the thing, such as selector or batch",
    r"(?:is|are|was|were|be|been) taken(?! from)": "accepted, read, used, selected",
    r"so (?:many|much|often)": "the number and its unit: 'Maximum records per batch.'",
    r"stands?|stood": "is, means, matches",
    r"whoever": "name the role: caller, client, user",
    r"nobody|somebody": "name the role, or say 'unknown', 'no caller', 'another process'",
    r"anew": "again, or a verb with re-",
    r"for ever": "until it is cancelled, permanently",
    r"patience": "timeout, deadline, interval",
    r"deeds?": "change, call",
    r"of one's own|one's own": "own, custom, separate",
    r"lets? go(?: of)?": "release, close, trim, evict",
    r"(?<!there )is no (?!longer|more|less|other)\w+": "is not a …",
}
_WORDS = {re.compile(rf"\b(?:{word})\b", re.IGNORECASE): use for word, use in WORDS.items()}
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"`[^`\n]*`")


@cache
def files() -> tuple[Path, ...]:
    """Returns the committed and new files to check."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *CHECKED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return tuple(p for p in map(Path, listed) if p.suffix in SUFFIXES and (ROOT / p).is_file())


def without_quotations(text: str) -> str:
    """Returns Markdown with spaces in place of code: commands and output are not prose."""
    for pattern in (_FENCED, _QUOTED):
        text = pattern.sub(lambda found: re.sub(r"\S", " ", found[0]), text)
    return text


def findings(text: str) -> Iterator[tuple[int, str, str]]:
    """Yields line number, word and replacement of each word to avoid."""
    for recorded in RECORDED:
        text = text.replace(recorded, "")
    for number, line in enumerate(text.splitlines(), 1):
        spaced = line.replace("_", " ")
        for pattern, replacement in _WORDS.items():
            for found in pattern.finditer(spaced):
                yield number, found[0], replacement


def test_no_file_has_words_to_avoid() -> None:
    found = []
    for path in files():
        text = (ROOT / path).read_text()
        text = without_quotations(text) if path.suffix == ".md" else text
        found += [f"{path}:{n}: {word!r}: write {use}" for n, word, use in findings(text)]
    assert found == [], "\n".join(found)


def test_the_files_are_found() -> None:
    assert len(files()) > 150
    assert Path("src/opentrail/core/event.py") in files()
    assert Path("README.md") in files()


def test_no_file_has_a_common_misspelling() -> None:
    """scripts/check_prose.sh, which takes longer, finds words that are in no dictionary."""
    done = subprocess.run(
        [sys.executable, "-m", "codespell_lib", *map(str, files())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("#: At most so many are read.", "so many"),
        ("advance: is told of each batch", "told"),
        ("def tell_unknown_types() -> None:", "tell"),
        ("told = orjson.loads(line)", "told"),
        ("Nobody knows where it ended.", "Nobody"),
        ('raise UsageError(f"{path} is no folder")', "is no folder"),
        ("records that are taken in groups", "are taken"),
        ("the bucket behind which it stands", "stands"),
        ("signing anew", "anew"),
    ],
)
def test_a_word_to_avoid_is_found(text: str, word: str) -> None:
    assert [found for _, found, _ in findings(text)] == [word]


@pytest.mark.parametrize(
    "text",
    [
        "there is no upstream",
        "it is no longer read",
        "the call may have taken effect",
        "keys are taken from the file",
        "understand, outstanding, standard, teller",
        'labels("taken")',
        "as long as the server runs",
    ],
)
def test_other_words_are_not_found(text: str) -> None:
    assert list(findings(text)) == []


def test_code_in_markdown_is_not_prose() -> None:
    text = "told `told`\n```\n$ tell\n```\nanew"
    assert [(n, word) for n, word, _ in findings(without_quotations(text))] == [
        (1, "told"),
        (5, "anew"),
    ]


def class_names() -> dict[str, set[str]]:
    """Returns the modules of each public class."""
    modules = defaultdict(set)
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].add(str(path.relative_to(ROOT)))
    return modules


def test_docstrings_name_the_action_directly() -> None:
    """`Reloads the certificate`, not `Has every process read the certificate again`."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    strays = [
        (str(file), node.name)
        for file in files()
        if file.suffix == ".py"
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, kinds) and re.match(r"Has |Have ", ast.get_docstring(node) or "")
    ]
    assert strays == []


_LIMIT = re.compile(r"^_?(?:MOST|LONGEST|LARGEST|LEAST|FEWEST|SHORTEST|DEEPEST)(?:_|$)")


def test_limits_are_named_max_and_min() -> None:
    strays = [
        (str(file), node.id)
        for file in files()
        if file.suffix == ".py"
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, ast.Name) and _LIMIT.match(node.id)
    ]
    assert strays == []


def test_no_two_public_classes_share_a_name() -> None:
    shared = {name: paths for name, paths in class_names().items() if len(paths) > 1}
    assert shared == {}
