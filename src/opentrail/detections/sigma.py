"""Reads Sigma rules, and compiles them to ours. This module alone needs pySigma."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import yaml
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.correlations import SigmaCorrelationConditionOperator, SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule
from sigma.types import (
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SigmaTimestampPart,
    SpecialChars,
)

from opentrail.core.errors import UsageError
from opentrail.core.event import Json
from opentrail.core.expression import literal
from opentrail.detections.matching import compiled
from opentrail.detections.possible import impossible
from opentrail.detections.rules import (
    LEVELS,
    MAX_CONDITION_DEPTH,
    MAX_SOURCE_BYTES,
    AllOf,
    AnyOf,
    Compared,
    Condition,
    Correlation,
    DetectionRule,
    Exists,
    InNetwork,
    Like,
    Matches,
    Negation,
    OneOf,
    RuleSelection,
    RuleSet,
    SameAs,
    rule_of,
)

_SUFFIXES = (".yml", ".yaml")
#: Maximum bytes of a file.
_MAX_FILE_BYTES = 1024 * 1024
_OPERATORS: dict[str, Literal["<", "<=", ">", ">="]] = {
    "LT": "<",
    "LTE": "<=",
    "GT": ">",
    "GTE": ">=",
}
_CORRELATIONS = ("event_count", "value_count", "temporal")


class Document(NamedTuple):
    """One document of YAML."""

    members: Json
    source: str


def read_rules(paths: Iterable[Path]) -> RuleSet:
    """Returns the Sigma rules in files, and in all files of folders that end with .yml or .yaml.

    Raises:
        UsageError: a file or folder cannot be read, or there are no rules.
    """
    found = RuleSet()
    documents: dict[str, Document] = {}
    for path in paths:
        for file in _files_in(path):
            _read(_text_of(file), str(file), file.stem, documents, found)
    return _compile(documents, found, ", ".join(map(str, paths)))


def read_text(text: str) -> RuleSet:
    """Returns the Sigma rules in YAML.

    Raises:
        UsageError: there are none.
    """
    found = RuleSet()
    documents: dict[str, Document] = {}
    _read(text, "the text", "rule", documents, found)
    return _compile(documents, found, "the text")


def _compile(documents: dict[str, Document], found: RuleSet, place: str) -> RuleSet:
    """Compiles the rules in documents and adds them to a rule set."""
    rules: dict[str, DetectionRule] = {}
    selections: dict[str, RuleSelection] = {}
    # Rules on single events first, since correlations refer to them by name or id.
    ordered = sorted(documents.items(), key=lambda item: "correlation" in item[1].members)
    for name, (document, source) in ordered:
        try:
            if "correlation" in document:
                rule, are_single = _correlation_of(name, document, selections)
                parts = {documents[each.name].source: None for each in rule.selections}
                source = "---\n".join([*parts, source])
                if not are_single:
                    for selection in rule.selections:
                        rules.pop(selection.name, None)
            else:
                rule = _rule_of(name, document, found)
                [selection] = rule.selections
                selections |= dict.fromkeys((name, rule.id), selection)
            rules[name] = msgspec.structs.replace(rule, source=source)
        except (SigmaError, UsageError) as error:
            found.refused[name] = str(error)
        except RecursionError:
            found.refused[name] = f"it is nested more than {MAX_CONDITION_DEPTH} levels deep"
    found.rules = list(rules.values())
    if not documents and not found.refused:
        raise UsageError(f"there are no Sigma rules in {place}")
    return found


def _files_in(path: Path) -> Sequence[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES)
    return [path]


def _text_of(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_FILE_BYTES:
        raise UsageError(f"{file} has more than {_MAX_FILE_BYTES} bytes")
    return content


class _Loader(yaml.SafeLoader):
    """Loads YAML without aliases, which could expand a short file without end."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.get_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(None, None, "aliases are not supported", event.start_mark)
        return super().compose_node(parent, index)

    def construct_scalar(self, node: Any) -> Any:
        """Joins the two escapes that JSON has for a character such as an emoji."""
        text = super().construct_scalar(node)
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError as error:
            message = "a string has half of a surrogate pair"
            raise yaml.MarkedYAMLError(None, None, message, node.start_mark) from error


def _documents_in(content: bytes | str) -> Iterator[tuple[Any, str]]:
    """Yields the documents of YAML, each with its text."""
    text = content if isinstance(content, str) else content.decode("utf-8-sig")
    loader = _Loader(text)
    while loader.check_node():
        node: Any = loader.get_node()
        begin, end = node.start_mark.index, node.end_mark.index
        yield loader.construct_document(node), text[begin:end].rstrip() + "\n"


