"""Secrets in strings that hold JSON, XML, forms, URLs, or base64 of these (guarantee S4).

A string without secrets is returned unchanged.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import sys
import zlib
from collections.abc import Container, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape, unescape
from itertools import pairwise
from typing import Any
from urllib.parse import quote, unquote

import orjson

from opentrail.capture.record_limits import MAX_OBJECT_BYTES, MAX_SEARCHED_LENGTH
from opentrail.capture.redaction.command_text import (
    may_command,
    without_command_secrets,
    without_logins,
    without_paired_fields,
)
from opentrail.capture.redaction.secret_names import (
    HIDDEN,
    hidden_members,
    names_environment,
    naming_members,
    placeholder_for,
    sounds_secret,
)
from opentrail.capture.redaction.yaml_text import hidden_defaults, without_yaml_secrets

#: Levels of strings within strings; deeper ones are hidden.
_MAX_DEPTH = 4
#: Characters; shorter strings are too short for a name and a secret.
_MIN_LENGTH = 8
#: Characters; longer strings are not recorded: their object is left out (`limits.encode_record`).
_MAX_LENGTH = MAX_OBJECT_BYTES
#: First two letters of base64 of a string that begins with a brace, a bracket or `<`.
_ENCODED = frozenset(
    first + second
    for first, seconds in (("e", "wxyz0123"), ("W", "wxyz0123"), ("P", "ABCDEFGH"))
    for second in seconds
)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{12,}+={0,2}\s*+|[A-Za-z0-9_-]{12,}={0,2}")
#: Other text is base64 only if it is longer than most names and has a length that base64 can have.
_MIN_OTHER_BASE64 = 24
_OTHER_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]++={0,2}[\r\n]*+")
_GZIP = b"\x1f\x8b"
_MAX_UNPACKED_BYTES = 256 * 1024
#: A signed token of three parts, which is a credential (RFC 7519).
_TOKEN = re.compile(r"(?<![\w-])((?>[\w-]*?\b(?=eyJ)))[\w-]{11,}+\.[\w-]++\.[\w-]*+")
_BEARER = re.compile(r"\b(bearer|basic)(\s+)[\w.~+/=-]{6,}", re.I)
_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END|$)", re.DOTALL)
# Callers choose the texts, of up to a hundred kilobytes: each expression here takes a time that
# grows linearly with the length, so what repeats is possessive, limited, or begins in one place.
#: Possessive: otherwise each letter costs two hundred bytes of memory.
_QUOTED = r""""(?:[^"\\]++|\\.)*+"?|'(?:[^'\\]++|\\.)*+'?"""
#: A text member in JSON that is cut off or invalid.
_PAIR = re.compile(rf'"((?:[^"\\]|\\.){{0,100}}+)"(\s*+:\s*+)({_QUOTED}|[^\s,}}\]"\']+)')
_SLASHED = re.compile(r'(?<!\\)\\++"([\w.-]{1,100})\\+"\s*+:\s*+\\+"((?:[^"\\]++|\\\\.)*+)')
_CDATA = r"<!\[CDATA\[(?:[^\]<]++|\](?!\]>)|<(?!!\[CDATA\[))*+\]\]>"
_ELEMENT = re.compile(rf"<([\w:.-]++)((?:\s[^<>]*+)?)>(\s*+{_CDATA}|[^<]*+)")
_OPENING = re.compile(r"<([\w:.-]++)(?:\s[^<>]*+)?>")
_CLOSING = re.compile(r"</([\w:.-]++)\s*+>")
_ATTRIBUTE = re.compile(r"""(?<![\w:.-])([\w:.-]++)(\s*+=\s*+)("[^"]*"?|'[^']*'?)""")
#: Elements beside each other that hold only text.
_LEAF = re.compile(
    rf"<(?P<tag>[\w:.-]++)(?:\s[^<>]*+)?>(?P<text>(?:\s*+{_CDATA}\s*+|[^<]*+))</(?P=tag)\s*+>"
)
#: An element with others inside after an element that may be its name.
_NAMED_ELEMENT = re.compile(
    r"(<(?:\w++:)?(?P<naming>[\w.-]++)(?:\s[^<>]*+)?>(?P<name>[^<]*+)</[^<>]*+>\s*+"
    r"<(?P<tag>(?:\w++:)?(?P<named>[\w.-]++))(?:\s[^<>]*+)?>)(?=\s*+<[^/!]).*?(?=</(?P=tag)\s*>|$)",
    re.DOTALL,
)
_FIELD = re.compile(
    rf"""(^|[?&;#\s,({{:|`"'$])([\w.\[\]%-]{{1,100}})(\s?=\s?)({_QUOTED}|[^&;\s,"'<>]+)"""
)
#: A cookie header has many values.
_COOKIES = re.compile(rf"""{_QUOTED}|[^\r\n"']+""")
#: Where a JSON document may begin within a string.
_DOCUMENT = re.compile(r'[\[{]\s*["{\[]')
#: Maximum documents that are read in a string.
_MAX_DOCUMENTS = 32
_DECODER = json.JSONDecoder()
#: Characters that may still be searched within `search_limit`.
_unsearched = ContextVar("unsearched", default=sys.maxsize)
#: A name before a colon and a space, as in YAML; it may be quoted.
_LINE = re.compile(
    r"""(?:^|(?<=[\s,;{(\['"]))(['"]?)(?P<name>[\w.-]{1,100})\1\s*:(?:[ \t]+|(?=['"]))"""
)
#: The value after such a name: a YAML block, a quoted text, or a word.
_LINE_VALUE = re.compile(
    rf"(?:[!&]\S+[ \t]+)*+(?:[|>][-+\d]*[ \t]*\n(?:[ \t]+[^\n]*\n?|\n)++|{_QUOTED}|[^\s,;}}\"']+)"
)
_OPTION = re.compile(rf"(?<!-)(--[\w-]{{1,100}}+)(\s++)({_QUOTED}|[^\s-]\S*)")
#: Parameters of a URL that hold its signature.
_SIGNATURES = frozenset({"signature", "x-amz-signature"})
#: What a colon is part of where it may separate a name from a secret.
_COLONS = (": ", ":\n", "://", '":', "':", "jdbc:", "JDBC:")
#: Percent-encoded braces, quotes, equals signs, angle brackets, percent signs, colons, blanks, ends
#: of lines, and `@`.
_ESCAPED = re.compile(r"%(?:7B|22|3D|3C|25|3A|20|0A|40)", re.I)


