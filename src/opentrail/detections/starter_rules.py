"""The starter rules: shipped with opentrail, none enabled by default.

`starter/` has each as Sigma, and all compiled in `compiled.json`, so that using them takes no
pySigma.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import msgspec

from opentrail.core.errors import UsageError
from opentrail.detections.rules import DetectionRule

#: Begins what commands take in place of a file of rules.
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
        UsageError: there is none with this name.
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
