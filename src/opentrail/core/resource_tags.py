"""Tags of a resource (cloudtrail-format §8.4)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentrail.core.errors import CloudTrailError

MAX_TAGS = 50
#: Maximum characters of a tag's key.
_MAX_KEY_LENGTH = 128
#: Maximum characters of a tag's value.
_MAX_VALUE_LENGTH = 256
_SIGNS = "_.:/=+-@"

#: Key and value of each tag, by key.
Tags = tuple[tuple[str, str], ...]


def read_tags(tag_list: Sequence[Mapping[str, Any]]) -> Tags:
    """Returns the tags of an API call, by key.

    Raises:
        CloudTrailError: `InvalidTagParameterException`.
    """
    tags: dict[str, str] = {}
    for tag in tag_list:
        key, value = str(tag.get("Key", "")), str(tag.get("Value", ""))
        _check("key", key, 1, _MAX_KEY_LENGTH)
        _check("value", value, 0, _MAX_VALUE_LENGTH)
        if key.lower().startswith("aws:"):
            raise _invalid(f"Tag key {key!r} is reserved: keys must not start with aws:")
        if key in tags:
            raise _invalid(f"Tag key {key!r} is given more than once.")
        tags[key] = value
    return tuple(sorted(tags.items()))


def with_tags(current: Tags, added: Tags) -> Tags:
    """Returns current tags with added ones, which replace those of the same keys.

    Raises:
        CloudTrailError: `TagsLimitExceededException`.
    """
    tags = dict([*current, *added])
    if len(tags) > MAX_TAGS:
        raise CloudTrailError(
            "TagsLimitExceededException",
            f"A resource can have {MAX_TAGS} tags at most; it would have {len(tags)}.",
        )
    return tuple(sorted(tags.items()))


def without_tags(current: Tags, removed: Iterable[str]) -> Tags:
    """Returns current tags without those of the removed keys, which need not exist."""
    keys = frozenset(removed)
    return tuple(tag for tag in current if tag[0] not in keys)


def as_tag_list(tags: Tags) -> list[dict[str, str]]:
    """Returns tags as ListTags does."""
    return [{"Key": key, "Value": value} for key, value in tags]


def _check(what: str, text: str, min_length: int, max_length: int) -> None:
    if not min_length <= len(text) <= max_length:
        raise _invalid(f"Tag {what} {text!r} must have {min_length} to {max_length} characters.")
    wrong = next((c for c in text if c not in _SIGNS and not _is_plain(c)), None)
    if wrong is not None:
        raise _invalid(
            f"Tag {what} {text!r} must not have {wrong!r}: letters, digits, spaces and {_SIGNS} "
            "are allowed."
        )


def _is_plain(character: str) -> bool:
    return unicodedata.category(character)[0] in "LZN"


def _invalid(message: str) -> CloudTrailError:
    return CloudTrailError("InvalidTagParameterException", message)