def redact(text: str) -> str:
    """Returns a string without the secrets of the document that it is, or holds.

    >>> redact('{"user":"a","password":"hunter2"}')
    '{"user":"a","password":"HIDDEN_DUE_TO_SECURITY_REASONS"}'
    >>> redact("https://host/?X-Amz-Signature=abc&a=b")
    'https://host/?X-Amz-Signature=HIDDEN_DUE_TO_SECURITY_REASONS&a=b'
    """
    length = len(text)
    if length < _MIN_OTHER_BASE64 and (length < _MIN_LENGTH or text.isalnum()):
        # Most strings are names.
        return _redact(text, 0) if text[:2] in _ENCODED else text
    if length > _MAX_LENGTH or not _may_hold_more(text):
        return text
    return _redact(text, 0)


def _may_hold_more(text: str) -> bool:
    """Returns whether a string may be more than a name; a quick check, since most are names."""
    if "=" in text or "%" in text or text[0] in "{[<\"'\ufeff\r\n\t ":
        return True
    if ":" in text and any(mark in text for mark in _COLONS):
        return True
    if "</" in text:
        return True
    if " " in text and ("--" in text or "earer " in text or "asic " in text or may_command(text)):
        return True
    return "eyJ" in text or _is_base64(text)


def _is_base64(text: str) -> bool:
    if text[:2] in _ENCODED:
        return _BASE64.fullmatch(text) is not None
    if len(text) < _MIN_OTHER_BASE64 or _OTHER_BASE64.fullmatch(text) is None:
        return False
    return (len(text) - text.count("\n") - text.count("\r")) % 4 == 0


@contextmanager
def search_limit() -> Iterator[None]:
    """Limits how much is searched for secrets, since one call may hold thousands of long texts.

    Texts beyond `MAX_SEARCHED_LENGTH` are hidden as a whole.
    """
    token = _unsearched.set(MAX_SEARCHED_LENGTH)
    try:
        yield
    finally:
        _unsearched.reset(token)


