"""Times and durations as Trino reads and formats them."""

from __future__ import annotations

import math
import re
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

from opentrail.lake.dialect.python_functions import B, D, N, T, UnsupportedValueError, function
from opentrail.lake.dialect.text_functions import BLANK


@function(T, returns="DATE")
def date_of(text: str) -> date:
    return _date(text.strip(BLANK), r"[+-]?\d+-\d{1,2}-\d{1,2}")


@function(T, returns="DATE")
def iso_date(text: str) -> date:
    return _date(text, r"[+-]?\d[\dW+-]*")


def _date(text: str, other_forms: str) -> date:
    """Reads year, month and day; other forms are not supported."""
    found = re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})", text, re.ASCII)
    if found is None and re.fullmatch(other_forms, text, re.ASCII):
        raise UnsupportedValueError(f"this form of a date is not supported: {text[:200]}")
    try:
        if found is None:
            raise ValueError
        return date(*map(int, found.groups()))
    except ValueError:
        _refuse_year(text)
        raise ValueError(f"Value cannot be cast to date: {text[:200]}") from None


def _refuse_year(text: str) -> None:
    if text.startswith("0000"):
        raise UnsupportedValueError(f"the year 0 is not supported: {text[:200]}")


_TIMESTAMP = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?: (\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d+))?)?)?"
    r"(?: ?(UTC|Z|[+-]\d\d:\d\d))?",
    re.ASCII,
)
#: Formats with other years or time zone names.
_OTHER_TIMESTAMP = re.compile(
    r"[+-]?\d+-\d{1,2}-\d{1,2}(?: [\d:.]+)?(?: ?[A-Za-z+-][\w/:+-]*)?", re.ASCII
)


@function(T, N, B, returns="TIMESTAMP")
def timestamp(text: str, precision: int, zoned: bool) -> datetime:
    shown = "timestamp with time zone" if zoned else "timestamp"
    found = _TIMESTAMP.fullmatch(text.strip(BLANK))
    if found is None and not _OTHER_TIMESTAMP.fullmatch(text.strip(BLANK)):
        raise ValueError(f"Value cannot be cast to timestamp: {text[:200]}")
    if found is None:
        raise UnsupportedValueError(f"this form of a timestamp is not supported: {text[:200]}")
    *parts, fraction, zone = found.groups()
    if zone not in (None, "UTC", "Z") and zoned:
        raise UnsupportedValueError(f"zones other than UTC are not supported: {text[:200]}")
    try:
        year, month, day, hour, minute, second = (int(part or 0) for part in parts)
        moment = datetime(year, month, day, hour, minute, second)
    except ValueError:
        _refuse_year(text.strip(BLANK))
        raise ValueError(f"Value cannot be cast to {shown}: {text[:200]}") from None
    digits = Decimal(f"0.{fraction or 0}").quantize(Decimal(1).scaleb(-precision), ROUND_HALF_UP)
    return moment + timedelta(microseconds=int(digits * 1_000_000))


