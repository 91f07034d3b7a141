"""Secrets in strings that hold JSON, XML, forms, URLs, or base64 of these (guarantee S4).

A string without secrets is returned unchanged.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
import sys
import traceback
import zlib
from collections.abc import Callable, Container
from contextlib import ContextDecorator
from contextvars import ContextVar
from html import escape, unescape
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import orjson

from opentrail.core.event import Json
from opentrail.core.secrets.free_text import (
    may_hold_login,
    may_hold_text_secret,
    may_name_secret,
    without_argument_secrets,
    without_logins,
    without_text_secrets,
)
from opentrail.core.secrets.secret_names import (
    HIDDEN,
    hidden_members,
    means_secret,
    names_environment,
    naming_members,
    sounds_secret,
)
from opentrail.core.secrets.yaml_text import hidden_defaults, without_yaml_secrets
from opentrail.core.text import cached_if_short

log = logging.getLogger(__name__)

#: Maximum levels of nested strings; deeper ones are hidden.
_MAX_EMBEDDED_DEPTH = 4
#: Minimum characters of a string with room for a name and a secret.
_MIN_LENGTH = 8
#: Characters of a call's strings that are searched for secrets, counting nested strings at each
#: level; a record holds fewer.
MAX_SEARCHED_LENGTH = 512 * 1_024
#: Maximum characters of a recorded string; the object of a longer one is too large.
_MAX_LENGTH = 100 * 1_024
#: First two letters of base64 of a string that begins with a brace, a bracket or `<`.
_ENCODED = frozenset(
    first + second
    for first, seconds in (("e", "wxyz0123"), ("W", "wxyz0123"), ("P", "ABCDEFGH"))
    for second in seconds
)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{12,}+={0,2}\s*+|[A-Za-z0-9_-]{12,}={0,2}")
#: Other text is base64 only if it is longer than most names and has a valid length.
_MIN_OTHER_BASE64 = 24
_OTHER_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]++={0,2}[\r\n]*+")
_GZIP = b"\x1f\x8b"
_DOCUMENT_BEGINS = ("{", "[", "<", '"')
_MAX_UNPACKED_BYTES = 256 * 1024


class _Form(NamedTuple):
    """Secrets recognizable by their form, and marks, one of which each of them contains."""

    marks: tuple[str, ...]
    expression: re.Pattern[str]
    #: What replaces a match.
    shown: str


#: Beginnings of tokens, by marks that are in them.
_TOKENS: dict[str, tuple[str, ...]] = {
    "xox": tuple(f"xox{kind}-" for kind in "abcdeoprs"),
    "gh": ("github_pat_", *(f"gh{kind}_" for kind in "oprsu")),
    "gl": tuple(f"gl{kind}-" for kind in ("pat", "ptt", "dt", "rt", "cbt", "ft", "soat", "agent")),
    "_live_": ("sk_live_", "rk_live_"),
    "_test_": ("sk_test_", "rk_test_"),
    "shp": tuple(f"shp{kind}_" for kind in ("at", "ca", "pa", "ss")),
    "hv": ("hvs.", "hvb."),
    "sk-": ("sk-ant-", "sk-proj-"),
    "_pat_": ("dckr_pat_",),
    "xapp-": ("xapp-",),
    "dop_v1_": ("dop_v1_",),
    "pypi-AgE": ("pypi-AgE",),
    "whsec_": ("whsec_",),
    "AIza": ("AIza",),
}
_ADDRESSES: dict[str, str] = {
    "slack.com/": r"hooks\.slack\.com/\w{1,20}/",
    "webhooks/": r"discord(?:app)?\.com/api/(?:v\d+/)?webhooks/",
    "telegram.org/": r"api\.telegram\.org/(?:file/)?bot",
    ".office": r"(?:outlook|[\w-]{1,60}\.webhook)\.office(?:365)?\.com/",
}
_FORMS = (
    # A signed token of three parts, which is a credential (RFC 7519).
    _Form(
        ("eyJ",),
        re.compile(r"(?<![\w-])(?=([\w-]*?\b(?=eyJ)))\1[\w-]{11,}+\.[\w-]++\.[\w-]*+"),
        rf"\1{HIDDEN}",
    ),
    _Form(
        ("PRIVATE KEY", "PuTTY-User", "OpenVPN Static"),
        re.compile(
            r"(---- ?BEGIN (?:[A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,20}|OpenVPN Static key[ \w]{0,20})"
            r"----|PuTTY-User-Key-File-\d:).*?(---- ?END|Private-(?:MAC|Hash):|\Z)",
            re.DOTALL,
        ),
        rf"\g<1>{HIDDEN}\g<2>",
    ),
    # A word in small letters belongs to a sentence.
    _Form(
        ("earer", "EARER", "asic", "ASIC"),
        re.compile(
            r"\b([Bb]earer|BEARER|[Bb]asic|BASIC)(\s+)(?!-|[A-Z]?[a-z]+(?![\w~+/=-]))[\w.~+/=-]{6,}"
        ),
        rf"\g<1>\g<2>{HIDDEN}",
    ),
    _Form(
        tuple(_ADDRESSES),
        re.compile(rf"\b({'|'.join(_ADDRESSES.values())})[^\s\"'<>]+"),
        rf"\g<1>{HIDDEN}",
    ),
    _Form(
        tuple(_TOKENS),
        re.compile(
            rf"\b(?:{'|'.join(re.escape(word) for words in _TOKENS.values() for word in words)})"
            r"[\w.-]{10,}"
        ),
        HIDDEN,
    ),
    _Form(
        ("npm_", "hf_"),
        re.compile(r"\b(?:npm_|hf_)[A-Za-z0-9]{30,}"),
        HIDDEN,
    ),
    _Form(("SG.",), re.compile(r"\bSG\.[\w-]{16,}\.[\w-]{16,}"), HIDDEN),
)
#: Marks of all forms.
_MARKS = tuple(mark for form in _FORMS for mark in form.marks)
# Callers choose the strings, of up to a hundred kilobytes: each expression here takes time linear
# in the length, so repetitions are possessive, limited, or begin in one place.
_CDATA = r"<!\[CDATA\[(?:[^\]<]++|\](?!\]>)|<(?!!\[CDATA\[))*\]\]>"
_ATTRIBUTES = r"""((?:\s(?:[^<>"']++|"[^"<]*+"|'[^'<]*+'|"(?![^"<]*+")|'(?![^'<]*+'))*)?)"""
_ELEMENT = re.compile(rf"<([\w:.-]++){_ATTRIBUTES}>(\s*+{_CDATA}|[^<]*+)")
_OPENING = re.compile(r"<([\w:.-]++)(?:\s[^<>]*+)?>")
_CLOSING = re.compile(r"</([\w:.-]++)\s*+>")
_ATTRIBUTE = re.compile(r"""(?<![\w:.-])([\w:.-]++)(\s*+=\s*+)("[^"]*"?|'[^']*'?)""")
#: Adjacent elements that hold only text.
_LEAF = re.compile(
    rf"<(?P<tag>[\w:.-]++)(?:\s[^<>]*+)?>(?P<text>(?:\s*+{_CDATA}\s*+|[^<]*+))</(?P=tag)\s*+>"
)
#: An element with others inside after an element that may be its name.
_NAMED_ELEMENT = re.compile(
    r"(<(?:\w++:)?(?P<naming>[\w.-]++)(?:\s[^<>]*+)?>(?P<name>[^<]*+)</[^<>]*+>\s*+"
    r"<(?P<tag>(?:\w++:)?(?P<named>[\w.-]++))(?:\s[^<>]*+)?>)(?=\s*+<[^/!]).*?(?=</(?P=tag)\s*>|$)",
    re.DOTALL,
)
#: Possible start of a JSON document within a string.
_DOCUMENT = re.compile(r'[\[{]\s*["{\[]')
#: Maximum documents read in a string.
_MAX_DOCUMENTS = 32
_DECODER = json.JSONDecoder()
#: Characters left to search within `search_limit`.
_unsearched = ContextVar("unsearched", default=sys.maxsize)
#: Percent-encoded braces, quotes, equals signs, angle brackets, percent signs, colons, blanks, ends
#: of lines, and `@`.
_ESCAPED = re.compile(r"%(?:7B|22|3D|3C|25|3A|20|0A|40)", re.I)
_ESCAPED_WORD = re.compile(r"[^\s&=\"'<>?;%]*+%[^\s&=\"'<>?;]++")


def redact(text: str) -> str:
    """Returns a string without secrets, whether it is a document or contains one.

    >>> redact('{"user":"a","password":"hunter2"}')
    '{"user":"a","password":"HIDDEN_DUE_TO_SECURITY_REASONS"}'
    >>> redact("https://host/?X-Amz-Signature=abc&a=b")
    'https://host/?X-Amz-Signature=HIDDEN_DUE_TO_SECURITY_REASONS&a=b'
    """
    length = len(text)
    if length < _MIN_OTHER_BASE64 and (length < _MIN_LENGTH or text.isalnum()):
        # Most strings are names.
        return _redact(text, 0) if text[:2] in _ENCODED else text
    try:
        if length > _MAX_LENGTH or not _may_hold_more(text):
            return text
    except Exception as error:  # noqa: BLE001 - logged
        return hide_unsearchable(error)
    return _redact(text, 0)


def hide_unsearchable(error: Exception) -> str:
    """Logs an unexpected error of the search for secrets, and returns what replaces the string.

    The log has no message of the error, which may contain the string.
    """
    place = traceback.extract_tb(error.__traceback__)[-1]
    log.error(
        "a string is hidden, since the search for secrets in it failed",
        extra={"error": type(error).__name__, "at": f"{place.name}, line {place.lineno}"},
    )
    return HIDDEN


@cached_if_short(200)
def _may_hold_more(text: str) -> bool:
    """Returns whether `_redact_by_form` may change a string; most are names, which stay."""
    bare = _bare(text)
    if bare[:1] in _DOCUMENT_BEGINS or any(step.may_change(text) for step in _STEPS):
        return True
    return _is_base64(bare)


def _bare(text: str) -> str:
    return text.strip().removeprefix("\ufeff")


def _is_base64(text: str) -> bool:
    if text[:2] in _ENCODED:
        return _BASE64.fullmatch(text) is not None
    if len(text) < _MIN_OTHER_BASE64 or _OTHER_BASE64.fullmatch(text) is None:
        return False
    return (len(text) - text.count("\n") - text.count("\r")) % 4 == 0


class search_limit(ContextDecorator):  # noqa: N801 - it is used as a function
    """Limits the search for secrets, since one call may hold thousands of long strings.

    Strings beyond `MAX_SEARCHED_LENGTH` are hidden as a whole. A generator would take three times
    as long, for each call.
    """

    def __enter__(self) -> None:
        self._token = _unsearched.set(MAX_SEARCHED_LENGTH)

    def __exit__(self, *_error: object) -> None:
        _unsearched.reset(self._token)

    def _recreate_cm(self) -> search_limit:
        """Returns a new limit for each call of a decorated function."""
        return search_limit()


def _redact(text: str, depth: int) -> str:
    left = _unsearched.get() - len(text)
    if depth > _MAX_EMBEDDED_DEPTH or left < 0:
        return HIDDEN
    _unsearched.set(left)
    try:
        return _redact_by_form(text, depth)
    except Exception as error:  # noqa: BLE001 - logged
        return hide_unsearchable(error)


def _redact_by_form(text: str, depth: int) -> str:
    bare = _bare(text)
    if bare[:1] in ("{", "["):
        return _in_json(text, bare, depth)
    if bare[:1] == "<":
        text = _in_xml(text, depth)
    elif bare[:1] == '"' and (redacted := _in_json_text(bare, depth)) is not None:
        return redacted
    elif _is_base64(bare):
        return _in_base64(text, depth)
    return _in_plain(text, depth)


def _in_plain(text: str, depth: int) -> str:
    """Returns a non-document string without the secrets that it names."""
    for step in _STEPS:
        if step.may_change(text):
            text = step.change(text, depth)
    return text


def _without_tokens(text: str, _depth: int) -> str:
    """Returns a string without tokens and private keys, under any name."""
    for form in _FORMS:
        if any(map(text.__contains__, form.marks)):
            text = form.expression.sub(form.shown, text)
    return text


def _in_escaped_words(text: str, depth: int) -> str:
    return _ESCAPED_WORD.sub(lambda match: _in_escapes(match.group(), depth), text)


def _in_escapes(text: str, depth: int) -> str:
    """Returns a percent-encoded string without its secrets."""
    if _ESCAPED.search(text) is None:
        return text
    plain = unquote(text)
    redacted = _redact(plain, depth + 1)
    return text if redacted == plain else quote(redacted)


def _in_escaped_xml(text: str, depth: int) -> str:
    plain = unescape(text)
    redacted = _redact(plain, depth + 1)
    return text if redacted == plain else escape(redacted)


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
    """Returns a JSON value without secrets: values with a secret's name, and secrets in strings."""
    if isinstance(value, dict):
        hidden = {*hidden_members(value), *hidden_defaults(value)}
        return {
            name: HIDDEN
            if (name in hidden or sounds_secret(name)) and not isinstance(item, bool | None)
            else without_secrets(without_variables(name, item), depth)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(item, depth) for item in without_argument_secrets(value)]
    if isinstance(value, str) and len(value) >= _MIN_LENGTH and _may_hold_more(value):
        return _redact(value, depth + 1)
    return value


def by_name(value: Any, rename: Callable[[str], str]) -> Any:
    """Returns a value without a model: names changed by `rename`, secrets hidden by name."""
    if isinstance(value, dict):
        hidden = hidden_members({str(name): item for name, item in value.items()})
        return {
            rename(str(name)): HIDDEN
            if sounds_secret(str(name)) or str(name) in hidden
            else by_name(without_variables(str(name), item), rename)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [by_name(item, rename) for item in without_argument_secrets(value)]
    if isinstance(value, str):
        return redact(value)
    return HIDDEN if isinstance(value, bytes) else value


def without_variables(name: str, value: Any) -> Any:
    """Returns a JSON value, parsed or as a string, without the values of environment variables.

    Their names are shown. A string such as `prod` is not an environment variable, under any name.

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


def _hidden_texts(value: Json) -> Json:
    """Returns a map of strings with all values hidden; other maps do not hold variables."""
    if not all(isinstance(item, str | int | float | None) for item in value.values()):
        return value
    return {name: HIDDEN if item is not None else None for name, item in value.items()}


def _in_xml(text: str, depth: int) -> str:
    def element(match: re.Match[str]) -> str:
        tag, attributes, content = match.groups()
        attribute_values = {
            name: text[1:].removesuffix(text[0]) for name, _, text in _ATTRIBUTE.findall(attributes)
        }
        hidden = hidden_members({**attribute_values, "value": content})
        redacted_attributes = _ATTRIBUTE.sub(
            lambda attribute: _attribute(attribute, hidden, depth), attributes
        )
        if content.strip():
            name = tag.rpartition(":")[2]
            content = HIDDEN if hidden or sounds_secret(name) else _redact(content, depth + 1)
        return f"<{tag}{redacted_attributes}>{content}"

    redacted = _NAMED_ELEMENT.sub(_named_element, _in_leaves(_ELEMENT.sub(element, text)))
    return _without_secret_elements(redacted)


def _without_secret_elements(text: str) -> str:
    """Returns XML without the content of elements with a secret's name."""
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
    """Returns XML without the text of elements that an adjacent element names as secret."""
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
        for before, leaf in zip((None, *leaves), leaves, strict=False)
        if (leaf["tag"].rpartition(":")[2] in hidden or _is_named(before, leaf))
        and _plain_text(leaf["text"])
    ]


def _is_named(before: re.Match[str] | None, leaf: re.Match[str]) -> bool:
    """Returns whether an element of a property list has a secret's name before it."""
    if before is None or before["tag"] != "key" or leaf["tag"] == "key":
        return False
    return means_secret(_plain_text(before["text"]))


def _plain_text(text: str) -> str:
    return unescape(text.strip().removeprefix("<![CDATA[").removesuffix("]]>")).strip()


def _named_element(match: re.Match[str]) -> str:
    hidden = hidden_members({match["naming"]: match["name"].strip(), match["named"]: ""})
    return f"{match[1]}{HIDDEN}" if hidden else match.group()


def _attribute(match: re.Match[str], hidden: Container[str], depth: int) -> str:
    name, between, quoted = match.groups()
    if name in hidden or sounds_secret(name.rpartition(":")[2]):
        return f'{name}{between}"{HIDDEN}"'
    value = quoted[1:].removesuffix(quoted[0])
    plain = unescape(value)
    redacted = _redact(plain, depth + 1) if len(plain) >= _MIN_LENGTH else plain
    return match.group() if redacted == plain else f'{name}{between}"{escape(redacted)}"'


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


class _Step(NamedTuple):
    """A change of a non-document string."""

    #: Returns whether `change` may change a string; a quick check.
    may_change: Callable[[str], bool]
    change: Callable[[str, int], str]


#: The changes in their order. The quick check of a string is made of theirs.
_STEPS = (
    _Step(lambda text: any(map(text.__contains__, _MARKS)), _without_tokens),
    _Step(lambda text: '"' in text and ("{" in text or "[" in text), _in_json_parts),
    _Step(lambda text: "</" in text, _in_xml),
    _Step(may_hold_text_secret, lambda text, _: without_text_secrets(text)),
    _Step(
        lambda text: ":" in text and may_name_secret(text),
        lambda text, _: without_yaml_secrets(text),
    ),
    _Step(lambda text: "%" in text and _ESCAPED.search(text) is not None, _in_escaped_words),
    _Step(lambda text: "&lt;" in text, _in_escaped_xml),
    _Step(may_hold_login, lambda text, _: without_logins(text)),
)
