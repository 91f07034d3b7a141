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
    """Returns what the record has at a path, as a type; JSON's null is NULL."""
    names = (name.replace("~", "~0").replace("/", "~1").replace("'", "''") for name in path)
    pointer = "'/" + "/".join(names) + "'"
    if record is None:  # the columns of a table, which each reference binds to a record
        return Value("", kind, path=path)
    if kind.args:
        sql = _typed(record.name, pointer, kind)
    else:
        sql = _converted(record.member(pointer), kind)
    return Value(sql, kind, path=path, record=record)


def _typed(text: str, pointer: str, kind: Type) -> str:
    if kind.name == "row":
        part = f"lake_part({text}, {pointer})"
        members = ", ".join(
            f"'f{n}': {_typed(text, _below(pointer, name or ''), each)}"
            for n, (name, each) in enumerate(zip(kind.fields, kind.args, strict=True))
        )
        return f"CASE WHEN {part} IS NOT NULL THEN {{{members}}} END"
    if kind.name == "map":
        return f"lake_string_map(lake_part({text}, {pointer}))"
    if kind.name == "array":
        row = kind.args[0]
        members = ", ".join(
            f"'f{n}': {_typed('o_', _below('', name or ''), each)}"
            for n, (name, each) in enumerate(zip(row.fields, row.args, strict=True))
        )
        objects = f"lake_objects(lake_part({text}, {pointer}))"
        return f"list_transform({objects}, lambda o_: {{{members}}})"
    return _converted(f"lake_member({text}, {pointer})", kind)


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