def _read(
    content: bytes | str, place: str, stem: str, documents: dict[str, Document], found: RuleSet
) -> None:
    """Adds the documents in YAML by the names of their rules."""
    try:
        parts = [part for part in _documents_in(content) if part[0] is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        found.refused[place] = f"it is not YAML: {' '.join(str(error).split())}"
        return
    for part, source in parts:
        if not isinstance(part, dict):
            found.refused[place] = "a rule must be a mapping of members such as title"
            continue
        # Before pySigma parses it, whose time grows with the square of a condition.
        size = len(yaml.safe_dump(part).encode())
        if size > MAX_SOURCE_BYTES:
            title = str(part.get("title"))[:128]
            reason = f"it must have at most {MAX_SOURCE_BYTES} bytes, not {size}"
            found.refused[f"{title} in {place}"] = reason
            continue
        text = part.get("name") or (stem if len(parts) == 1 else part.get("title"))
        name = re.sub(r"[^A-Za-z0-9_.]+", "-", str(text or stem)).strip("-._")[:128]
        if name in documents:
            found.refused[f"{name} in {place}"] = "there is another rule of this name"
        else:
            documents[name or "rule"] = Document(part, source)


def _rule_of(name: str, document: Json, found: RuleSet) -> DetectionRule:
    """Returns the rule on single events in a document.

    Raises:
        SigmaError, UsageError: it is not valid, or can never match.
    """
    if "action" in document or "filter" in document:
        raise UsageError(
            "it is not a rule: collections with 'action' and filters are not supported"
        )
    sigma = _parsed(SigmaRule, document)
    source = sigma.logsource
    if (source.product, source.service) != ("aws", "cloudtrail"):
        raise UsageError(
            "its logsource must have product aws and service cloudtrail, not "
            f"product {source.product}, service {source.service}"
        )
    try:
        parsed = [condition.parsed for condition in sigma.detection.parsed_condition]
    except SigmaError as error:
        old = any("|" in str(text) for text in sigma.detection.condition)
        hint = "old aggregation syntax: write a correlation instead" if old else str(error)
        raise UsageError(hint) from error
    conditions = [_condition(part) for part in parsed]
    condition = conditions[0] if len(conditions) == 1 else AnyOf(tuple(conditions))
    warnings: list[str] = []
    if reasons := impossible(condition, warnings):
        raise UsageError(f"it can never match: {'; '.join(dict.fromkeys(reasons))}")
    if warnings:
        found.warnings[name] = list(dict.fromkeys(warnings))
    compiled(condition)  # regular expressions are checked here, not in the server
    return _checked(_described(name, sigma, condition=condition))


def _parsed(kind: Any, document: Json) -> Any:
    """Returns a rule of pySigma.

    Raises:
        SigmaError: it is not valid.
        UsageError: it has another shape than a rule, which pySigma does not check.
    """
    try:
        rule = kind.from_dict(document, collect_errors=True)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"it is not a Sigma rule: {error}") from error
    if rule.errors:
        raise UsageError("; ".join(str(error) for error in rule.errors))
    return rule


def _described(name: str, sigma: Any, **of_rule: Any) -> DetectionRule:
    return DetectionRule(
        name,
        str(sigma.title),
        next((level for level in LEVELS if level == str(sigma.level).lower()), "medium"),
        str(sigma.id or ""),
        str(sigma.author or ""),
        str(sigma.description or "").strip()[:2_000],
        tuple(str(tag) for tag in sigma.tags),
        tuple(str(reference) for reference in sigma.references or ())[:20],
        falsepositives=tuple(str(each)[:500] for each in sigma.falsepositives or ())[:20],
        **of_rule,
    )


def _checked(rule: DetectionRule) -> DetectionRule:
    return rule_of(msgspec.to_builtins(rule))


# Correlations


def _correlation_of(
    name: str, document: Json, selections: dict[str, RuleSelection]
) -> tuple[DetectionRule, bool]:
    """Returns the correlation in a document, and whether its rules also match alone.

    Raises:
        SigmaError, UsageError: it is not valid.
    """
    sigma = _parsed(SigmaCorrelationRule, document)
    kind = sigma.type.name.lower()
    if kind not in _CORRELATIONS:
        supported = ", ".join(_CORRELATIONS)
        raise UsageError(f"correlations of type {kind} are not supported, only {supported}")
    references = [reference.reference for reference in sigma.rules]
    aliases = {alias.alias: alias.mapping for alias in sigma.aliases}
    parts = []
    for reference in references:
        if reference not in selections:
            raise UsageError(f"there is no valid rule {reference!r} on single events for it")
        fields = []
        for group_field in sigma.group_by or ():
            mapping = {ref.reference: text for ref, text in aliases.get(group_field, {}).items()}
            fields.append(_known(mapping.get(reference, group_field)))
        selection = selections[reference]
        parts.append(RuleSelection(selection.name, selection.condition, tuple(fields)))
    counted, count = None, len({part.name for part in parts})
    if kind != "temporal":
        count = _count_of(sigma.condition)
    if kind == "value_count":
        counted = sigma.condition.fieldref
        if not isinstance(counted, str):
            raise UsageError(f"condition must have one field, not {counted!r}")
        _known(counted)
    correlation = Correlation(kind, tuple(parts), sigma.timespan.seconds, count, counted)
    return _checked(_described(name, sigma, correlation=correlation)), bool(sigma.generate)


