"""Numbers as Trino reads, rounds and shows them."""

from __future__ import annotations

import math
import re
from decimal import (
    ROUND_CEILING,
    ROUND_DOWN,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    Decimal,
    localcontext,
)

from opentrail.lake.dialect.python_functions import B, D, N, T, UnsupportedValueError, function


@function(T, returns=T)
def double_text(shown: str) -> str:
    """Returns a double as Java's `Double.toString` in scientific form: `1.5E0`."""
    lowered = shown.lower()
    if "nan" in lowered:
        return "NaN"
    if "inf" in lowered:
        return "-Infinity" if lowered.startswith("-") else "Infinity"
    number = Decimal(shown)
    if number == 0:
        return "-0E0" if shown.startswith("-") else "0E0"
    text = "".join(map(str, number.as_tuple().digits)).rstrip("0")
    sign = "-" if number < 0 else ""
    return f"{sign}{text[0]}.{text[1:] or '0'}E{number.adjusted()}"


@function(D, returns=T)
def java_double(value: float) -> str:
    """Returns a double as Java shows it: `1.5`, `1.0E10`, `NaN`."""
    if math.isfinite(value) and (value == 0 or 1e-3 <= abs(value) < 1e7):
        return repr(float(value))
    return double_text(repr(float(value)))


@function(D, returns=T)
def json_double(value: float) -> str:
    return java_double(value) if math.isfinite(value) else f'"{java_double(value)}"'


#: What Java trims from a number.
_BLANK = "".join(map(chr, range(33)))


@function(T, T, returns=N)
def integer(text: str, kind: str) -> int:
    number = text.strip(_BLANK)
    if not re.fullmatch(r"[+-]?\d+", number):
        raise ValueError(f"Cannot cast '{text[:200]}' to {kind}")
    return int(number)


_DOUBLE = re.compile(
    r"([+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?))[dDfF]?|[+-]?(?:Infinity|NaN)",
    re.ASCII,
)


@function(T, T, returns=T)
def double(text: str, kind: str) -> str:
    """Returns a number for DuckDB to read: it takes no NaN from a function."""
    number = text.strip(_BLANK)
    found = _DOUBLE.fullmatch(number)
    if found is None and "0x" in number.lower():
        raise UnsupportedValueError(f"hexadecimal numbers are not supported: {text[:200]}")
    if found is None:
        raise ValueError(f"Cannot cast '{text[:200]}' to {kind}")
    return found[1] or number.lstrip("+")


@function(T, T, returns=T)
def decimal(text: str, kind: str) -> str:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        raise ValueError(f"Cannot cast '{text[:200]}' to {kind}. Value is not a number.")
    if re.search(r"[eE][+-]?\d{3}", text):
        raise UnsupportedValueError(
            f"exponents of more than two digits are not supported: {text[:200]}"
        )
    return format(Decimal(text), "f")


@function(D, N, N, returns=T)
def decimal_of(value: float, precision: int, scale: int) -> str:
    with localcontext() as context:
        context.prec = 400
        number = Decimal(repr(float(value)))
        return format(number.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP), "f")


@function(T, T, T, N, N, returns=T)
def decimals(a: str, b: str, operator: str, precision: int, scale: int) -> str:
    """Multiplies or divides decimals; the result has the scale, rounded half up."""
    with localcontext() as context:
        context.prec = 120
        first, second = Decimal(a), Decimal(b)
        if operator != "*" and second == 0:
            raise ValueError("Division by zero")
        if operator == "%":
            result = first % second
        else:
            result = first * second if operator == "*" else first / second
        result = result.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)
        if abs(result) >= Decimal(10) ** (precision - scale):
            raise ValueError("Decimal overflow")
        return format(result, "f")


_ROUNDING = {
    "round": ROUND_HALF_UP,
    "truncate": ROUND_DOWN,
    "ceil": ROUND_CEILING,
    "floor": ROUND_FLOOR,
}


@function(T, N, T, returns=T)
def rounded(text: str, digits: int, name: str) -> str:
    with localcontext() as context:
        context.prec = 120
        digits = max(-40, min(40, digits))
        result = Decimal(text).quantize(Decimal(1).scaleb(-digits), _ROUNDING[name])
        return format(result, "f")


@function(T, returns=B)
def boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered in ("t", "true", "1"):
        return True
    if lowered in ("f", "false", "0"):
        return False
    raise ValueError(f"Cannot cast '{text[:200]}' to BOOLEAN")


@function(D, returns=T)
def format_number(value: float) -> str:
    units = ("", "K", "M", "B", "T", "Q")
    value = float(int(value))
    index = 0
    while abs(value) >= 1000 and index < len(units) - 1:
        value, index = value / 1000, index + 1
    size = abs(value)
    digits = 2 if size < 10 else 1 if size < 100 else 0
    shown = format(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN), "f")
    return (shown.rstrip("0").rstrip(".") if "." in shown else shown) + units[index]


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@function(N, N, returns=T)
def to_base(number: int, base: int) -> str:
    if not 2 <= base <= 36:
        raise ValueError("Radix must be between 2 and 36")
    digits, rest = "", abs(number)
    while rest or not digits:
        rest, digit = divmod(rest, base)
        digits = _DIGITS[digit] + digits
    return ("-" if number < 0 else "") + digits


@function(T, N, returns=N)
def from_base(text: str, base: int) -> int:
    try:
        if not re.fullmatch(r"[+-]?[0-9a-zA-Z]+", text) or not 2 <= base <= 36:
            raise ValueError
        number = 0
        for digit in text.lstrip("+-"):
            number = number * base + _DIGITS[:base].index(digit.lower())
        return -number if text.startswith("-") else number
    except ValueError:
        raise ValueError(f"Not a valid base-{base} number: {text[:200]}") from None


@function(D, D, D, N, returns=N)
def width_bucket(value: float, low: float, high: float, buckets: int) -> int:
    if buckets <= 0 or low == high:
        raise ValueError("bucketCount must be greater than 0, and the bounds differ")
    if not low < high or not math.isfinite(value):
        raise UnsupportedValueError("width_bucket with falling bounds, or of NaN, is not supported")
    share = (value - low) / (high - low)
    return 0 if share < 0 else buckets + 1 if share >= 1 else int(share * buckets) + 1
