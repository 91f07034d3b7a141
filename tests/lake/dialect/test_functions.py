"""Every line of the table of functions is an expression that DuckDB understands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from opentrail.lake.dialect import engine as prepared
from opentrail.lake.dialect.functions import Overload, aggregates, scalars, windows
from opentrail.lake.dialect.python_functions import FUNCTIONS
from opentrail.lake.dialect.types import VARCHAR, Type
from tests.lake.oracle import Engine, engine

#: Type variables, and a type for each.
_BOUND = {
    "T": "varchar",
    "U": "bigint",
    "K": "varchar",
    "V": "bigint",
    "O": "bigint",
    "N": "double",
}
_LITERALS = {"regexp_extract": ("'x'", "'(x)'", "1"), "regexp_extract_all": ("'x'", "'(x)'", "1")}
_FORMS = [form for forms in scalars.values() for form in forms]


@pytest.fixture(scope="module")
def lake() -> Iterator[Engine]:
    with engine() as made:
        yield made


def argument(kind: Type, number: int) -> str:
    """Returns an expression of a type: NULL, or a lambda."""
    if kind.name == "function":
        names = ", ".join(f"p{number}_{n}" for n, _ in enumerate(kind.args[:-1]))
        return f"({names}) -> CAST(NULL AS {shown(kind.args[-1])})"
    return f"CAST(NULL AS {shown(kind)})"


def shown(kind: Type) -> str:
    if len(kind.name) == 1:
        return _BOUND[kind.name]
    if kind.name == "row":
        return f"row({', '.join(map(shown, kind.args))})"
    return f"{kind.name}({', '.join(map(shown, kind.args))})" if kind.args else str(kind)


def written(form: Overload) -> str:
    arguments = _LITERALS.get(form.name, ()) if len(form.parameters) > 2 else ()
    given = arguments or [argument(kind, n) for n, kind in enumerate(form.parameters)]
    return f"{form.name}({', '.join(given)})"


@pytest.mark.parametrize("form", _FORMS, ids=str)
def test_scalar_functions_take_null(lake: Engine, form: Overload) -> None:
    columns, rows = lake.run(f"SELECT {written(form)}")
    assert len(rows) == 1
    assert columns[0].type.name == form.result.name or len(form.result.name) == 1


@pytest.mark.parametrize("form", [form for forms in aggregates.values() for form in forms], ids=str)
def test_aggregates_take_no_rows(lake: Engine, form: Overload) -> None:
    _, rows = lake.run(f"SELECT {written(form)} FROM (VALUES 1) t(x) WHERE false")
    assert len(rows) == 1


@pytest.mark.parametrize("form", [form for forms in windows.values() for form in forms], ids=str)
def test_window_functions_run_over_rows(lake: Engine, form: Overload) -> None:
    given = ", ".join("x" if n == 0 else "1" for n, _ in enumerate(form.parameters))
    _, rows = lake.run(f"SELECT {form.name}({given}) OVER (ORDER BY x) FROM (VALUES 1, 2) t(x)")
    assert len(rows) == 2


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_python_functions_return_null_for_null(lake: Engine, name: str) -> None:
    nulls = ", ".join(f"CAST(NULL AS {kind})" for kind in FUNCTIONS[name].parameters)
    assert lake.connection.execute(f"SELECT lake_{name}({nulls})").fetchone() == (None,)


def test_refusal_of_a_call_lists_its_forms(lake: Engine) -> None:
    with pytest.raises(Exception, match=r"line 1:8: .*Expected: upper\(varchar\)"):
        lake.run("SELECT upper(1)")
    with pytest.raises(Exception, match="line 1:8: Function 'read_csv' not registered"):
        lake.run("SELECT read_csv('x')")
    assert scalars["upper"][0].parameters == (VARCHAR,)


def test_modules_with_functions_are_loaded() -> None:
    assert len(FUNCTIONS) > 60
    assert len(prepared.FUNCTION_MODULES) == 4
