"""Python functions that translated statements call, where DuckDB's own give another text.

A statement calls the function `name` as `lake_name`. NULL gives NULL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

# DuckDB's types of parameters and results.
T, B, N, D = "VARCHAR", "BOOLEAN", "BIGINT", "DOUBLE"


class PythonFunction(NamedTuple):
    """A function, and DuckDB's types of its parameters and its result."""

    call: Callable[..., Any]
    parameters: list[str]
    result: str


FUNCTIONS: dict[str, PythonFunction] = {}
#: Values that were not supported since the statement was translated.
unsupported: list[str] = []
P = ParamSpec("P")
R = TypeVar("R")


class UnsupportedValueError(ValueError):
    """A value that Trino takes. TRY must not make it NULL."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        unsupported.append(message)


def function(
    *parameters: str, returns: str, takes_null: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Registers a function under its name, without an underscore at its end."""

    def register(call: Callable[P, R]) -> Callable[P, R]:
        called = call if takes_null else _without_null(call, len(parameters))
        name = call.__name__.rstrip("_")
        FUNCTIONS[name] = PythonFunction(called, list(parameters), returns)
        return call

    return register


def _without_null(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Returns NULL for NULL. DuckDB counts the parameters, so it takes no `*arguments`."""
    if count == 1:
        return lambda a: None if a is None else function(a)
    if count == 2:
        return lambda a, b: None if a is None or b is None else function(a, b)
    if count == 3:
        return lambda a, b, c: None if None in (a, b, c) else function(a, b, c)
    if count == 4:
        return lambda a, b, c, d: None if None in (a, b, c, d) else function(a, b, c, d)
    return lambda a, b, c, d, e: None if None in (a, b, c, d, e) else function(a, b, c, d, e)
