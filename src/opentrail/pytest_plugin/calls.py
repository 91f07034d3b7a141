"""A recorded call, with its members by convenient names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from opentrail.core.attributes import username_of
from opentrail.core.event import as_object
from opentrail.permissions.event_actions import prefix_of, source_label

#: Maximum characters of a value in a message.
_MAX_VALUE_LENGTH = 60
#: Maximum members of a value in a message.
_MAX_MEMBERS = 6
#: Members of requests and responses that concern their transport.
_TRANSPORT = re.compile(
    r"Host|x-id|x-amz-(?:id-2|request-id|checksum-.*|sdk-checksum-algorithm|te|trailer)"
)


class RecordedCall:
    """One call; `record` is its whole CloudTrail record."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record

    @property
    def event_name(self) -> str:
        """CloudTrail's name of the operation, such as `ListObjects` or `Invoke`."""
        return str(self.record.get("eventName", ""))

    @property
    def event_source(self) -> str:
        """Such as `s3.amazonaws.com`."""
        return str(self.record.get("eventSource", ""))

    @cached_property
    def service(self) -> str:
        """The prefix of the service's actions in IAM policies, such as `s3` or `cloudwatch`."""
        return prefix_of(source_label(self.record))

    @property
    def action(self) -> str:
        """Service and name of the event, such as `s3:PutObject`."""
        return f"{self.service}:{self.event_name}"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The request's parameters as recorded; secrets are hidden."""
        return as_object(self.record.get("requestParameters"))

    @property
    def response(self) -> Mapping[str, Any]:
        """The recorded part of the response; for calls that only read, nothing."""
        return as_object(self.record.get("responseElements"))

    @property
    def error(self) -> str | None:
        """The error code; None if the call succeeded."""
        code = self.record.get("errorCode")
        return None if code is None else str(code)

    @property
    def error_message(self) -> str | None:
        """The message of the error."""
        message = self.record.get("errorMessage")
        return None if message is None else str(message)

    @property
    def user(self) -> str | None:
        """The caller's name: of a user, of a role session, or `root`."""
        return username_of(dict(self.record))

    @property
    def user_arn(self) -> str | None:
        """The caller's ARN."""
        arn = as_object(self.record.get("userIdentity")).get("arn")
        return None if arn is None else str(arn)

    @property
    def region(self) -> str:
        """The Region of the call."""
        return str(self.record.get("awsRegion", ""))

    @property
    def account(self) -> str:
        """The account that the call was recorded in."""
        return str(self.record.get("recipientAccountId", ""))

    @property
    def is_read_only(self) -> bool:
        """Whether the operation changes nothing."""
        return self.record.get("readOnly") is True

    def __str__(self) -> str:
        """The action, the first parameters, and the error if any."""
        parts = [f"{name}={short(value)}" for name, value in self._shown_parameters()]
        if self.error is not None:
            parts.append(f"-> {self.error}")
        return "  ".join([self.action, *parts])

    __repr__ = __str__

    def _shown_parameters(self) -> list[tuple[str, Any]]:
        members = [(k, v) for k, v in self.parameters.items() if not is_transport(k)]
        return members[:_MAX_MEMBERS]


def is_transport(member: str) -> bool:
    """Returns whether a member concerns the transport of a call, such as S3's checksums."""
    return _TRANSPORT.fullmatch(member) is not None


def short(value: Any) -> str:
    """Returns the text of a value, cut if it is long."""
    text = repr(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[: _MAX_VALUE_LENGTH - 1]}…"
