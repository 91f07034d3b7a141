"""The description of the JSON API, and its types for the web console, from the code."""

from __future__ import annotations

import json
from typing import Any

from opentrail.api.v1.openapi import GROUPS
from opentrail.api.v1.openapi import describe

Schema = dict[str, Any]
_NAMES = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean"}


def description() -> str:
    """Returns the description in OpenAPI."""
    return json.dumps(describe(GROUPS), indent=2, ensure_ascii=False) + "\n"


def types() -> str:
    """Returns an interface for each shape of an answer."""
    lines = ["/** Types of the server's answers. Made by scripts/reference.py; do not edit. */"]
    for name, schema in describe(GROUPS)["components"]["schemas"].items():
        if text := schema.get("description"):
            lines += ["", f"/** {text} */"]
        else:
            lines.append("")
        required = schema.get("required", ())
        lines.append(f"export interface {name} {{")
        lines += [
            f"  {member}{'' if member in required else '?'}: {_type(of)};"
            for member, of in schema["properties"].items()
        ]
        lines.append("}")
    return "\n".join(lines) + "\n"


def _type(schema: Schema) -> str:
    """Returns the type of TypeScript for a schema."""
    if reference := schema.get("$ref"):
        return str(reference).rpartition("/")[2]
    if choices := schema.get("anyOf"):
        return " | ".join(_type(choice) for choice in choices)
    if values := schema.get("enum"):
        return " | ".join(json.dumps(value) for value in values)
    kind = schema.get("type")
    if kind == "null":
        return "null"
    if parts := schema.get("prefixItems"):
        return f"[{', '.join(_type(part) for part in parts)}]"
    if kind == "array":
        item = _type(schema.get("items", {}))
        return f"({item})[]" if " " in item else f"{item}[]"
    if kind == "object":
        return f"Record<string, {_type(schema.get('additionalProperties', {}))}>"
    return _NAMES.get(str(kind), "unknown")
