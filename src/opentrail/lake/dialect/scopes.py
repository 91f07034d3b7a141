"""What names mean in each part of a statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from opentrail.lake.dialect.types import Type


@dataclass(frozen=True, slots=True)
class Value:
    """A translated expression.

    Attributes:
        sql: DuckDB's expression.
        type: Trino's type of it.
        text: the value of a string literal.
        path: members of the record's JSON that a column of events stands for.
    """

    sql: str
    type: Type
    text: str | None = None
    path: tuple[str, ...] | None = None
    #: The column with the record, if there is a path.
    record: str = "record"


@dataclass(frozen=True, slots=True)
class Field:
    """A column that a statement can name."""

    name: str | None
    value: Value
    qualifier: str | None = None


@dataclass(slots=True)
class Grouping:
    """The keys of a grouped query: source expressions, by DuckDB's text, and their columns."""

    source: Scope
    keys: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class Scope:
    """The columns that expressions can name, innermost first."""

    fields: Sequence[Field] = ()
    parent: Scope | None = None
    grouping: Grouping | None = None
    #: Why aggregates cannot stand here; empty if they can.
    refuses_aggregates: str = ""
    refuses_windows: str = ""

    def named(self, name: str, qualifier: str | None = None) -> list[Field]:
        """Returns the fields of a name, of all or one qualifier, in any case."""
        return [
            each
            for each in self.fields
            if each.name is not None
            and each.name.lower() == name.lower()
            and (
                qualifier is None
                or (each.qualifier is not None and each.qualifier.lower() == qualifier.lower())
            )
        ]


@dataclass(frozen=True, slots=True)
class Table:
    """A table that statements may read.

    Attributes:
        sql: what follows DuckDB's FROM.
        columns: names as stored, and the values of the columns.
    """

    sql: str
    columns: Sequence[tuple[str, Value]]


class Catalog(Protocol):
    """The tables of a caller."""

    def table(self, name: str) -> Table | None:
        """Returns the table of a name, in any case; None if the caller has none."""


class Tables:
    """A catalog of fixed tables."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = {name.lower(): table for name, table in tables.items()}

    def table(self, name: str) -> Table | None:
        return self._tables.get(name.lower())