@function(N, returns=T)
def interval_text(milliseconds: int) -> str:
    sign, rest = ("-", -milliseconds) if milliseconds < 0 else ("", milliseconds)
    days, rest = divmod(rest, 86_400_000)
    hours, rest = divmod(rest, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{sign}{days} {hours:02}:{minutes:02}:{rest // 1000:02}.{rest % 1000:03}"


_DURATION = {
    "ns": Decimal("0.000001"),
    "us": Decimal("0.001"),
    "ms": Decimal(1),
    "s": Decimal(1000),
    "m": Decimal(60_000),
    "h": Decimal(3_600_000),
    "d": Decimal(86_400_000),
}


@function(T, returns=N)
def parse_duration(text: str) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text)
    if found is None or found[2] not in _DURATION:
        raise ValueError(f"duration is not a valid data duration string: {text[:200]}")
    return int((Decimal(found[1]) * _DURATION[found[2]]).quantize(Decimal(1), ROUND_HALF_UP))


_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


@function("TIMESTAMP", T, returns=T)
def date_format(moment: datetime, pattern: str) -> str:
    """Formats by MySQL's specifiers, as Trino's `date_format`."""
    hour12 = moment.hour % 12 or 12
    half = "AM" if moment.hour < 12 else "PM"

    def shown(found: re.Match[str]) -> str:
        letter = found[1]
        if letter not in _MYSQL:
            if letter in "DUuVwX":
                raise ValueError(f"%{letter} not supported in date format string")
            return letter
        return {
            "a": _DAYS[moment.weekday()][:3],
            "b": _MONTHS[moment.month - 1][:3],
            "c": str(moment.month),
            "d": f"{moment.day:02}",
            "e": str(moment.day),
            "f": f"{moment.microsecond:06}",
            "H": f"{moment.hour:02}",
            "h": f"{hour12:02}",
            "I": f"{hour12:02}",
            "i": f"{moment.minute:02}",
            "j": f"{moment.timetuple().tm_yday:03}",
            "k": str(moment.hour),
            "l": str(hour12),
            "M": _MONTHS[moment.month - 1],
            "m": f"{moment.month:02}",
            "p": half,
            "r": f"{hour12:02}:{moment.minute:02}:{moment.second:02} {half}",
            "S": f"{moment.second:02}",
            "s": f"{moment.second:02}",
            "T": f"{moment.hour:02}:{moment.minute:02}:{moment.second:02}",
            "v": f"{moment.isocalendar()[1]:02}",
            "W": _DAYS[moment.weekday()],
            "x": f"{moment.isocalendar()[0]:04}",
            "Y": f"{moment.year:04}",
            "y": f"{moment.year % 100:02}",
            "%": "%",
        }[letter]

    return re.sub(r"%(.)", shown, pattern, flags=re.S)


_MYSQL = "abcdefHhIijklMmprSsTvWxYy%"
#: Specifiers of `date_parse`: the field, and the pattern to match.
_PARSED = {
    "Y": ("year", r"\d{4}"),
    "m": ("month", r"\d{1,2}+"),
    "c": ("month", r"\d{1,2}+"),
    "d": ("day", r"\d{1,2}+"),
    "e": ("day", r"\d{1,2}+"),
    "H": ("hour", r"\d{1,2}+"),
    "k": ("hour", r"\d{1,2}+"),
    "i": ("minute", r"\d{1,2}+"),
    "s": ("second", r"\d{1,2}+"),
    "S": ("second", r"\d{1,2}+"),
    "f": ("fraction", r"\d{1,9}+"),
}


#: Years that Trino reads, and Python cannot all show.
_ANY_YEAR = r"[+-]?\d+"


@lru_cache(64)
def _mysql_pattern(pattern: str, year: str) -> re.Pattern[str]:
    parts, at = [], 0
    pattern = pattern.replace("%T", "%H:%i:%s")
    for found in re.finditer(r"%(.)", pattern, re.S):
        parts.append(re.escape(pattern[at : found.start()]))
        if found[1] == "%":
            parts.append("%")
        elif found[1] in _PARSED:
            name, text = _PARSED[found[1]]
            text = year if name == "year" else text
            parts.append(f"(?P<{name}>{text})")
        else:
            raise UnsupportedValueError(f"%{found[1]} is not supported in date_parse")
        at = found.end()
    parts.append(re.escape(pattern[at:]))
    try:
        return re.compile("".join(parts), re.ASCII | re.IGNORECASE)
    except re.error:
        raise UnsupportedValueError(
            f"a field twice in a pattern is not supported: {pattern}"
        ) from None


def _moment(found: dict[str, str | None]) -> datetime:
    year = 2000 if found.get("month") or found.get("day") else 1970
    least = {"year": year, "month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0}
    parts = {name: int(found.get(name) or number) for name, number in least.items()}
    fraction = (found.get("fraction") or "0").ljust(3, "0")[:3]
    return datetime(**parts) + timedelta(milliseconds=int(fraction))  # type: ignore[arg-type]


@function(T, T, returns="TIMESTAMP")
def date_parse(text: str, pattern: str) -> datetime:
    found = _mysql_pattern(pattern, r"\d{4}").fullmatch(text)
    if found is None and _mysql_pattern(pattern, _ANY_YEAR).fullmatch(text):
        raise UnsupportedValueError(f"this form of a year is not supported: {text[:200]}")
    if found is None:
        raise ValueError(f'Invalid format: "{text[:200]}" is malformed')
    try:
        return _moment(found.groupdict())
    except ValueError:
        raise ValueError(f'Cannot parse "{text[:200]}"') from None


@lru_cache(64)
def _joda_words(pattern: str) -> tuple[tuple[str, bool], ...]:
    """Splits a pattern of Joda's into letters and literals (true)."""
    words: list[tuple[str, bool]] = []
    read = 0
    for found in re.finditer(r"''|'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']", pattern):
        if found[0] == "''" or found[1] is not None:
            words.append((found[1].replace("''", "'") if found[1] else "'", True))
        else:
            words.append((found[0], found[2] is None))
        read += len(found[0])
    if read < len(pattern):
        raise UnsupportedValueError(f"an open quote in a pattern is not supported: {pattern[:200]}")
    return tuple(words)


@function("TIMESTAMP", T, returns=T)
def format_datetime(moment: datetime, pattern: str) -> str:
    shown = []
    for word, is_literal in _joda_words(pattern):
        shown.append(word if is_literal else _joda(moment, word))
    return "".join(shown)


def _joda(moment: datetime, word: str) -> str:
    letter, width = word[0], len(word)
    if letter in "yY":
        return f"{moment.year % 100:02}" if width == 2 else f"{moment.year:0{width}}"
    if letter == "x" and width == 2:
        return f"{moment.isocalendar()[0] % 100:02}"
    if letter == "x":
        return f"{moment.isocalendar()[0]:0{width}}"
    if letter == "M":
        name = _MONTHS[moment.month - 1]
        return name if width > 3 else name[:3] if width == 3 else f"{moment.month:0{width}}"
    if letter == "E":
        name = _DAYS[moment.weekday()]
        return name if width > 3 else name[:3]
    if letter == "a":
        return "AM" if moment.hour < 12 else "PM"
    if letter == "S":
        return f"{moment.microsecond:06}"[:width].ljust(width, "0")
    numbers = {
        "d": moment.day,
        "D": moment.timetuple().tm_yday,
        "e": moment.isoweekday(),
        "w": moment.isocalendar()[1],
        "H": moment.hour,
        "k": moment.hour or 24,
        "h": moment.hour % 12 or 12,
        "K": moment.hour % 12,
        "m": moment.minute,
        "s": moment.second,
    }
    if letter not in numbers:
        raise UnsupportedValueError(f"{word} is not supported in a pattern of a time")
    return f"{numbers[letter]:0{width}}"


_JODA_PARSED = {
    **dict.fromkeys("yY", "year"),
    "M": "month",
    "d": "day",
    "H": "hour",
    "m": "minute",
    "s": "second",
    "S": "fraction",
}


@lru_cache(64)
def _joda_pattern(pattern: str, year: str) -> re.Pattern[str]:
    parts, seen = [], set[str]()
    for word, is_literal in _joda_words(pattern):
        name, width = _JODA_PARSED.get(word[0]), len(word)
        if is_literal:
            parts.append(re.escape(word))
        elif word in ("Z", "ZZ"):
            parts.append(r"(?P<zone>Z|[+-]\d\d:?\d\d)")
        elif (
            name is None
            or name in seen
            or (name == "month" and width > 2)
            or (name == "year" and width != 4)
        ):
            raise UnsupportedValueError(f"{word} is not supported in a pattern to parse a time")
        else:
            seen.add(name)
            most = width if name == "fraction" else max(2, width)
            digits = year if name == "year" else rf"\d{{1,{most}}}+"
            parts.append(f"(?P<{name}>{digits})")
    return re.compile("".join(parts), re.ASCII | re.IGNORECASE)


@function(T, T, returns="TIMESTAMP")
def parse_datetime(text: str, pattern: str) -> datetime:
    found = _joda_pattern(pattern, r"\d{4}").fullmatch(text)
    if found is None and _joda_pattern(pattern, _ANY_YEAR).fullmatch(text):
        raise UnsupportedValueError(f"this form of a year is not supported: {text[:200]}")
    if found is None:
        raise ValueError(f'Invalid format: "{text[:200]}"')
    groups = found.groupdict()
    if (groups.pop("zone", None) or "Z").upper() not in ("Z", "+00:00", "+0000"):
        raise UnsupportedValueError(f"zones other than UTC are not supported: {text[:200]}")
    try:
        return _moment(groups)
    except ValueError:
        raise ValueError(f'Cannot parse "{text[:200]}"') from None


_ISO = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?"
    r"(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?)?(Z|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)


@function(T, returns="TIMESTAMP")
def iso_time(text: str) -> datetime:
    found = _ISO.fullmatch(text)
    if found is None and re.fullmatch(r"[\dTtWZz:.,+-]+", text, re.ASCII):
        raise UnsupportedValueError(f"this form of a timestamp is not supported: {text[:200]}")
    if found is None:
        raise ValueError(f'Invalid format: "{text[:200]}"')
    *parts, fraction, zone = found.groups()
    if zone not in (None, "Z", "+00:00", "+0000", "+00"):
        raise UnsupportedValueError(f"zones other than UTC are not supported: {text[:200]}")
    year, month, day, hour, minute, second = (
        int(part or least) for part, least in zip(parts, (1970, 1, 1, 0, 0, 0), strict=True)
    )
    try:
        moment = datetime(year, month, day, hour, minute, second)
    except ValueError:
        _refuse_year(text)
        raise ValueError(f'Cannot parse "{text[:200]}"') from None
    return moment + timedelta(milliseconds=int((fraction or "0").ljust(3, "0")[:3]))


@function(D, returns="TIMESTAMP")
def from_unixtime(seconds: float) -> datetime:
    milliseconds = math.floor(seconds * 1000 + 0.5)
    return datetime(1970, 1, 1) + timedelta(milliseconds=milliseconds)
