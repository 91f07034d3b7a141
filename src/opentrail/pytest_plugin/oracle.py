"""The tests' view of recorded calls, and assertions about them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, overload

from opentrail.core.errors import UsageError
from opentrail.core.event import INSIGHT
from opentrail.pytest_plugin.calls import RecordedCall
from opentrail.pytest_plugin.expectations import (
    ANY,
    DeniedPermission,
    ExpectedCall,
    PolicyDocument,
    denials,
    expected_call,
    nearest,
    read_policy,
    smallest_statements,
)
from opentrail.pytest_plugin.golden import GoldenFolder, Mask
from opentrail.pytest_plugin.session_server import HINT, TestServer

#: Maximum similar calls in a message.
_MAX_NEAR = 5
#: Maximum calls in a message.
_MAX_LISTED = 20
#: Maximum names of calls in a representation.
_MAX_NAMED = 8


class RecordedCalls(Sequence[RecordedCall]):
    """The calls recorded after a mark, oldest first; up to another mark once `record()` has ended.

    Until then each access reads the calls recorded since.
    """

    def __init__(self, server: TestServer, golden: GoldenFolder) -> None:
        self._server = server
        self._golden = golden
        self._position = server.mark()
        self._calls: list[RecordedCall] = []
        self._is_over = False

    @property
    def calls(self) -> list[RecordedCall]:
        """The calls so far."""
        if not self._is_over:
            self._read(None)
        return list(self._calls)

    def _end(self) -> None:
        self._read(self._server.mark())
        self._is_over = True

    def _read(self, until: int | None) -> None:
        self._position, records = self._server.records(self._position, until)
        shared = {call.record.get("sharedEventID") for call in self._calls} - {None}
        for record in records:
            # A call that touches another account's resource is also recorded there.
            shared_id = record.get("sharedEventID")
            if record.get("eventCategory") == INSIGHT or shared_id in shared:
                continue
            if shared_id is not None:
                shared.add(shared_id)
            self._calls.append(RecordedCall(record))

    @overload
    def __getitem__(self, index: int) -> RecordedCall: ...

    @overload
    def __getitem__(self, index: slice) -> list[RecordedCall]: ...

    def __getitem__(self, index: int | slice) -> RecordedCall | list[RecordedCall]:
        return self.calls[index]

    def __len__(self) -> int:
        return len(self.calls)

    def __iter__(self) -> Iterator[RecordedCall]:
        return iter(self.calls)

    def __repr__(self) -> str:
        """Counts and names the calls, for pytest's output."""
        actions = [call.action for call in self.calls]
        more = ", …" if len(actions) > _MAX_NAMED else ""
        names = ", ".join(actions[:_MAX_NAMED])
        return f"<{len(actions)} recorded calls{': ' if actions else ''}{names}{more}>"

    def matching(self, action: str, **expected: Any) -> list[RecordedCall]:
        """Returns the calls that `assert_called` would find; none is not an error."""
        pattern = expected_call(action, **expected)
        return [call for call in self.calls if pattern.matches(call)]

    def assert_called(
        self, action: str, times: int | None = None, **expected: Any
    ) -> list[RecordedCall]:
        """Fails unless a call was recorded; returns the calls that match.

        Args:
            action: service and event, such as `s3:PutObject` or `iam:Create*`.
            times: the exact number of calls; None: at least one.
            **expected: members of the request, such as `bucket` or `user_name`. Not members are:
                `error`, the error code, or None for success, by default either;
                `user`, name or ARN of the caller; `region`, the call's Region;
                `parameters`, a dict of members whose names are not good as keywords.
                A value may be a compiled regular expression, or a function that returns whether a
                value is right.
        """
        __tracebackhide__ = True
        if times is not None and (type(times) is not int or times < 0):
            raise UsageError(f"times must be a number from 0, not {times!r}")
        pattern = expected_call(action, **expected)
        calls = self.calls
        matches = [call for call in calls if pattern.matches(call)]
        if (matches and times is None) or len(matches) == times:
            return matches
        raise AssertionError(_not_called(pattern, times, matches, calls))

    def assert_not_called(self, action: str, **expected: Any) -> None:
        """Fails if a call was recorded that `assert_called` would find.

        It also fails if only a value that opentrail hides keeps a call from being found.
        """
        __tracebackhide__ = True
        pattern = expected_call(action, **expected)
        matches = [call for call in self.calls if pattern.matches(call)]
        if matches:
            raise AssertionError(
                f"expected no call of {pattern}, but {_number(len(matches))} recorded:\n\n"
                + _list_calls(matches)
            )
        for call in self.calls:
            if hidden := pattern.undecided(call):
                raise AssertionError(
                    f"it is not known whether {pattern} was called, since a value is hidden:\n\n"
                    f"  {call}\n    " + "\n    ".join(hidden)
                )

    def assert_only_allowed(self, policy: PolicyDocument, *, user: Any = ANY) -> None:
        """Fails unless an identity-based policy allows every recorded call.

        Args:
            policy: a document, its JSON text, or the path of a file with it.
            user: name or ARN of the caller whose calls are checked; by default all callers.
        """
        __tracebackhide__ = True
        compiled = read_policy(policy)
        pattern = ExpectedCall("*:*", {}, user=user)
        every = self.calls
        calls = [call for call in every if pattern.matches(call)]
        if user is not ANY and not calls:
            callers = ", ".join(sorted({str(call.user) for call in every})) or "none"
            raise AssertionError(f"no call of user {user!r} was recorded; callers were: {callers}")
        if not calls:
            raise AssertionError("no call was recorded, so the policy was not tested")
        denied = denials(compiled, calls)
        if denied:
            raise AssertionError(_not_allowed(denied, len(calls)))

    def assert_golden(
        self,
        name: str | None = None,
        *,
        mask: Mask | None = None,
        only: Callable[[RecordedCall], bool] | None = None,
    ) -> None:
        """Fails unless the calls match a golden trail; `--update-golden` writes it.

        Args:
            name: the file `golden/NAME.json` next to the test; by default named after the test.
            mask: regular expression → text, for other values that differ between runs.
            only: returns whether a call is part of the golden trail; by default all are.
        """
        __tracebackhide__ = True
        records = [call.record for call in self.calls if only is None or only(call)]
        difference = self._golden.difference(name, records, mask or {})
        if difference:
            raise AssertionError(difference)


