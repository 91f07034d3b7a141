"""Template parameters: the template decides which are shown (cloudtrail-format §4.4).

AWS CloudFormation never shows a parameter with `NoEcho`. A value is shown only if the template is
in the same call, can be read and does not set `NoEcho`; otherwise all values are hidden.
"""

from __future__ import annotations

import re
from typing import Any

from opentrail.capture.record_rules import rules
from opentrail.core.event import Json
from opentrail.core.secrets.secret_names import HIDDEN, is_value
from opentrail.core.secrets.yaml_text import is_hushed, yaml_end, yaml_entries
from opentrail.wire.values import JsonDocument

_NO_ECHO = re.compile(r"""noecho["']?\s*:\s*["']?(\w*)""", re.I)
#: A key in flow style, and its possible prefix.
_FLOW_KEY = re.compile(r"""\s*(['"]?)([\w.:/-]{1,255}?)\1\s*:(?=[\s"'{\[])""")
#: A string in quotes, a bracket, a comma or the start of a comment.
_FLOW_TOKEN = re.compile(r"""(?<=[:,\[{\s])(?:"(?:[^"\\]|\\.)*"|'[^']*')|[{}\[\],]|\s\#""")
_SPACE = re.compile(r"\s*")


def has_template_parameters(source: str) -> bool:
    """Returns whether requests to a service may have template parameters."""
    return source in rules("redaction")["templates"]


def without_template_parameters(source: str, parameters: Json) -> Json:
    """Returns a request without the values of hidden template parameters.

    Args:
        source: the service, as in `[templates]` of redaction.toml.
        parameters: the parameters of the request by member.
    """
    table = rules("redaction")["templates"].get(source)
    if table is None or not isinstance(parameters, dict):
        return parameters
    names = [name for name in parameters if str(name).lower() == table["parameters"].lower()]
    if not names:
        return parameters
    echoed = _echoed(table, parameters)
    return {**parameters, **{name: _redact_unechoed(parameters[name], echoed) for name in names}}


def echoed_parameters(template: str) -> frozenset[str] | None:
    """Returns the parameters that a template shows; None if it cannot be read.

    >>> sorted(echoed_parameters("Parameters: {A: {Type: String}, B: {NoEcho: true}}"))
    ['A']
    """
    try:
        document = JsonDocument(template.encode())
    except ValueError:
        definitions = _of_yaml(template)
        if definitions is None:
            return None
        return frozenset(name for name, text in definitions.items() if _is_echoed(text))
    if document.duplicate_keys or not isinstance(document.value, dict):
        return None
    parameters = document.value.get("Parameters")
    if not isinstance(parameters, dict):
        return None
    return frozenset(
        name
        for name, definition in parameters.items()
        if isinstance(definition, dict)
        and not any(
            is_hushed(value) for key, value in definition.items() if key.lower() == "noecho"
        )
    )


def _echoed(table: Json, parameters: Json) -> frozenset[str]:
    """Returns the shown parameters of a call."""
    elsewhere = {name.lower() for name in table["elsewhere"]}
    if any(value for name, value in parameters.items() if name.lower() in elsewhere):
        return frozenset()
    template = parameters.get(table["template"])
    if not isinstance(template, str):
        return frozenset()
    try:
        return echoed_parameters(template) or frozenset()
    except RecursionError:
        return frozenset()


def _redact_unechoed(parameters: Any, echoed: frozenset[str]) -> Any:
    if not isinstance(parameters, list):
        return HIDDEN
    return [_shown_parameter(parameter, echoed) for parameter in parameters]


def _shown_parameter(parameter: Any, echoed: frozenset[str]) -> Any:
    if not isinstance(parameter, dict):
        return HIDDEN
    names = [value for name, value in parameter.items() if not is_value(str(name))]
    if any(isinstance(name, str) and name in echoed for name in names):
        return parameter
    return {
        name: HIDDEN if is_value(str(name)) and not isinstance(value, bool | None) else value
        for name, value in parameter.items()
    }


def _is_echoed(definition: str) -> bool:
    """Returns whether a parameter's definition in YAML certainly lets its value be seen."""
    if "<<" in definition or definition.lstrip()[:1] in ("*", "&", "!"):
        return False
    if re.search(r'"[^"\\\n]*+\\[^"\n]*+"\s*+:', definition):
        return False  # a key in another spelling
    flags = _NO_ECHO.findall(definition)
    return len(flags) == definition.lower().count("noecho") and all(
        value.lower() in ("false", "no") for value in flags
    )


def _of_yaml(template: str) -> dict[str, str] | None:
    """Returns the definitions of a template's parameters by name; None if unreadable."""
    try:
        if template.lstrip("\ufeff \t\r\n")[:1] == "{":
            return _flow_items(_flow_items(template.lstrip("\ufeff \t\r\n"))["Parameters"].strip())
        return _in_blocks(template)
    except (ValueError, KeyError):
        return None


def _in_blocks(template: str) -> dict[str, str]:
    """Returns the definitions of parameters in block-style YAML.

    Raises:
        ValueError: the form is unsupported.
    """
    lines = template.splitlines(keepends=True)
    top = [
        entry for entry in yaml_entries(lines) if entry.column == 0 and entry.name == "Parameters"
    ]
    if len(top) != 1:
        raise ValueError("no parameters, or more than once")
    section, end = top[0], yaml_end(lines, top[0])
    if section.value:
        rest = "".join((lines[section.line][section.start :], *lines[section.line + 1 : end]))
        return _flow_items(rest.strip())
    body = lines[section.line + 1 : end]
    entries = yaml_entries(body)
    column = entries[0].column if entries else 0
    children = {entry.line: entry for entry in entries if entry.column == column}
    definitions: dict[str, str] = {}
    for number, line in enumerate(body):
        text = line.strip()
        if not text or text[0] == "#":
            continue
        indent = len(line) - len(line.lstrip(" \t"))
        if indent < column or (indent == column and number not in children):
            raise ValueError("not a mapping")
        if number in children:
            child = children[number]
            if child.name in definitions:
                raise ValueError("a parameter twice")
            inside = "".join(body[number + 1 : yaml_end(body, child)])
            definitions[child.name] = f"{child.value}\n{inside}"
    return definitions


def _flow_items(text: str) -> dict[str, str]:
    """Returns the items of a map in flow style, with the text of each value.

    Raises:
        ValueError: it is not a map, or repeats a key.
    """
    if text[:1] != "{":
        raise ValueError("not a map")
    items: dict[str, str] = {}
    at = _after_space(text, 1)
    while text[at : at + 1] != "}":
        key = _FLOW_KEY.match(text, at)
        if key is None or key[2] in items:
            raise ValueError("not a key, or one twice")
        at = _value_end(text, key.end())
        items[key[2]] = text[key.end() : at]
        at = _after_space(text, at + (text[at] == ","))
    if text[at + 1 :].strip():
        raise ValueError("more than a map")
    return items


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match is not None else at


def _value_end(text: str, at: int) -> int:
    """Returns the end of a value in flow style: a comma or a brace outside it.

    Raises:
        ValueError: it does not end, or has a comment.
    """
    depth = 0
    for match in _FLOW_TOKEN.finditer(text, at):
        mark = match.group()
        if mark[-1] == "#":
            raise ValueError("a comment")
        if mark in "{[":
            depth += 1
        elif depth == 0 and mark in ",}]":
            return match.start()
        elif mark in "}]":
            depth -= 1
    raise ValueError("no end")
