"""Sample queries over `event_history`."""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Sample(NamedTuple):
    """A sample query."""

    name: str
    description: str
    statement: str


def _read(text: str) -> tuple[Sample, ...]:
    """Returns the samples of a file: `-- NAME: DESCRIPTION`, a statement and a semicolon."""
    found = re.findall(r"^-- ([a-z-]+): (.+)\n((?:[^-\n].*\n)+?)(?<=;\n)", text, re.MULTILINE)
    return tuple(Sample(name, described, sql.rstrip(";\n")) for name, described, sql in found)


SAMPLES = _read(Path(__file__).with_name("samples.sql").read_text(encoding="utf-8"))


def search(phrase: str) -> list[tuple[Sample, float]]:
    """Returns the samples that share words with a phrase, most relevant first.

    The relevance is a number of at most 1. Rare words count more than frequent ones.
    """
    words, (known, counts) = _words(phrase), _known_words()
    weights = {word: math.log((len(SAMPLES) + 1) / counts[word]) for word in words & counts.keys()}
    unknown = math.log(len(SAMPLES) + 1) * len(words - counts.keys())
    total = sum(weights.values()) + unknown
    scored = [
        (sample, round(sum(weights.get(word, 0) for word in known[sample.name]) / total, 3))
        for sample in SAMPLES
        if total
    ]
    found = [(sample, score) for sample, score in scored if score > 0]
    return sorted(found, key=lambda pair: -pair[1])


def _words(text: str) -> set[str]:
    """Returns the words of a text in lower case, without plural endings and frequent words."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    found = {word.lower() for word in re.findall(r"[A-Za-z0-9]+", spaced)}
    return {re.sub(r"(?<=\w\w\w)s\Z", "", word) for word in found - _FREQUENT}


_FREQUENT = frozenset(
    [
        *("a", "all", "an", "and", "are", "by", "did", "do", "for", "from", "get", "has", "have"),
        *("how", "i", "in", "is", "it", "list", "me", "my", "of", "on", "or", "per"),
        *("show", "that", "the", "their", "this", "to", "was", "were", "what", "when", "which"),
        *("who", "with"),
    ]
)


@cache
def _known_words() -> tuple[dict[str, set[str]], Counter[str]]:
    """Returns the words of each sample by its name, and the number of samples with each word.

    These are the words of the name, the description and the statement's strings.
    """
    known = {
        sample.name: _words(
            " ".join([sample.name, sample.description, *re.findall(r"'([^']*)'", sample.statement)])
        )
        for sample in SAMPLES
    }
    return known, Counter(word for words in known.values() for word in words)
