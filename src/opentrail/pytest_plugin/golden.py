"""Golden trails: recorded calls in a file next to the test, without values that vary by run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

from opentrail.core.errors import UsageError
from opentrail.core.event import as_object
from opentrail.pytest_plugin.calls import is_transport

#: Members of a record that a golden trail leaves out: time, source and transport of a call, and
#: members that follow from the name of an event.
LEFT_OUT = frozenset(
    {
        "additionalEventData",
        "apiVersion",
        "eventCategory",
        "eventID",
        "eventTime",
        "eventType",
        "eventVersion",
        "managementEvent",
        "readOnly",
        "requestID",
        "sharedEventID",
        "sourceIPAddress",
        "tlsDetails",
        "userAgent",
        "vpcEndpointId",
        "vpcEndpointAccountId",
    }
)
#: Members of `userIdentity` that it leaves out; the ARN has the rest.
LEFT_OUT_OF_IDENTITY = frozenset({"accessKeyId", "accountId", "principalId", "sessionContext"})
#: Members whose values differ from run to run, whatever they look like.
_VOLATILE_MEMBERS = {
    "clienttoken": "<token>",
    "clientrequesttoken": "<token>",
    "nexttoken": "<token>",
    "marker": "<token>",
    "sessiontoken": "<token>",
    "receipthandle": "<token>",
    "messageid": "<id>",
    "requestid": "<id>",
    "sequencenumber": "<id>",
    "uploadid": "<id>",
    "versionid": "<id>",
    "x-amz-version-id": "<id>",
}
#: A member with a time, whose value may be a number.
_TIME_MEMBER = re.compile(r".*(?:Date|Time|Timestamp)|(?:date|time|timestamp)|.*[a-z]At")
#: Parts of strings that vary by run → their name. The same text has the same mask.
_VOLATILE_TEXTS = (
    ("time", r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?"),
    ("time", r"[A-Z][a-z]{2} \d{1,2}, \d{4},? \d{1,2}:\d\d:\d\d\s[AP]M"),
    ("host", r"(?:127\.0\.0\.1|\[::1\]|localhost):\d+"),
    ("uuid", r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
    # Keys and unique ids of IAM, and the ids of EC2's resources.
    ("key", r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"),
    ("id", r"\b(?:AGPA|AIDA|AIPA|ANPA|ANVA|AROA|ASCA|ABIA|APKA)[A-Z0-9]{12,}\b"),
    ("id", r"\b(?:[a-z]{1,12}-){1,3}[0-9a-f]{17}\b"),
    ("id", r"\b[0-9a-f]{32}\b"),
    # The end of a secret's ARN.
    ("suffix", r"(?<=:secret:)(?P<rest>[\w/+=.@-]+)-[A-Za-z0-9]{6}\b"),
)
Mask = Mapping[str, str]


@dataclass(slots=True)
class GoldenFolder:
    """The folder of a test's golden trails: `golden/` next to it."""

    test_file: Path
    test_name: str
    #: Whether golden trails are written instead of compared.
    is_update: bool
    _is_default_used: bool = False

    def path(self, name: str | None) -> Path:
        """Returns the file of a golden trail, by default one named after file and test.

        Raises:
            UsageError: the name does not name a file in the folder, or the default is used again.
        """
        __tracebackhide__ = True
        folder = self.test_file.parent / "golden"
        if name is None:
            if self._is_default_used:
                raise UsageError(
                    "a test has one golden trail without a name: name the others, as in "
                    "assert_golden('upload')"
                )
            self._is_default_used = True
            plain = re.sub(r"[^\w.-]+", "-", self.test_name).strip("-")
            return folder / self.test_file.stem / f"{plain}.json"
        if not re.fullmatch(r"\w[\w.-]*(?:/\w[\w.-]*)*", name):
            raise UsageError(
                f"a golden trail is named like 'upload' or 'reports/upload', not {name!r}"
            )
        return folder / f"{name}.json"

    def difference(self, name: str | None, records: Iterable[Mapping[str, Any]], mask: Mask) -> str:
        """Compares records with a golden trail, or writes it; returns their differences, or "".

        Raises:
            UsageError: as `path`, or a pattern of `mask` is not a regular expression.
        """
        __tracebackhide__ = True
        path = self.path(name)
        text = golden_text(records, mask)
        if self.is_update and text == golden_text([]):
            return f"no call was recorded for the golden trail {self._relative_to_test(path)}"
        if self.is_update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return ""
        label = self._relative_to_test(path)
        if not path.exists():
            return f"there is no golden trail {label}: 'pytest --update-golden' writes it"
        expected = path.read_text(encoding="utf-8")
        if expected == text:
            return ""
        lines = unified_diff(
            expected.splitlines(), text.splitlines(), label, "recorded", lineterm=""
        )
        accept = f"\n\nIf that is right: 'pytest --update-golden' writes {label} again."
        return f"the recorded calls differ from {label}:\n\n" + "\n".join(lines) + accept

    def _relative_to_test(self, path: Path) -> str:
        folder = self.test_file.parent
        return str(path.relative_to(folder))


def golden_text(records: Iterable[Mapping[str, Any]], mask: Mask | None = None) -> str:
    """Returns the text of a golden trail: JSON, a record after the other.

    Args:
        records: the records, in order.
        mask: regular expression → replacement of its matches.
    """
    masked = _Masks(mask or {})
    masked_records = [masked.record(record) for record in records]
    return json.dumps(masked_records, indent=2, ensure_ascii=False) + "\n"


class _Masks:
    """Masks the records of one golden trail: equal values have the same mask."""

    def __init__(self, own: Mask) -> None:
        self._numbers: dict[str, dict[str, int]] = {}
        try:
            self._own = [(re.compile(pattern), text) for pattern, text in own.items()]
        except re.error as error:
            raise UsageError(f"mask has an invalid regular expression: {error}") from error
        self._volatile = [
            (re.compile(pattern), self._numbered(name)) for name, pattern in _VOLATILE_TEXTS
        ]

    def record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a masked record, without the members that golden trails leave out."""
        members = {name: value for name, value in record.items() if name not in LEFT_OUT}
        caller = as_object(record.get("userIdentity"))
        if caller:
            members["userIdentity"] = {
                name: value for name, value in caller.items() if name not in LEFT_OUT_OF_IDENTITY
            }
        return {name: self._value(name, value) for name, value in members.items()}

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                self._text(member): self._value(member, item)
                for member, item in value.items()
                if not is_transport(member)
            }
        if isinstance(value, list):
            return [self._value(name, item) for item in value]
        if value is None or isinstance(value, bool):
            return value
        if mask := _VOLATILE_MEMBERS.get(name.lower()):
            return mask
        if isinstance(value, str):
            return self._text(value)
        return "<time>" if _TIME_MEMBER.fullmatch(name) else value

    def _text(self, text: str) -> str:
        for pattern, replacement in self._own:
            text = pattern.sub(replacement, text)
        for pattern, numbered in self._volatile:
            text = pattern.sub(numbered, text)
        return text

    def _numbered(self, name: str) -> Callable[[re.Match[str]], str]:
        """Returns the replacement of a match: the name, with a number that distinguishes values."""
        if name in ("time", "host"):
            return lambda _match: f"<{name}>"
        if name == "suffix":
            return lambda match: f"{match['rest']}-<suffix>"
        numbers = self._numbers.setdefault(name, {})
        return lambda match: f"<{name}-{numbers.setdefault(match[0], len(numbers) + 1)}>"
