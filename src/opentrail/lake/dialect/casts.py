"""DuckDB expressions that convert a value from one of Trino's types to another."""

from __future__ import annotations

from itertools import count

from opentrail.lake.dialect.types import VARCHAR, Type

_numbers = count(1)


def coerced(sql: str, source: Type, target: Type) -> str:
    """Converts a value where Trino does so implicitly, such as `integer` to `double`."""
    if source == target or (source.engine == target.engine and not source.args):
        return sql
    if source.name == "unknown":
        return f"CAST({sql} AS {target.engine})"
    if source.args or target.args:
        return cast(sql, source, target) or sql
    if source.name == "date":
        return f"CAST({sql} AS TIMESTAMP)"
    return f"CAST({sql} AS {target.engine})"


def cast(sql: str, source: Type, target: Type) -> str | None:
    """Returns `CAST(sql AS target)` of Trino in DuckDB; None where Trino refuses it."""
    if source.name == "unknown":
        return f"CAST({sql} AS {target.engine})"
    if target.name == "timestamp" and source.name in ("timestamp", "timestamptz"):
        return _rounded(sql, source, target)
    if source == target:
        return sql
    if target.name == "json":
        text = json_text(sql, source)
        return None if text is None else f"CASE WHEN {sql} IS NOT NULL THEN {text} END"
    if source.name == "json":
        return _from_json(sql, target)
    if target.name == "varchar":
        return text_of(sql, source)
    if source.name == "varchar":
        return _from_text(sql, target)
    if source.name == target.name and source.args:
        return _nested(sql, source, target)
    return _plain(sql, source, target)


def tried(sql: str) -> str:
    """Returns TRY of an expression; it fails where a value was not supported."""
    return f"coalesce(TRY({sql}), lake_tried())"


def _rounded(sql: str, source: Type, target: Type) -> str:
    if target.precision >= source.precision:
        return sql
    return f"lake_round_time({sql}, {10 ** (6 - target.precision)})"


def _nested(sql: str, source: Type, target: Type) -> str | None:
    name = f"e{next(_numbers)}_"
    if source.name == "array":
        element = cast(name, source.args[0], target.args[0])
        return element and f"list_transform({sql}, lambda {name}: {element})"
    if source.name == "map":
        key = cast(f"{name}.key", source.args[0], target.args[0])
        value = cast(f"{name}.value", source.args[1], target.args[1])
        if not key or not value:
            return None
        pairs = f"list_transform(map_entries({sql}), lambda {name}: {{'k': {key}, 'v': {value}}})"
        return f"map_from_entries({pairs})"
    if source.name != "row" or len(source.args) != len(target.args):
        return None
    fields = [
        cast(f"struct_extract({sql}, 'f{n}')", a, b)
        for n, (a, b) in enumerate(zip(source.args, target.args, strict=True))
    ]
    if None in fields:
        return None
    packed = ", ".join(f"'f{n}': {field}" for n, field in enumerate(fields))
    return f"CASE WHEN {sql} IS NOT NULL THEN {{{packed}}} END"


def _plain(sql: str, source: Type, target: Type) -> str | None:
    if source.is_number and target.is_number:
        if source.name in ("double", "real") and target.is_integer:
            return f"CAST(round({sql}) AS {target.engine})"
        if source.name in ("double", "real") and target.name == "decimal":
            return f"lake_decimal_of({sql}, {target.precision}, {target.scale})::{target.engine}"
        return f"CAST({sql} AS {target.engine})"
    if source.name == "boolean" and target.is_number:
        return f"CAST(CAST({sql} AS INTEGER) AS {target.engine})"
    if target.name == "boolean" and source.is_number:
        return f"({sql} <> 0)"
    names = (source.name, target.name)
    if names in (("timestamp", "date"), ("timestamptz", "date")):
        return f"CAST({sql} AS DATE)"
    if names in (("date", "timestamp"), ("date", "timestamptz")):
        return f"CAST({sql} AS TIMESTAMP)"
    if names in (("timestamp", "timestamptz"), ("timestamptz", "timestamptz")):
        return _rounded(sql, source, target)
    return None


def text_of(sql: str, source: Type) -> str | None:
    """Returns the text that Trino shows for a value; None for types that it does not show."""
    if source.name == "double":
        return f"lake_double_text(CAST({sql} AS VARCHAR))"
    if source.name in ("timestamp", "timestamptz"):
        shown = f"lake_time_text({sql}, {source.precision})"
        return f"({shown} || ' UTC')" if source.name == "timestamptz" else shown
    if source.name == "interval day to second":
        return f"lake_interval_text({sql})"
    if source.name == "json":
        return f"lake_json_to_text({sql})"
    if source.name == "ipaddress":
        return f"lake_address_text({sql})"
    if source.name == "real":
        return None
    if source.is_number or source.name in ("boolean", "date", "uuid"):
        return f"CAST({sql} AS VARCHAR)"
    return sql if source.name == "varchar" else None


