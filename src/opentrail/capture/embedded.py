"""Secrets in texts that hold JSON, XML, forms, addresses, or base64 of these (S4).

A text without secrets stays as it is, byte for byte.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import orjson

from opentrail.capture.secret_names import HIDDEN, hidden_member, looks_secret

#: Texts in texts in texts: what is nested more deeply is hidden.
_DEEPEST = 4
#: How base64 of what begins with a brace, a bracket or `<` begins.
_ENCODED = frozenset(
    first + second
    for first, seconds in (("e", "wxyz0123"), ("W", "wxyz0123"), ("P", "ABCDEFGH"))
    for second in seconds
)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{12,}={0,2}\s*")
#: A signed token of three parts, which lets in whoever has it (RFC 7519).
_TOKEN = re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
#: A text member in JSON that is cut, or that is no JSON.
_PAIR = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:\s*)("(?:[^"\\]|\\.)*"?|[^\s,}\]"]+)')
_ELEMENT = re.compile(r"<([\w:.-]+)((?:\s[^<>]*)?)>(\s*<!\[CDATA\[.*?\]\]>|[^<]*)", re.DOTALL)
_ATTRIBUTE = re.compile(r"""([\w:.-]+)(\s*=\s*)("[^"]*"?|'[^']*'?)""")
_FIELD = re.compile(r"""(^|[?&;\s,])([\w.\[\]%-]{1,100})=([^&;\s,"'<>]+)""")
_LOGIN = re.compile(r"(://[^/\s:@]*:)([^@/\s]+)(?=@)")
#: Parts of an address that stand for a signature.
_SIGNING = frozenset({"signature", "x-amz-signature"})


def within(text: str) -> str:
    """Returns a text without the secrets of the document that it is, or holds.

    >>> within('{"user":"a","password":"hunter2"}')
    '{"user":"a","password":"HIDDEN_DUE_TO_SECURITY_REASONS"}'
    >>> within("https://host/?X-Amz-Signature=abc&a=b")
    'https://host/?X-Amz-Signature=HIDDEN_DUE_TO_SECURITY_REASONS&a=b'
    """
    start = text[:2]
    if start[:1] in "{[<\r\n\t " or start in _ENCODED or "=" in text or "://" in text:
        return _within(text, 0) if text else text
    return text


def _within(text: str, depth: int) -> str:
    if depth > _DEEPEST:
        return HIDDEN
    bare = text.strip()
    if bare[:1] in ("{", "["):
        return _in_json(text, depth)
    if bare[:1] == "<":
        return _in_xml(text, depth)
    if bare[:2] in _ENCODED:
        if _BASE64.fullmatch(bare):
            return _in_base64(text, depth)
        text = _TOKEN.sub(HIDDEN, text)
    text = _FIELD.sub(_field, text) if "=" in text else text
    return _LOGIN.sub(rf"\g<1>{HIDDEN}", text) if "://" in text else text


def _in_json(text: str, depth: int) -> str:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _PAIR.sub(_pair, text)
    shown = without_secrets(value, depth)
    return text if shown == value else orjson.dumps(shown).decode()


def without_secrets(value: Any, depth: int = 0) -> Any:
    """Returns a value of JSON with what a name says to be a secret hidden, texts looked through."""
    if isinstance(value, dict):
        hidden = hidden_member(value)
        return {
            name: HIDDEN
            if (name == hidden or looks_secret(name)) and not isinstance(item, bool | None)
            else without_secrets(item, depth)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(item, depth) for item in value]
    return _within(value, depth + 1) if isinstance(value, str) else value


def _pair(found: re.Match[str]) -> str:
    name, between, value = found.groups()
    if looks_secret(name):
        return f'"{name}"{between}"{HIDDEN}"'
    return f'"{name}"{between}{value}'


def _in_xml(text: str, depth: int) -> str:
    def element(found: re.Match[str]) -> str:
        tag, attributes, content = found.groups()
        shown = _ATTRIBUTE.sub(_attribute, attributes)
        if content.strip():
            own = tag.rpartition(":")[2]
            content = HIDDEN if looks_secret(own) else _within(content, depth + 1)
        return f"<{tag}{shown}>{content}"

    return _ELEMENT.sub(element, text)


def _attribute(found: re.Match[str]) -> str:
    name, between, _ = found.groups()
    return f'{name}{between}"{HIDDEN}"' if looks_secret(name) else found.group()


def _in_base64(text: str, depth: int) -> str:
    try:
        decoded = base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return text
    shown = _within(decoded, depth + 1)
    return text if shown == decoded else base64.b64encode(shown.encode()).decode()


def _field(found: re.Match[str]) -> str:
    before, name, value = found.groups()
    if looks_secret(name) or name.lower() in _SIGNING:
        value = HIDDEN
    return f"{before}{name}={value}"
