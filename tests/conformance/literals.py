"""What statements show: their text without the literals."""

from __future__ import annotations

HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"


def without_literals(statement: str) -> str:
    """Returns a PartiQL statement with what stands between single quotes hidden."""
    shown, quote, hidden, before = "", "", False, ""
    for character in statement:
        if quote or character in "'\"":
            if character == quote:
                quote = ""
            elif not quote:
                quote, hidden = character, False
            elif quote == "'":
                shown, hidden, before = shown + ("" if hidden else HIDDEN), True, character
                continue
            shown += character
        elif character.isdigit() and not (before and (before.isalnum() or before in "_.")):
            shown, hidden = shown + HIDDEN, True
        elif not (hidden and (character.isalnum() or character in "_.")):
            shown, hidden = shown + character, False
        before = character
    return shown
