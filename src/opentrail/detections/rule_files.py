"""Reads rules: files of Sigma rules, which need pySigma, YAML strings, or the starter rules.

opentrail ships starter rules, all disabled by default.

`starter/` has each starter rule as Sigma, and all compiled in `compiled.json`, so that using them
takes no pySigma.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from opentrail.core.errors import UsageError
from opentrail.core.version import command_for
from opentrail.detections.rules import DetectionRule, RuleSet


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
    """Returns the rules in Sigma's YAML.

    Raises:
        UsageError: there are no rules, or pySigma is not installed.
    """
    found: RuleSet = _sigma().read_text(text)
    return found


def located(text: str, reason: str) -> str:
    r"""Returns the reason to refuse a file's text, with the line of the reason's quotation.

    >>> located("title: x\nlevel: high\nlevle: low", "there is no 'levle'")
    "line 3: there is no 'levle'"
    """
    if ", line " in reason:
        return reason  # the YAML reader has named the line
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


#: Prefix of starter rules where commands take a file of rules.
PREFIX = "starter:"
_ALL = "all"


@cache
def starter_rules() -> Mapping[str, DetectionRule]:
    """Returns the starter rules by name, in order of their names."""
    folder = files("opentrail.detections").joinpath("starter")
    compiled = folder.joinpath("compiled.json").read_bytes()
    rules = msgspec.json.decode(compiled, type=list[DetectionRule])
    return MappingProxyType(
        {
            rule.name: msgspec.structs.replace(
                rule, source=folder.joinpath(f"{rule.name}.yml").read_text(encoding="utf-8")
            )
            for rule in rules
        }
    )


def starter_rule(name: str) -> DetectionRule:
    """Returns a starter rule.

    Raises:
        UsageError: no starter rule has this name.
    """
    rule = starter_rules().get(name)
    if rule is None:
        message = f"there is no starter rule {name!r}; 'opentrail detections starter' lists them"
        raise UsageError(message)
    return rule


def chosen(name: str) -> Sequence[DetectionRule]:
    """Returns the starter rule of this name, or for `all` each of them.

    Raises:
        UsageError: as `starter_rule`.
    """
    return [*starter_rules().values()] if name == _ALL else [starter_rule(name)]


def technique_of(rule: DetectionRule) -> str:
    """Returns the MITRE ATT&CK techniques that a rule's tags name.

    >>> technique_of(DetectionRule("r", "R", tags=("attack.impact", "attack.t1562.008")))
    'T1562.008'
    """
    names = [tag.removeprefix("attack.") for tag in rule.tags]
    return ", ".join(name.upper() for name in names if name[:1] == "t" and name[1:2].isdigit())
