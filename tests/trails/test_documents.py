"""Typed documents are stored unchanged."""

from __future__ import annotations

import msgspec
import pytest

from opentrail.ports.control import StoredDocument


class Example(StoredDocument, frozen=True, kw_only=True):
    """A document with a member that earlier versions did not have."""

    name: str
    size: int | None = None


def test_members_of_other_versions_are_stored_again() -> None:
    example = Example.of({"name": "a", "later": [1]})
    assert (example.name, example.size) == ("a", None)
    changed = msgspec.structs.replace(example, size=3)
    assert changed.document() == {"name": "a", "size": 3, "later": [1]}


def test_document_without_a_required_member_is_an_error() -> None:
    with pytest.raises(msgspec.ValidationError, match="name"):
        Example.of({"size": 1})