def _redact(text: str, depth: int) -> str:
    left = _unsearched.get() - len(text)
    if depth > _MAX_DEPTH or left < 0:
        return HIDDEN
    _unsearched.set(left)
    bare = text.strip().removeprefix("\ufeff")
    if bare[:1] in ("{", "["):
        return _in_json(text, bare, depth)
    if bare[:1] == "<":
        return _in_xml(text, depth)
    if bare[:1] == '"' and (redacted := _in_json_text(bare, depth)) is not None:
        return redacted
    if _is_base64(bare):
        return _in_base64(text, depth)
    return _in_plain(text, depth)


def _in_plain(text: str, depth: int) -> str:
    """Returns a string that is not a document without the secrets that it names."""
    text = _without_tokens(text)
    if '"' in text and ("{" in text or "[" in text):
        text = _in_json_parts(text, depth)
    if "</" in text:
        text = _in_xml(text, depth)
    if "\\" in text:
        text = _SLASHED.sub(_slashed, text)
    if '"' in text:
        text = _PAIR.sub(_pair, text)
    if ":" in text:
        text = _in_lines(without_yaml_secrets(text))
    if "--" in text:
        text = _OPTION.sub(_option, text)
    if " " in text:
        text = without_command_secrets(text)
    if "=" in text:
        text = without_paired_fields(text)
        text = _FIELD.sub(lambda match: _field(match, depth), text)
    else:
        text = _in_escapes(text, depth)
    if "&lt;" in text:
        plain = unescape(text)
        redacted = _redact(plain, depth + 1)
        text = text if redacted == plain else escape(redacted)
    return without_logins(text)


def _without_tokens(text: str) -> str:
    """Returns a string without tokens and private keys, whatever their name."""
    if "eyJ" in text:
        text = _TOKEN.sub(rf"\1{HIDDEN}", text)
    if "PRIVATE KEY" in text:
        text = _PRIVATE_KEY.sub(rf"\g<1>{HIDDEN}\g<2>", text)
    if "earer " in text or "asic " in text:
        text = _BEARER.sub(rf"\g<1>\g<2>{HIDDEN}", text)
    return text


def _in_escapes(text: str, depth: int) -> str:
    """Returns a percent-encoded text without its secrets."""
    if _ESCAPED.search(text) is None:
        return text
    plain = unquote(text)
    redacted = _redact(plain, depth + 1)
    return text if redacted == plain else quote(redacted)


def _in_json(text: str, bare: str, depth: int) -> str:
    try:
        value = orjson.loads(bare)
    except orjson.JSONDecodeError:
        return _in_plain(text, depth)
    redacted = without_secrets(value, depth)
    return text if redacted == value else orjson.dumps(redacted).decode()


def _in_json_parts(text: str, depth: int) -> str:
    """Returns a string without the secrets of the JSON documents within it."""
    parts, end, documents_left = [], 0, _MAX_DOCUMENTS
    for match in _DOCUMENT.finditer(text):
        if match.start() < end:
            continue
        if not documents_left:
            break
        documents_left -= 1
        try:
            value, after = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        redacted = without_secrets(value, depth)
        part = text[match.start() : after] if redacted == value else json.dumps(redacted)
        parts += [text[end : match.start()], part]
        end = after
    return "".join((*parts, text[end:]))


def _in_json_text(bare: str, depth: int) -> str | None:
    """Returns a quoted JSON string without its secrets, None if it is not one."""
    try:
        value = orjson.loads(bare)
    except orjson.JSONDecodeError:
        return None
    redacted = _redact(value, depth + 1)
    return None if redacted == value else orjson.dumps(redacted).decode()


def without_secrets(value: Any, depth: int = 0) -> Any:
    """Returns a JSON value without secrets: those with a secret's name, and those in strings."""
    if isinstance(value, dict):
        hidden = {*hidden_members(value), *hidden_defaults(value)}
        return {
            name: HIDDEN
            if (name in hidden or sounds_secret(name)) and not isinstance(item, bool | None)
            else without_secrets(without_variables(name, item), depth)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(item, depth) for item in without_option_values(value)]
    if isinstance(value, str) and len(value) >= _MIN_LENGTH and _may_hold_more(value):
        return _redact(value, depth + 1)
    return value