def _from_text(sql: str, target: Type) -> str | None:
    if target.is_integer:
        return f"CAST(lake_integer({sql}, '{_SHOWN[target.name]}') AS {target.engine})"
    if target.name in ("double", "real"):
        return f"CAST(lake_double({sql}, '{target.name.upper()}') AS {target.engine})"
    if target.name == "decimal":
        return f"CAST(lake_decimal({sql}, '{target}') AS {target.engine})"
    if target.name == "boolean":
        return f"lake_boolean({sql})"
    if target.name == "date":
        return f"lake_date_of({sql})"
    if target.name in ("timestamp", "timestamptz"):
        zoned = "true" if target.name == "timestamptz" else "false"
        return f"lake_timestamp({sql}, {target.precision}, {zoned})"
    if target.name == "ipaddress":
        return f"lake_address({sql})"
    if target.name == "uuid":
        return f"lake_uuid({sql})"
    return None


_SHOWN = {"integer": "INT", "bigint": "BIGINT", "smallint": "SMALLINT", "tinyint": "TINYINT"}


def json_text(sql: str, source: Type) -> str | None:
    """Returns the JSON text of a value that is not NULL, keys sorted; None where Trino refuses."""
    if source.name in ("json", "boolean") or source.is_integer:
        return f"CAST({sql} AS VARCHAR)"
    if source.name == "unknown":
        return "'null'"
    if source.name == "decimal":
        return f"CAST({sql} AS VARCHAR)"
    if source.name == "double":
        return f"lake_json_double({sql})"
    if source.name in ("varchar", "date", "timestamp", "timestamptz"):
        return f"lake_json_quote({text_of(sql, source)})"
    if source.name in _JSON_TEXTS:
        return _JSON_TEXTS[source.name](sql, source)
    return None


def _json_array(sql: str, source: Type) -> str | None:
    name = f"e{next(_numbers)}_"
    element = json_text(name, source.args[0])
    if element is None:
        return None
    items = f"list_transform({sql}, lambda {name}: coalesce({element}, 'null'))"
    return f"('[' || coalesce(array_to_string({items}, ','), '') || ']')"


def _json_map(sql: str, source: Type) -> str | None:
    name = f"e{next(_numbers)}_"
    key = text_of(f"{name}.key", source.args[0])
    value = json_text(f"{name}.value", source.args[1])
    if key is None or value is None:
        return None
    pairs = (
        f"list_sort(list_transform(map_entries({sql}), lambda {name}: "
        f"{{'k': {key}, 'v': coalesce({value}, 'null')}}))"
    )
    shown = f"list_transform({pairs}, lambda p_: lake_json_quote(p_.k) || ':' || p_.v)"
    return f"('{{' || coalesce(array_to_string({shown}, ','), '') || '}}')"


def _json_row(sql: str, source: Type) -> str | None:
    members = []
    for n, (field, kind) in enumerate(zip(source.fields, source.args, strict=True)):
        value = json_text(f"struct_extract({sql}, 'f{n}')", kind)
        if value is None:
            return None
        members.append(f"'{_quoted(field or '')}:' || coalesce({value}, 'null')")
    joined = " || ',' || ".join(members)
    return f"('{{' || {joined} || '}}')"


_JSON_TEXTS = {"array": _json_array, "map": _json_map, "row": _json_row}


def _quoted(name: str) -> str:
    return '"' + name.replace("'", "''").replace('"', '\\"') + '"'


def _from_json(sql: str, target: Type) -> str | None:
    if target.name == "json":
        return sql
    if target.name == "varchar":
        return f"lake_json_to_text({sql})"
    if target.name in ("double", "real"):
        return f"CAST(lake_json_to_double({sql}) AS {target.engine})"
    if target.is_integer:
        return f"CAST(lake_json_to_integer({sql}) AS {target.engine})"
    if target.name == "boolean":
        return f"lake_json_to_boolean({sql})"
    if target.name == "array":
        name = f"e{next(_numbers)}_"
        element = _from_json(name, target.args[0])
        items = f"lake_json_elements({sql}, {_keeps_null(target.args[0])})"
        return element and f"list_transform({items}, lambda {name}: {element})"
    if target.name == "map":
        return _map_from_json(sql, *target.args)
    return _row_from_json(sql, target) if target.name == "row" else None


def _map_from_json(sql: str, keys: Type, values: Type) -> str | None:
    name = f"e{next(_numbers)}_"
    value = _from_json(f"{name}.v", values)
    key = cast(f"{name}.k", VARCHAR, keys)
    if not value or not key:
        return None
    pairs = f"lake_json_members({sql}, {_keeps_null(values)})"
    made = f"list_transform({pairs}, lambda {name}: {{'k': {key}, 'v': {value}}})"
    return f"map_from_entries({made})"


def _row_from_json(sql: str, target: Type) -> str | None:
    names = ", ".join("'" + (field or "").replace("'", "''") + "'" for field in target.fields)
    members = []
    for n, kind in enumerate(target.args):
        value = _from_json(f"lake_json_field({sql}, [{names}], {n}, {_keeps_null(kind)})", kind)
        if value is None:
            return None
        members.append(f"'f{n}': {value}")
    packed = ", ".join(members)
    return f"CASE WHEN {sql} IS NOT NULL AND {sql} <> 'null' THEN {{{packed}}} END"


def _keeps_null(kind: Type) -> str:
    """Keeps JSON's null as a value only if the result is JSON."""
    return "true" if kind.name == "json" else "false"
