"""What names mean in each part of a statement."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from opentrail.lake.dialect.types import Type

#: Names that a statement may give the one database, and the one catalog.
DATABASES = ("default", "lake")
CATALOGS = (*DATABASES, "awsdatacatalog")


@dataclass(slots=True, eq=False)
class RecordColumn:
    """A column with records, and a column with the members of it that a statement uses.

    One call extracts all members, so that DuckDB parses each record once.
    """

    name: str
    pointers: list[str] = field(default_factory=list)
    #: In the names that `complete` replaces: no literal of a statement has it.
    _mark: str = field(default_factory=lambda: secrets.token_hex(8))

    def member(self, pointer: str) -> str:
        """Returns the expression of a member, by its JSON pointer."""
        if pointer not in self.pointers:
            self.pointers.append(pointer)
        return f"{self._mark}[{self.pointers.index(pointer) + 1}]"

    @property
    def columns(self) -> str:
        """The placeholder of the columns in SELECT, which `complete` replaces."""
        return f"columns_{self._mark}"

    def complete(self, sql: str) -> str:
        """Returns a translation with only the columns that it uses."""
        pattern = rf"\b{self._mark}\[(\d+)\]"
        used = {int(number) for number in re.findall(pattern, sql)}
        numbers = {number: str(place) for place, number in enumerate(sorted(used), 1)}
        columns = f"record AS {self.name}"
        if used:
            pointers = ", ".join(self.pointers[number - 1] for number in sorted(used))
            extracted = f"TRY(json_extract_string(record, [{pointers}]))"
            columns += f", {extracted} AS {self.name}_members"
        sql = re.sub(
            pattern,
            lambda found: f"{self.name}_members[{numbers[int(found[1])]}]",
            sql,
        )
        return sql.replace(self.columns, columns)


@dataclass(frozen=True, slots=True)
class Value:
    """A translated expression.

    Attributes:
        sql: DuckDB's expression.
        type: Trino's type of it.
        text: the value of a string literal.
        path: the members of the record's JSON that lead to the value.
        record: the column of the record, if there is a path.
        stored: a stored column that contains the value where it is neither NULL nor empty; or the
            seconds of a time.
    """

    sql: str
    type: Type
    text: str | None = None
    path: tuple[str, ...] | None = None
    record: RecordColumn | None = None
    stored: str | None = None


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
    #: Why aggregates are not allowed here; empty if they are.
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
class QueryTable:
    """A table that statements may read.

    Attributes:
        sql: what follows DuckDB's FROM.
        columns: names as stored, and the values of the columns.
    """

    sql: str
    columns: Sequence[tuple[str, Value]]


class Catalog(Protocol):
    """The tables of a caller."""

    def table(self, name: str) -> QueryTable | None:
        """Returns the table of a name, in any case; None if the caller has none."""
