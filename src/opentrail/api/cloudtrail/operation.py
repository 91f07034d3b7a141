"""The register of API operations, and the validation of their input against AWS's model."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from opentrail.access.resource_policies import ResourcePolicies
from opentrail.api.services import Services
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Json
from opentrail.core.trail import Trail, stored_time
from opentrail.trails.registry import StoredTrail


@dataclass(frozen=True, slots=True)
class OperationCall:
    """One validated call of an operation."""

    operation: str
    input: Json
    account: str
    region: str
    event_id: str
    services: Services
    resource_policies: ResourcePolicies
    #: The ARNs of other accounts' resources for which policies allow the call.
    shared: frozenset[str]
    #: The ARNs of the stores that the queries of the call read; None for a call about no query.
    reads: list[str] | None
    #: Returns whether policies let the caller write to a URI; None if they do not decide.
    may_write: Callable[[str], bool | None]
    #: Adds an action to run with the position of this call's record, before sending the answer.
    when_recorded: Callable[[Callable[[int], Awaitable[None]]], None]

    def now(self) -> str:
        """Returns the current time in the form of stored documents."""
        return stored_time(self.services.clock.now())

    async def trail_to_change(self, name_or_arn: str) -> StoredTrail:
        """Returns the trail that this call is about to change.

        Raises:
            CloudTrailError: as `TrailRegistry.find_at_home`. A delegated administrator may change
                the trails of its organization, other members may not.
        """
        trails = self.services.trails
        stored = await trails.find(self.account, self.region, name_or_arn)
        administrates = await self.services.organizations.administrates(self.account, stored.trail)
        return await trails.find_at_home(self.account, self.region, name_or_arn, administrates)

    def close_span_when_recorded(self, trail: Trail) -> None:
        """Ends the span that this call closes at the position of the call's record."""
        if not any(span.closing_event == self.event_id for span in trail.spans):
            return

        async def close_span(position: int) -> None:
            await self.services.deliveries.close_span(trail.uid, self.event_id, position)

        self.when_recorded(close_span)

    def time(self, member: str, code: str = "InvalidTimeRangeException") -> datetime | None:
        """Returns a timestamp member of the input.

        Raises:
            CloudTrailError: with this code, for a time outside the calendar.
        """
        seconds = self.input.get(member)
        if seconds is None:
            return None
        try:
            return datetime.fromtimestamp(seconds, UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise CloudTrailError(code, f"{member} {seconds} is not a time") from error

    def times(
        self, code: str = "InvalidTimeRangeException"
    ) -> tuple[datetime | None, datetime | None]:
        """Returns `StartTime` and `EndTime` of the input.

        Raises:
            CloudTrailError: with this code, if the start is after the end, or as `time`.
        """
        start, end = self.time("StartTime", code), self.time("EndTime", code)
        if start is not None and end is not None and start > end:
            raise CloudTrailError(code, "The start time must not be after the end time.")
        return start, end

    def first_in_page(self, of: str) -> int:
        """Returns the number of the first item in a page of a list.

        Raises:
            CloudTrailError: `InvalidNextTokenException`: the token belongs to another list.
        """
        first = first_in_page(of, self.input.get("NextToken"))
        if first is None:
            message = "NextToken is not a token of this list."
            raise CloudTrailError("InvalidNextTokenException", message)
        return first

    def page(self, of: str, items: Sequence[Any], most: int) -> tuple[Sequence[Any], Json]:
        """Returns the items of a page, and the members of the answer that lead to the next one.

        Args:
            of: the list.
            items: the whole list.
            most: maximum items, unless the call has `MaxResults`.

        Raises:
            CloudTrailError: as `first_in_page`.
        """
        return page_of(of, items, self.first_in_page(of), self.input.get("MaxResults") or most)


def page_of(of: str, items: Sequence[Any], first: int, most: int) -> tuple[Sequence[Any], Json]:
    """Returns the items of a list's page, and `NextToken` unless it is the last page."""
    page = items[first : first + most]
    end = first + len(page)
    return page, ({"NextToken": page_token(of, end)} if end < len(items) else {})


def page_token(of: str, first: int) -> str:
    """Returns the token of a list's page from an item on; the inverse of `first_in_page`."""
    return base64.urlsafe_b64encode(f"{of} {first}".encode()).decode()


def first_in_page(of: str, token: str | None) -> int | None:
    """Returns the number of the first item in a page; None if the token is of another list."""
    if token is None:
        return 0
    try:
        owner, _, first = base64.urlsafe_b64decode(token).decode().rpartition(" ")
    except ValueError:
        return None
    return int(first) if owner == of and first.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Operation:
    """An implemented operation; `without` lists unsupported members of its input."""

    name: str
    handler: Callable[[OperationCall], Awaitable[Json]]
    without: frozenset[str]
    #: Input member → AWS's error code for a value that does not match the model.
    errors: dict[str, str]
    #: Groups of input members; a call must have members of exactly one group.
    either: tuple[tuple[str, ...], ...] = ()


REGISTER: dict[str, Operation] = {}


def operation(
    name: str,
    without: tuple[str, ...] = (),
    errors: dict[str, str] | None = None,
    either: tuple[tuple[str, ...], ...] = (),
) -> Callable[
    [Callable[[OperationCall], Awaitable[Json]]], Callable[[OperationCall], Awaitable[Json]]
]:
    """Registers a handler under the operation's name in AWS's model."""

    def register(
        handler: Callable[[OperationCall], Awaitable[Json]],
    ) -> Callable[[OperationCall], Awaitable[Json]]:
        REGISTER[name] = Operation(name, handler, frozenset(without), errors or {}, either)
        return handler

    return register


_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "timestamp": (int, float),
    "structure": (dict,),
    "list": (list,),
    "map": (dict,),
}


