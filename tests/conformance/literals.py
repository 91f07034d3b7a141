"""The visible part of statements: their text without the literals."""

from __future__ import annotations

HIDDEN = "***(Redacted)"


def without_literals(statement: str) -> str:
    """Returns a statement of PartiQL with its strings and numbers hidden.

    The names of the attributes of a new item stay.
    """
    shown, at, depth = "", 0, 0
    is_insert = statement.lstrip().upper().startswith("INSERT")
    while at < len(statement):
        character, before = statement[at], statement[at - 1 : at]
        end = at + 1
        if character == '"':
            end = statement.find('"', at + 1) + 1 or len(statement)
            is_whole = end - at > 1 and statement[end - 1] == '"'
            shown += statement[at:end] if is_whole else HIDDEN
        elif character == "'":
            while end < len(statement) and (
                statement[end] != "'" or statement[end : end + 2] == "''"
            ):
                end += 2 if statement[end] == "'" else 1
            end = min(end + 1, len(statement))
            names = is_insert and depth == 1 and statement[end:].lstrip().startswith(":")
            shown += statement[at:end] if names else HIDDEN
        elif character.isdigit() and not (before and (before.isalnum() or before in "_.")):
            while end < len(statement) and (statement[end].isalnum() or statement[end] in "_."):
                end += 1
            shown += HIDDEN
        else:
            depth += {"{": 1, "}": -1}.get(character, 0)
            shown += character
        at = end
    return shown