def _known(field_name: str) -> str:
    """Returns a field that records have; raises `UsageError` for others."""
    if reasons := impossible(Exists(field_name), []):
        raise UsageError(f"it can never match: {reasons[0]}")
    return field_name


def _count_of(condition: Any) -> int:
    operator = condition.op
    if not isinstance(condition.count, int) or operator not in (
        SigmaCorrelationConditionOperator.GT,
        SigmaCorrelationConditionOperator.GTE,
    ):
        raise UsageError("the condition of a correlation must be gte or gt a whole number")
    return condition.count + (operator is SigmaCorrelationConditionOperator.GT)


# Conditions


def _condition(part: Any) -> Condition:
    match part:
        case ConditionAND():
            return AllOf(tuple(map(_condition, part.args)))
        case ConditionOR():
            return _any_of([_condition(argument) for argument in part.args])
        case ConditionNOT():
            return Negation(_condition(part.args[0]))
        case ConditionFieldEqualsValueExpression():
            return _comparison(str(part.field), part.value)
        case ConditionValueExpression():
            return _keyword(part.value)
    raise UsageError(f"conditions such as {type(part).__name__} are not supported")


def _any_of(parts: Sequence[Condition]) -> Condition:
    """Returns a condition of alternatives; values of one field become one comparison."""
    by_field: dict[str, list[str]] = {}
    others: list[Condition] = []
    for part in parts:
        if isinstance(part, OneOf):
            by_field.setdefault(part.field, []).extend(part.values)
        else:
            others.append(part)
    merged = [OneOf(name, tuple(dict.fromkeys(values))) for name, values in by_field.items()]
    both = (*merged, *others)
    return both[0] if len(both) == 1 else AnyOf(both)


def _comparison(name: str, value: Any) -> Condition:
    match value:
        case SigmaString():
            return _string(name, value)
        case SigmaNumber() | SigmaCompareExpression():
            return _number(name, value)
        case SigmaBool():
            return OneOf(name, ("true" if value.boolean else "false",))
        case SigmaNull():
            return Negation(Exists(name))
        case SigmaExists():
            there = Exists(name, or_null=True)
            return there if value.exists else Negation(there)
        case SigmaCIDRExpression():
            return InNetwork(name, str(value.network))
        case SigmaFieldReference():
            return _reference(name, value)
        case SigmaRegularExpression():
            flags = "".join(sorted(value.sigma_to_re_flag[flag] for flag in value.flags))
            text = value.regexp.to_plain()
            return Matches(name, f"(?{flags}){text}" if flags else text)
        case SigmaExpansion():
            return _any_of([_comparison(name, one) for one in value.values])
    raise UsageError(f"values such as {type(value).__name__} of {name} are not supported")


def _string(name: str, value: SigmaString) -> Condition:
    pattern = _pattern(value)
    if isinstance(value, SigmaCasedString):
        return Like(pattern, name, cased=True)
    if any(isinstance(part, SpecialChars) for part in value.s):
        return Like(pattern, name)
    return OneOf(name, ("".join(map(str, value.s)),))


def _number(name: str, value: SigmaNumber | SigmaCompareExpression) -> Condition:
    if isinstance(value, SigmaTimestampPart):
        raise UsageError("the modifiers minute, hour, day, week, month, year are not supported")
    if isinstance(value, SigmaNumber):
        return Compared(name, "=", float(value.number))
    if isinstance(value.number, SigmaTimestampPart) or value.op.name not in _OPERATORS:
        raise UsageError(f"the comparison {value.op.name.lower()} of {name} is not supported")
    return Compared(name, _OPERATORS[value.op.name], float(value.number.number))


def _reference(name: str, value: SigmaFieldReference) -> Condition:
    if value.starts_with and value.ends_with:
        raise UsageError("fieldref with contains is not supported")
    if value.starts_with:
        return SameAs(name, value.field, "starts")
    return SameAs(name, value.field, "ends" if value.ends_with else "equals")


def _keyword(value: Any) -> Condition:
    """Returns a condition that some value of a record contains a keyword."""
    if isinstance(value, SigmaNumber):
        value = SigmaString(str(value.number))
    if not isinstance(value, SigmaString):
        raise UsageError(f"keywords such as {type(value).__name__} are not supported")
    return Like(f"*{_pattern(value)}*", cased=isinstance(value, SigmaCasedString))


def _pattern(value: SigmaString) -> str:
    parts = []
    for part in value.s:
        if isinstance(part, str):
            parts.append(literal(part))
        elif isinstance(part, SpecialChars):
            parts.append("*" if part is SpecialChars.WILDCARD_MULTI else "?")
        else:
            raise UsageError("placeholders (the modifier expand) are not supported")
    return "".join(parts)
