"""Typed documents of the control store."""

from __future__ import annotations

from typing import Any, Self

import msgspec

from opentrail.ports.control import Document


class StoredDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A document whose members are those of its class; absent ones have their defaults."""

    #: Members of other versions, which are stored again as they were.
    others: dict[str, Any] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, document: Document) -> Self:
        """Returns the value that a document describes; the inverse of `document`.

        Raises:
            msgspec.ValidationError: a member is missing or has another type.
        """
        others = {k: v for k, v in document.items() if k not in cls.__struct_fields__}
        return msgspec.convert({**document, "others": others}, cls)

    def document(self) -> Document:
        """Returns the document to store."""
        members: Document = msgspec.to_builtins(self)
        return {**members.pop("others"), **members}