def without_variables(name: str, value: Any) -> Any:
    """Returns a JSON value, or its text, without the values of environment variables.

    Their names are shown. A string such as `prod` is not an environment variable, whatever it is
    called.

    >>> without_variables("EnvironmentVariables", '[{"name": "A", "value": "b"}]')
    '[{"name":"A","value":"HIDDEN_DUE_TO_SECURITY_REASONS"}]'
    """
    if not names_environment(name):
        return value
    if isinstance(value, str):
        if value.lstrip()[:1] not in ("{", "["):
            return value
        try:
            parsed = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
        redacted = without_variables(name, parsed)
        return value if redacted == parsed else orjson.dumps(redacted).decode()
    if isinstance(value, list):
        return [_named_hidden(item) for item in value]
    if isinstance(value, dict):
        variables = next((key for key in value if key.lower() == "variables"), None)
        if variables is not None and isinstance(value[variables], dict):
            return {**value, variables: _hidden_texts(value[variables])}
        return _hidden_texts(value)
    return value


def _named_hidden(item: Any) -> Any:
    pair = naming_members(item) if isinstance(item, dict) else None
    return item if pair is None else {**item, **dict.fromkeys(pair[1], HIDDEN)}


def _hidden_texts(value: dict[str, Any]) -> dict[str, Any]:
    """Returns a map of strings with all of them hidden; other maps do not hold variables."""
    if not all(isinstance(item, str | int | float | None) for item in value.values()):
        return value
    return {name: HIDDEN if item is not None else None for name, item in value.items()}


def without_option_values(items: list[Any]) -> list[Any]:
    """Returns a command's arguments without the values of options that are secrets.

    >>> without_option_values(["login", "--password", "hunter2", "--user", "a"])
    ['login', '--password', 'HIDDEN_DUE_TO_SECURITY_REASONS', '--user', 'a']
    """
    if not any(isinstance(item, str) and item[:2] == "--" for item in items):
        return items
    return items[:1] + [
        HIDDEN if _is_option_value(item) and _is_secret_option(before) else item
        for before, item in pairwise(items)
    ]


def _is_option_value(item: Any) -> bool:
    if isinstance(item, str):
        return item[:1] != "-"
    return isinstance(item, int | float) and not isinstance(item, bool)


def _is_secret_option(item: Any) -> bool:
    if not isinstance(item, str) or item[:2] != "--" or "=" in item or " " in item:
        return False
    return sounds_secret(item.lstrip("-"))


def _pair(match: re.Match[str]) -> str:
    name, between, value = match.groups()
    if sounds_secret(name):
        return f'"{name}"{between}"{HIDDEN}"'
    return f'"{name}"{between}{value}'


def _slashed(match: re.Match[str]) -> str:
    text, (name, value) = match.group(), match.groups()
    return text.removesuffix(value) + HIDDEN if value and sounds_secret(name) else text


def _in_lines(text: str) -> str:
    """Returns a string without the values after names of secrets, as in YAML."""
    parts, end = [], 0
    for match in _LINE.finditer(text):
        if match.start() < end or not sounds_secret(match["name"]):
            continue
        is_cookie = match["name"].lower().endswith("cookie")
        value = (_COOKIES if is_cookie else _LINE_VALUE).match(text, match.end())
        if value is not None:
            parts += [text[end : match.end()], _like(value.group())]
            end = value.end()
    return "".join((*parts, text[end:]))


def _option(match: re.Match[str]) -> str:
    name, between, value = match.groups()
    return f"{name}{between}{_like(value) if sounds_secret(name.lstrip('-')) else value}"


def _like(value: str) -> str:
    """Returns the placeholder in the quotes of the value, at the end of a line as it was."""
    return placeholder_for(value) + ("\n" if value.endswith("\n") else "")


