"""Requests of DynamoDB whose records have other members than their models.

From "Understanding DynamoDB log file entries" of its developer guide.
"""

from __future__ import annotations

from typing import Any


def as_recorded(operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Returns the rendered parameters of a call in the form of its records."""
    if operation == "TransactWriteItems" and isinstance(parameters.get("transactItems"), list):
        return _renamed(
            parameters, "transactItems", [_operation(item) for item in parameters["transactItems"]]
        )
    if operation == "BatchExecuteStatement" and isinstance(parameters.get("statements"), list):
        return _renamed(parameters, "statements", parameters["statements"])
    return parameters


def _renamed(parameters: dict[str, Any], name: str, items: Any) -> dict[str, Any]:
    return {
        ("requestItems" if each == name else each): (items if each == name else value)
        for each, value in parameters.items()
    }


def _operation(item: Any) -> Any:
    """Returns `{"operation": "Put", "tableName": …}` of `{"put": {"tableName": …}}`."""
    if not isinstance(item, dict) or len(item) != 1:
        return item
    ((name, members),) = item.items()
    if not isinstance(members, dict):
        return item
    return {"operation": f"{name[:1].upper()}{name[1:]}", **members}
