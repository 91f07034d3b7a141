"""Trino's functions for strings, patterns, URLs and IP addresses."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import itertools
import re
import re._parser  # type: ignore[import-not-found]
import zlib
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote_plus, unquote_plus, urlsplit

from opentrail.lake.dialect.python_functions import (
    B,
    N,
    T,
    UnsupportedValueError,
    function,
    unsupported,
)

parse_pattern = re._parser.parse
#: What Java calls whitespace.
BLANK = "".join(
    chr(number)
    for first, last in (
        *((9, 13), (28, 32), (0x1680, 0x1680), (0x2000, 0x2006), (0x2008, 0x200A)),
        *((0x2028, 0x2029), (0x205F, 0x205F), (0x3000, 0x3000)),
    )
    for number in range(first, last + 1)
)
#: Longest text that a function makes.
MAX_TEXT = 1_000_000


@function(T, returns=B)
def fail(message: str) -> bool:
    raise (UnsupportedValueError if "not supported" in message else ValueError)(message)


@function(returns=B, takes_null=True)
def refuse_unsupported() -> None:
    """Fails if TRY has made NULL of a value that Trino takes."""
    if unsupported:
        raise ValueError(unsupported[0])


@function(T, returns="BLOB")
def address(text: str) -> bytes:
    if "%" in text:
        raise UnsupportedValueError(f"addresses with a zone are not supported: {text[:200]}")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"Cannot cast value to IPADDRESS: {text[:200]}") from None
    if address.version == 4:
        return bytes(10) + b"\xff\xff" + address.packed
    return address.packed


@function("BLOB", returns=T)
def address_text(packed: bytes) -> str:
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address)


@function(T, "BLOB", returns=B)
def in_network(network: str, packed: bytes) -> bool:
    first, _, bits = network.partition("/")
    try:
        if not re.fullmatch(r"\d+", bits, re.ASCII):
            raise ValueError
        found = ipaddress.ip_network(network)
    except ValueError:
        raise ValueError(f"Invalid CIDR: {network[:200]}") from None
    if found.version == 4:  # all addresses have 128 bits
        found = ipaddress.ip_network(f"::ffff:{first}/{96 + int(bits)}")
    return ipaddress.IPv6Address(packed) in found


_LABEL = r"[a-z\d](?:[a-z\d-]*[a-z\d])?"
_BYTE = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_HOST = re.compile(
    rf"{_LABEL}|(?:{_LABEL}\.)+(?=[a-z]){_LABEL}|(?:{_BYTE}\.){{3}}{_BYTE}|\[[\da-f:.]+\]",
    re.I | re.A,
)


def _url(text: str) -> SplitResult | None:
    if (
        not re.fullmatch(r"[!#-;=?-\[\]_a-z~%]*|[^\x00-\x20<>\"{}|\\^`]*", text)
        or text.count("#") > 1
        or re.search(r"%(?![0-9a-fA-F]{2})", text)
    ):
        return None
    try:
        found = urlsplit(text)
        found.port  # noqa: B018 - it reads the number
    except ValueError:
        return None
    is_opaque = found.scheme and not text[len(found.scheme) + 1 :].startswith("/")
    return found._replace(path="", query="") if is_opaque else found


@function(T, T, returns=T)
def url(text: str, part: str) -> str | None:
    found = _url(text)
    if found is None:
        return None
    if part == "port":
        return None if found.port is None else str(found.port)
    if part == "protocol":
        return text.partition(":")[0] if found.scheme else ""
    if part == "host":
        host = re.sub(r":\d*\Z", "", found.netloc.rpartition("@")[2])
        if host and not _HOST.fullmatch(host):
            raise UnsupportedValueError(f"this host is not supported: {text[:200]}")
        return host
    return unquote_plus(
        {"path": found.path, "query": found.query, "fragment": found.fragment}[part].replace(
            "+", "%2B"
        )
    )


@function(T, T, returns=T)
def url_parameter(text: str, name: str) -> str | None:
    found = _url(text)
    for key, value in parse_qsl(found.query if found else "", keep_blank_values=True):
        if key == name:
            return value
    return None


@function(T, returns=T)
def url_encode(text: str) -> str:
    return quote_plus(text, safe="*-._").replace("~", "%7E")


@function(T, returns=T)
def url_decode(text: str) -> str:
    if re.search(r"%(?![0-9a-fA-F]{2})", text):
        raise ValueError("URLDecoder: Illegal hex characters in escape (%) pattern")
    return unquote_plus(text)


@function(T, returns="BLOB")
def from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raise ValueError("Illegal base64 character, or length") from None


@function(T, returns="BLOB")
def from_base64url(text: str) -> bytes:
    if "+" in text or "/" in text:
        raise ValueError("Illegal base64url character")
    return from_base64(text.replace("-", "+").replace("_", "/"))


@function(T, returns="BLOB")
def from_hex(text: str) -> bytes:
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2})*", text):
        raise ValueError("not a hexadecimal digit, or an odd number of them")
    return bytes.fromhex(text)


def _limited(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise ValueError(f"a string of more than {MAX_TEXT:,} characters")
    return text


def _pad(text: str, size: int, fill: str, is_left: bool) -> str:
    if size < 0 or not fill:
        raise ValueError("Target length must be positive, and the padding not empty")
    if size > MAX_TEXT:
        raise ValueError(f"a string of more than {MAX_TEXT:,} characters")
    if len(text) >= size:
        return text[:size]
    filled = (fill * (size // len(fill) + 1))[: size - len(text)]
    return filled + text if is_left else text + filled


@function(T, returns=T)
def soundex(text: str) -> str:
    codes = {letter: code for code, letters in enumerate(
        ("AEIOUYHW", "BFPV", "CGJKQSXZ", "DT", "L", "MN", "R")) for letter in letters}  # fmt: skip
    if any(letter.isalpha() and not letter.isascii() for letter in text):
        raise ValueError(f"The character is not mapped: {text[:200]}")
    letters = [letter for letter in text.upper() if letter in codes]
    if not letters:
        return ""
    shown, last = letters[0], codes[letters[0]]
    for letter in letters[1:]:
        code = codes[letter]
        if code and code != last:
            shown += str(code)
        if letter not in "HW":
            last = code
    return shown[:4].ljust(4, "0")


@function(T, T, returns=N)
def hamming(a: str, b: str) -> int:
    if len(a) != len(b):
        raise ValueError("The input strings to hamming_distance function must have the same length")
    return sum(x != y for x, y in zip(a, b, strict=True))


@function(T, T, T, returns="MAP(VARCHAR, VARCHAR)")
def split_to_map(text: str, entry: str, pair: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in filter(None, text.split(entry)):
        key, between, value = each.partition(pair)
        if not between or pair in value:
            raise ValueError(
                f"Key-value delimiter must appear exactly once in each entry: {each[:200]}"
            )
        if key in found:
            raise ValueError(f"Duplicate keys ({key}) are not allowed")
        found[key] = value
    return found


@function(T, T, T, returns="MAP(VARCHAR, VARCHAR[])")
def split_to_multimap(text: str, entry: str, pair: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in filter(None, text.split(entry)):
        key, between, value = each.partition(pair)
        if not between or pair in value:
            raise ValueError(
                f"Key-value delimiter must appear exactly once in each entry: {each[:200]}"
            )
        found.setdefault(key, []).append(value)
    return found


@function(T, T, N, returns=N)
def nth_position(text: str, part: str, nth: int) -> int:
    if nth == 0:
        raise ValueError("'instance' must be a positive or negative number.")
    at = -1 if nth > 0 else len(text)
    for _ in range(abs(nth)):
        at = text.find(part, at + 1) if nth > 0 else text.rfind(part, 0, at + len(part) - 1)
        if at < 0:
            return 0
    return at + 1


#: Letters that are several in another case: Trino's `(?i)ss` matches `ß`.
FOLDED = "[ßİŉǰΐΰև\u1e96-\u1e9e\u1f50-\u1ffc\ufb00-\ufb17]"
#: What RE2 reads as Trino does.
_PIECE = re.compile(
    r"""
    \\[dDwWsSbBtnrf]
    | \\[!-/:-@\[-`{-~]
    | \[\^?(?:\\[dDwWstnrf]|\\[!-/:-@\[-`{-~]|[^\\\[\]&]|&(?!&))+\]
    | \(\?[ims]+\) | \(\?[ims]*: | \((?!\?) | \)
    | (?:[*+?]|\{\d{1,3}(?:,\d{0,3})?\})\??(?![*+?{])
    | [|.^$] | [^\\\[\](){}*+?|.^$]
    """,
    re.X | re.ASCII,
)
#: RE2's class has no vertical tab.
_SPACES = {"\\s": r"[\t-\r ]", "\\S": r"[^\t-\r ]"}


@function(T, B, returns=T)
def pattern(text: str, takes_empty: bool) -> str:
    """Returns a regular expression for RE2; refuses what RE2 reads in another way.

    Args:
        text: a regular expression of Java's.
        takes_empty: whether matches may be empty: RE2 splits and replaces at other places then.
    """
    pieces = _PIECE.findall(text)
    is_known = "".join(pieces) == text and not re.search(rf"(?s)\(\?\w*i.*{FOLDED}", text)
    try:
        tree = parse_pattern(text) if is_known else None
    except (re.error, RecursionError, OverflowError):
        tree = None
    if tree is None or _repeats_nothing(tree) or not (takes_empty or tree.getwidth()[0]):
        raise UnsupportedValueError(f"this regular expression is not supported: {text[:200]}")
    return "".join(
        re.sub(r"\\.", lambda found: r"\t-\r " if found[0] == r"\s" else found[0], piece)
        if piece.startswith("[")
        else _SPACES.get(piece, piece)
        for piece in pieces
    )


def _repeats_nothing(tree: Any) -> bool:
    """Returns whether a repeated part may match nothing."""
    for operation, argument in tree:
        name = str(operation)
        inner = argument[1] if name == "BRANCH" else []
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            if argument[1] > 1 and argument[2].getwidth()[0] == 0:
                return True
            inner = [argument[2]]
        elif name == "SUBPATTERN":
            inner = [argument[-1]]
        if any(map(_repeats_nothing, inner)):
            return True
    return False


@function(T, N, returns=T)
def group(text: str, number: int) -> str:
    """Refuses groups that may take no part in a match: RE2 reports them as empty."""
    if number:
        try:
            tree = parse_pattern(text)
        except (re.error, RecursionError, OverflowError):
            raise UnsupportedValueError(
                f"this regular expression is not supported: {text[:200]}"
            ) from None
        groups = tree.state.groups
        if number >= groups:
            raise ValueError(f"Pattern has {groups - 1} groups. Cannot access group {number}")
        if number in _optional_groups(tree, False):
            raise UnsupportedValueError(
                f"a group that may be missing is not supported: {text[:200]}"
            )
    return pattern(text, True)


def _optional_groups(tree: Any, is_optional: bool) -> set[int]:
    found: set[int] = set()
    for operation, argument in tree:
        name = str(operation)
        if name == "SUBPATTERN":
            if is_optional and argument[0] is not None:
                found.add(argument[0])
            found |= _optional_groups(argument[-1], is_optional)
        elif name == "BRANCH":
            for each in argument[1]:
                found |= _optional_groups(each, True)
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            found |= _optional_groups(argument[2], is_optional or argument[0] == 0)
    return found


@function(T, returns=T)
def replacement(text: str) -> str:
    r"""Returns a replacement for RE2: `$1` becomes `\1`."""
    if re.search(r"\$(?:\{|\d\d)", text):
        raise UnsupportedValueError(f"this replacement is not supported: {text[:200]}")
    if not re.fullmatch(r"(?:\\.|\$\d|[^\\$])*", text, re.S | re.ASCII):
        raise ValueError(f"Illegal replacement sequence: {text[:200]}")
    return re.sub(
        r"\\(.)|\$(\d)",
        lambda found: f"\\{found[2]}" if found[2] else found[1].replace("\\", "\\\\"),
        text,
        flags=re.S,
    )


@function(T, T, returns=T)
def like_pattern(pattern: str, escape: str) -> str:
    at = 0
    while (at := pattern.find(escape, at)) >= 0:
        if pattern[at + 1 : at + 2] not in ("%", "_", escape) or at + 1 == len(pattern):
            raise ValueError(
                "Escape character must be followed by '%', '_' or the escape character itself"
            )
        at += 2
    return pattern


@function(T, N, returns=T)
def short(text: str, size: int) -> str:
    if len(text) > size:
        raise ValueError(f"Value {text[:200]} cannot be represented as varchar({size})")
    return text


_FORMAT = re.compile(r"%(?:(\d+)\$)?([-+ 0,(#]*)(\d+)?(?:\.(\d+))?([a-zA-Z%])")
_MAX_WIDTH = 10_000


@function(T, T, "VARCHAR[]", returns=T, takes_null=True)
def format_(pattern: str | None, kinds: str, texts: list[str | None]) -> str | None:
    """Formats as Java's `String.format`: %s, %d, %f, %x and %b."""
    if pattern is None:
        return None
    if "%" in _FORMAT.sub("", pattern):
        raise ValueError(f"Invalid format string: {pattern[:200]}")
    numbers = itertools.count(1)

    def shown(found: re.Match[str]) -> str:
        if found[0] in ("%%", "%n"):
            return "%" if found[5] == "%" else "\n"
        number = int(found[1] or next(numbers)) - 1
        if number >= len(texts):
            raise ValueError(f"Format specifier '{found[0]}' has no argument")
        return _placed(_formatted(found, texts[number], kinds[number]), found)

    return _limited(_FORMAT.sub(shown, pattern))


def _formatted(found: re.Match[str], text: str | None, kind: str) -> str:
    """Returns an argument in the form of a specifier, without its width."""
    _, flags, _, digits, letter = found.groups()
    allowed = {"d": "-+0,", "f": "-+0,", "x": "-0"}.get(letter, "-")
    if set(flags) - set(allowed) or len(set(flags) & set("-0")) == 2:
        raise UnsupportedValueError(f"this format is not supported: {found[0]}")
    if text is None:
        return ("false" if letter == "b" else "null")[: None if digits is None else int(digits)]
    comma = "," if "," in flags else ""
    if letter in "sS":
        cut = text if digits is None else text[: int(digits)]
        return cut.upper() if letter == "S" else cut
    if letter == "d" and kind == "i":
        return _signed(format(int(text), comma), flags)
    if letter == "f" and kind == "d":
        quantum = Decimal(1).scaleb(-int(digits if digits is not None else 6))
        rounded = Decimal(text).quantize(quantum, ROUND_HALF_UP)
        return _signed(format(rounded, f"{comma}f"), flags)
    if letter == "x" and kind == "i" and not text.startswith("-"):
        return format(int(text), "x")
    if letter == "b" and kind == "b":
        return text
    raise UnsupportedValueError(f"this format is not supported: {found[0]}")


def _signed(number: str, flags: str) -> str:
    return f"+{number}" if "+" in flags and not number.startswith("-") else number


def _placed(value: str, found: re.Match[str]) -> str:
    flags, width = found[2], min(int(found[3] or 0), _MAX_WIDTH)
    if "-" in flags:
        return value.ljust(width)
    has_zeros = "0" in flags and value[-1:].isdigit()
    return value.zfill(width) if has_zeros else value.rjust(width)


@function(N, returns=T)
def chr_(number: int) -> str:
    try:
        return chr(number)
    except (ValueError, OverflowError):
        raise ValueError(f"Not a valid Unicode code point: {number}") from None


@function(T, returns="INTEGER")
def codepoint(text: str) -> int:
    if len(text) != 1:
        raise ValueError(f"codepoint takes one character: {text[:200]}")
    return ord(text)


@function(T, T, T, returns=T)
def translate(text: str, source: str, target: str) -> str:
    table: dict[int, str | None] = {}
    for index, letter in enumerate(source):
        table.setdefault(ord(letter), target[index] if index < len(target) else None)
    return text.translate(table)


@function(T, T, N, returns="VARCHAR[]")
def split_some(text: str, delimiter: str, limit: int) -> list[str]:
    return text.split(delimiter, limit - 1)


@function("BLOB", returns=T)
def from_utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UnsupportedValueError("text that is not UTF-8 is not supported") from None


@function("BLOB", returns=T)
def to_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


@function("BLOB", returns="BLOB")
def sha512(data: bytes) -> bytes:
    return hashlib.sha512(data).digest()


@function("BLOB", returns=N)
def crc32(data: bytes) -> int:
    return zlib.crc32(data)


@function(T, N, T, returns=T)
def lpad(text: str, size: int, fill: str) -> str:
    return _pad(text, size, fill, True)


@function(T, N, T, returns=T)
def rpad(text: str, size: int, fill: str) -> str:
    return _pad(text, size, fill, False)


@function(T, returns=T)
def reverse(text: str) -> str:
    return text[::-1]


@function(T, T, returns=T)
def between(text: str, part: str) -> str:
    """Inserts a string before, between and after all characters."""
    return _limited(part + part.join(text) + (part if text else ""))