def _in_xml(text: str, depth: int) -> str:
    def element(match: re.Match[str]) -> str:
        tag, attributes, content = match.groups()
        attribute_values = {
            name: text[1:].removesuffix(text[0]) for name, _, text in _ATTRIBUTE.findall(attributes)
        }
        hidden = hidden_members({**attribute_values, "value": content})
        redacted_attributes = _ATTRIBUTE.sub(
            lambda attribute: _attribute(attribute, hidden), attributes
        )
        if content.strip():
            name = tag.rpartition(":")[2]
            content = HIDDEN if hidden or sounds_secret(name) else _redact(content, depth + 1)
        return f"<{tag}{redacted_attributes}>{content}"

    redacted = _NAMED_ELEMENT.sub(_named_element, _in_leaves(_ELEMENT.sub(element, text)))
    return _without_secret_elements(redacted)


def _without_secret_elements(text: str) -> str:
    """Returns XML without all that is inside elements with a secret's name."""
    parts, end = [], 0
    for match in _OPENING.finditer(text):
        tag = match[1]
        if match.start() < end or not sounds_secret(tag.rpartition(":")[2]):
            continue
        closings = _CLOSING.finditer(text, match.end())
        closing = next((closing for closing in closings if closing[1] == tag), None)
        parts += [text[end : match.end()], HIDDEN]
        end = len(text) if closing is None else closing.start()
    return "".join((*parts, text[end:]))


def _in_leaves(text: str) -> str:
    """Returns XML without the text of elements that an element beside them names as secret."""
    runs: list[list[re.Match[str]]] = []
    for match in _LEAF.finditer(text):
        if runs and not text[runs[-1][-1].end() : match.start()].strip():
            runs[-1].append(match)
        else:
            runs.append([match])
    parts, end = [], 0
    for leaf in [leaf for run in runs if len(run) > 1 for leaf in _hidden_leaves(run)]:
        parts += [text[end : leaf.start("text")], HIDDEN]
        end = leaf.end("text")
    return "".join((*parts, text[end:]))


def _hidden_leaves(leaves: list[re.Match[str]]) -> list[re.Match[str]]:
    texts = {leaf["tag"].rpartition(":")[2]: _plain_text(leaf["text"]) for leaf in leaves}
    hidden = hidden_members(texts)
    return [
        leaf
        for leaf in leaves
        if leaf["tag"].rpartition(":")[2] in hidden and _plain_text(leaf["text"])
    ]


def _plain_text(text: str) -> str:
    return unescape(text.strip().removeprefix("<![CDATA[").removesuffix("]]>")).strip()


def _named_element(match: re.Match[str]) -> str:
    hidden = hidden_members({match["naming"]: match["name"].strip(), match["named"]: ""})
    return f"{match[1]}{HIDDEN}" if hidden else match.group()


def _attribute(match: re.Match[str], hidden: Container[str]) -> str:
    name, between, _ = match.groups()
    return f'{name}{between}"{HIDDEN}"' if name in hidden or sounds_secret(name) else match.group()


def _in_base64(text: str, depth: int) -> str:
    packed = "".join(text.split())
    is_url_safe = "-" in packed or "_" in packed
    try:
        raw = base64.b64decode(
            packed + "=" * (-len(packed) % 4), b"-_" if is_url_safe else None, validate=True
        )
        if raw[:2] == _GZIP:
            unpacked = zlib.decompressobj(31).decompress(raw, _MAX_UNPACKED_BYTES)
            decoded = unpacked.decode("utf-8", "replace")
            return text if _redact(decoded, depth + 1) == decoded else HIDDEN
        decoded = raw.decode()
    except (binascii.Error, UnicodeDecodeError, zlib.error):
        return text
    redacted = _redact(decoded, depth + 1)
    if redacted == decoded:
        return text
    return base64.b64encode(redacted.encode(), b"-_" if is_url_safe else None).decode()


def _field(match: re.Match[str], depth: int) -> str:
    before, name, between, value = match.groups()
    plain = unquote(name) if "%" in name else name
    if sounds_secret(plain) or plain.lower() in _SIGNATURES:
        value = _like(value)
    else:
        if "=" in value and depth < _MAX_DEPTH:
            mark = value[:1] if value[:1] in "\"'" else ""
            inner = value.removeprefix(mark)
            value = mark + _FIELD.sub(lambda inner_match: _field(inner_match, depth + 1), inner)
        if "%" in value:
            value = _in_escapes(value, depth)
    return f"{before}{name}{between}{value}"
