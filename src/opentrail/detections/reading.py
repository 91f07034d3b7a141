"""Reads rules: files of Sigma rules, which need pySigma, a text, or starter rules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opentrail.core.errors import UsageError
from opentrail.detections.rules import RuleSet
from opentrail.detections.starter_rules import PREFIX, chosen
from opentrail.installation import command_for


def read(names: Sequence[str]) -> RuleSet:
    """Returns the rules in files, folders, and of `starter:NAME`.

    Raises:
        UsageError: a file cannot be read, there are no rules, or pySigma is not installed.
    """
    paths = [Path(name) for name in names if not name.startswith(PREFIX)]
    found: RuleSet = _sigma().read_rules(paths) if paths else RuleSet()
    for name in names:
        if name.startswith(PREFIX):
            found.rules.extend(chosen(name.removeprefix(PREFIX)))
    return found


def read_text(text: str) -> RuleSet:
    """Returns the rules in a text of Sigma.

    Raises:
        UsageError: there are no rules, or pySigma is not installed.
    """
    found: RuleSet = _sigma().read_text(text)
    return found


def located(text: str, reason: str) -> str:
    r"""Returns why a text is refused, with the line of what the reason quotes.

    >>> located("title: x\nlevel: high\nlevle: low", "there is no 'levle'")
    "line 3: there is no 'levle'"
    """
    if ", line " in reason:
        return reason  # the reader of YAML says where
    for quoted in re.findall(r"'([^']+)'", reason):
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(rf"(?<!\w){re.escape(quoted)}(?!\w)", line):
                return f"line {number}: {reason}"
    return reason


def _sigma() -> Any:
    try:
        from opentrail.detections import sigma
    except ImportError as error:
        raise UsageError(f"Sigma rules need pySigma: {command_for('detections')}") from error
    return sigma
