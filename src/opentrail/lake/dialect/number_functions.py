"""Numbers as Trino reads, rounds and shows them."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal, localcontext

from opentrail.lake.dialect.python_functions import B, D, N, T, function


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
def json_double(value: float) -> str:
    return (
        double_text(repr(value)) if value == value and abs(value) != float("inf") else f'"{value}"'
    )


@function(T, T, returns=N)
def integer(text: str, kind: str) -> int:
    if not re.fullmatch(r"\s*[+-]?\d+\s*", text, re.ASCII):
        raise ValueError(f"Cannot cast '{text[:200]}' to {kind}")
    return int(text)


_DOUBLE = re.compile(r"\s*[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|Infinity|NaN)\s*")


@function(T, T, returns=D)
def double(text: str, kind: str) -> float:
    if not _DOUBLE.fullmatch(text):
        raise ValueError(f"Cannot cast '{text[:200]}' to {kind}")
    return float(text)


@function(T, T, returns=T)
def decimal(text: str, kind: str) -> str:
    if not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?\s*", text):
        raise ValueError(f"Cannot cast '{text[:200]}' to {kind}. Value is not a number.")
    return format(Decimal(text.strip()), "f")


@function(D, N, N, returns=T)
def decimal_of(value: float, precision: int, scale: int) -> str:
    with localcontext() as context:
        context.prec = 400
        return format(Decimal(value).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP), "f")


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
    index = 0
    while abs(value) >= 1000 and index < len(units) - 1:
        value, index = value / 1000, index + 1
    size = abs(value)
    digits = 2 if size < 10 else 1 if size < 100 else 0
    shown = format(
        Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP), "f"
    )
    return (shown.rstrip("0").rstrip(".") if "." in shown else shown) + units[index]


@function(N, N, returns=T)
def to_base(number: int, base: int) -> str:
    if not 2 <= base <= 36:
        raise ValueError("Radix must be between 2 and 36")
    digits, rest = "", abs(number)
    while rest or not digits:
        rest, digit = divmod(rest, base)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return ("-" if number < 0 else "") + digits


@function(T, N, returns=N)
def from_base(text: str, base: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        raise ValueError(f"Not a valid base-{base} number: {text[:200]}") from None


@function(D, D, D, N, returns=N)
def width_bucket(value: float, low: float, high: float, buckets: int) -> int:
    if buckets <= 0 or low == high:
        raise ValueError("bucketCount must be greater than 0, and the bounds differ")
    share = (value - low) / (high - low)
    return 0 if share < 0 else buckets + 1 if share >= 1 else int(share * buckets) + 1