class Oracle(RecordedCalls):
    """The fixture `opentrail`: the calls of the whole test, and of parts of it."""

    @property
    def endpoint(self) -> str:
        """The address that AWS clients call."""
        return self._server.endpoint

    @property
    def environment(self) -> dict[str, str]:
        """The variables for other programs to call the endpoint."""
        return self._server.environment

    @contextmanager
    def record(self) -> Iterator[RecordedCalls]:
        """Yields the calls that are recorded inside the block."""
        calls = RecordedCalls(self._server, self._golden)
        try:
            yield calls
        finally:
            calls._end()


def _not_called(
    pattern: ExpectedCall, times: int | None, matches: list[RecordedCall], calls: list[RecordedCall]
) -> str:
    """Returns the message of a call that was not recorded as often as expected."""
    often = "" if times is None else f" {times} time{'' if times == 1 else 's'}"
    if matches:
        recorded = _number(len(matches))
        return f"expected {pattern}{often}, but {recorded} recorded:\n\n{_list_calls(matches)}"
    if not calls:
        return f"expected {pattern}{often}, but no call was recorded at all. {HINT}"
    lines = [f"expected {pattern}{often}, but no such call was recorded"]
    hints = (hint for call in calls if (hint := pattern.hint(call)))
    if hint := next(hints, None):
        lines[0] += f" ({hint})"
    near = nearest(pattern, calls, _MAX_NEAR)
    if near:
        lines += ["", f"The nearest of {len(calls)} recorded:"]
    for call in near:
        lines += [
            "",
            f"  {call}",
            *(f"    {difference}" for difference in pattern.differences(call)),
        ]
    return "\n".join(lines if near else [*lines, "", "Recorded:", "", _list_calls(calls)])


def _not_allowed(denied: list[DeniedPermission], count: int) -> str:
    """Returns the message of calls that a policy does not allow."""
    calls = list(dict.fromkeys(permission.call for permission in denied))
    lines = [f"the policy does not allow {len(calls)} of {count} recorded calls:"]
    for call in calls[:_MAX_LISTED]:
        lines += ["", f"  {call}"]
        for permission in denied:
            if permission.call is call:
                needs = permission.permission
                lines.append(f"    {needs.action} on {needs.resource}: {permission.reason}")
                lines += [f"      {condition}" for condition in permission.failed_conditions]
    if len(calls) > _MAX_LISTED:
        lines += ["", f"  and {len(calls) - _MAX_LISTED} more"]
    if statements := smallest_statements(denied):
        title = "This statement" if len(statements) == 1 else "These statements"
        text = ",\n".join(
            json.dumps(permission, indent=2, ensure_ascii=False) for permission in statements
        )
        lines += ["", f"{title} would allow what no statement allows:", "", text]
    return "\n".join(lines)


def _list_calls(calls: Sequence[RecordedCall]) -> str:
    lines = [f"  {call}" for call in calls[:_MAX_LISTED]]
    if len(calls) > _MAX_LISTED:
        lines.append(f"  and {len(calls) - _MAX_LISTED} more")
    return "\n".join(lines)


def _number(count: int) -> str:
    return "1 was" if count == 1 else f"{count} were"