#: Java's regular expressions in AWS's models → Python's.
_PYTHON_PATTERNS = (
    ("\\p{L}", "\\w"),
    ("\\p{Z}", "\\s"),
    ("\\p{N}", "\\d"),
    ("\\uD800\\uDC00-\\uDBFF\\uDFFF", "\\U00010000-\\U0010FFFF"),
)


def validate(shape: Any, value: Any, path: str = "") -> None:
    """Returns if `value` matches `shape`; a member of the input has a path.

    Raises:
        CloudTrailError: `SerializationException` for a wrong JSON type, `ValidationException` in
            AWS's wording for everything else.
    """
    problems: list[str] = []
    _check(shape, value, path, problems)
    if problems:
        count = len(problems)
        noun = "error" if count == 1 else "errors"
        raise CloudTrailError(
            "ValidationException", f"{count} validation {noun} detected: {'; '.join(problems)}"
        )


def _check(shape: Any, value: Any, path: str, problems: list[str]) -> None:
    _check_type(shape, value, path)
    if shape.type_name == "structure":
        _check_structure(shape, value, path, problems)
        return
    _check_size(shape, value, path, problems)
    if shape.type_name == "list":
        for index, item in enumerate(value, 1):
            _check(shape.member, item, f"{path}.{index}.member", problems)
    elif shape.type_name == "map":
        for key, item in value.items():
            _check(shape.key, key, f"{path}.key", problems)
            _check(shape.value, item, f"{path}.value", problems)
    elif shape.type_name == "string":
        _check_text(shape, value, path, problems)


def _check_type(shape: Any, value: Any, path: str) -> None:
    expected = _PYTHON_TYPES.get(shape.type_name)
    if expected is None:
        return
    fits = isinstance(value, expected) and (
        shape.type_name == "boolean" or not isinstance(value, bool)
    )
    if not fits:
        raise CloudTrailError(
            "SerializationException",
            f"{path or 'the request'} must be of JSON type {shape.type_name}, "
            f"not {type(value).__name__}",
        )


def _check_structure(shape: Any, value: Json, path: str, problems: list[str]) -> None:
    for name in shape.required_members:
        if value.get(name) is None:
            problems.append(
                f"Value null at '{member_path(path, name)}' failed to satisfy constraint: "
                "Member must not be null"
            )
    for name, member in shape.members.items():
        if value.get(name) is not None:
            _check(member, value[name], member_path(path, name), problems)


def _check_size(shape: Any, value: Any, path: str, problems: list[str]) -> None:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    measured, what = value, "have value"
    if shape.type_name in ("string", "list", "map"):
        measured, what = len(value), "have length"
    elif shape.type_name not in ("integer", "long"):
        return
    for limit, beyond, word in ((low, -1, "greater"), (high, 1, "less")):
        if limit is not None and (measured - limit) * beyond > 0:
            problems.append(
                f"Value '{_truncate(value)}' at '{path}' failed to satisfy constraint: "
                f"Member must {what} {word} than or equal to {limit}"
            )


def _check_text(shape: Any, value: str, path: str, problems: list[str]) -> None:
    enum = shape.metadata.get("enum")
    if enum and value not in enum:
        problems.append(
            f"Value '{_truncate(value)}' at '{path}' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(enum)}]"
        )
    pattern = shape.metadata.get("pattern")
    if pattern and not _compiled(pattern).search(value):
        problems.append(
            f"Value '{_truncate(value)}' at '{path}' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {pattern}"
        )


#: `$` also matches before a line break at the end of a string.
_FINAL = re.compile(r"(?<!\\)\$\Z")


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Returns a pattern of AWS's models, which are written for Java."""
    for java, python in _PYTHON_PATTERNS:
        pattern = pattern.replace(java, python)
    return re.compile(_FINAL.sub(r"\\Z", pattern))


def member_path(path: str, name: str) -> str:
    """Returns the path of a member in messages."""
    lowered = name[:1].lower() + name[1:]
    return f"{path}.{lowered}" if path else lowered


def _truncate(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
