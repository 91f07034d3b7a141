"""Columns of events that are read from the record's JSON where a statement uses them."""

from __future__ import annotations

from dataclasses import replace

from opentrail.lake.dialect.scopes import RecordColumn, Value
from opentrail.lake.dialect.types import Type


def record_member(value: Value, name: str, kind: Type) -> Value:
    """Returns a member of a value that is a part of the record."""
    record = value.record or RecordColumn("record")
    return member((*(value.path or ()), name), kind, record)


def member(path: tuple[str, ...], kind: Type, record: RecordColumn | None = None) -> Value:
    """Returns the record's value at a path, as a type; JSON's null is NULL."""
    names = (name.replace("~", "~0").replace("/", "~1").replace("'", "''") for name in path)
    pointer = "'/" + "/".join(names) + "'"
    if record is None:  # the columns of a table, which each reference binds to a record
        return Value("", kind, path=path)
    if kind.args:
        sql = _typed(_Text(record.name), pointer, kind)
    else:
        sql = _converted(record.member(pointer), kind)
    return Value(sql, kind, path=path, record=record)


class _Text:
    """Reads each member and part of a JSON string separately."""

    def __init__(self, sql: str) -> None:
        self._sql = sql

    def member(self, pointer: str) -> str:
        return f"lake_member({self._sql}, {pointer})"

    def part(self, pointer: str) -> str:
        return f"lake_part({self._sql}, {pointer})"


class WholeRecord:
    """Reads all members of the column `record` at once, for queries that use every member.

    `typed` returns expressions over the columns that `columns` adds to a table.
    """

    def __init__(self) -> None:
        self._members: dict[str, int] = {}
        self._parts: dict[str, int] = {}

    def typed(self, name: str, kind: Type) -> str:
        """Returns the expression of a member of the record, which `member` returns as well."""
        pointer = f"'/{name}'"
        return _typed(self, pointer, kind) if kind.args else _converted(self.member(pointer), kind)

    def member(self, pointer: str) -> str:
        return f"members_[{self._members.setdefault(pointer, len(self._members) + 1)}]"

    def part(self, pointer: str) -> str:
        place = self._parts.setdefault(pointer, len(self._parts) + 1)
        return f"nullif(parts_[{place}], 'null')"

    @property
    def columns(self) -> str:
        """The columns to add; a record that DuckDB cannot read as a whole is read by members."""
        members, parts = ", ".join(self._members), ", ".join(self._parts)
        text = _Text("record")
        each_member = ", ".join(map(text.member, self._members))
        each_part = ", ".join(map(text.part, self._parts))
        return (
            f"coalesce(TRY(json_extract_string(record, [{members}])), [{each_member}]) AS members_,"
            f" coalesce(TRY(json_extract(record, [{parts}])::VARCHAR[]), [{each_part}]) AS parts_"
        )


def _typed(source: _Text | WholeRecord, pointer: str, kind: Type) -> str:
    if kind.name == "row":
        members = ", ".join(
            f"'f{n}': {_typed(source, _below(pointer, name or ''), each)}"
            for n, (name, each) in enumerate(zip(kind.fields, kind.args, strict=True))
        )
        return f"CASE WHEN {source.member(pointer)} IS NOT NULL THEN {{{members}}} END"
    if kind.name == "map":
        return f"lake_string_map({source.part(pointer)})"
    if kind.name == "array":
        row, item = kind.args[0], _Text("o_")
        members = ", ".join(
            f"'f{n}': {_typed(item, _below('', name or ''), each)}"
            for n, (name, each) in enumerate(zip(row.fields, row.args, strict=True))
        )
        objects = f"lake_objects({source.part(pointer)})"
        return f"list_transform({objects}, lambda o_: {{{members}}})"
    return _converted(source.member(pointer), kind)


def _converted(found: str, kind: Type) -> str:
    if kind.name == "timestamp":
        return f"lake_moment({found})"
    if kind.name == "boolean":
        return f"TRY_CAST({found} AS BOOLEAN)"
    return found


def _below(pointer: str, name: str) -> str:
    return "'" + pointer.strip("'") + "/" + name + "'"


def lowered(kind: Type) -> Type:
    """Returns a type with the names of its fields as CloudTrail Lake shows them."""
    fields = tuple(name.lower() if name is not None else None for name in kind.fields)
    return replace(kind, fields=fields, args=tuple(lowered(each) for each in kind.args))
