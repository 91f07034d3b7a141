"""Types of strings in answers: facts that an agent may rely on, and strings that may hold secrets.

A caller cannot smuggle a message into the form of a fact. A string of another type, or without the
form of its type, is text that a caller may have written.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

#: Key of the form, a regular expression, in the `extra` of a type's `Meta`.
FACT = "fact"
#: Key of a mark in the `extra` of a type's `Meta`: see `RecordText`.
SECRETS = "secrets"
#: Key of a mark in the `extra` of a type's `Meta`: see `Whole`.
WHOLE = "whole"
AccountId = Annotated[str, Meta(extra={FACT: r"[0-9]{12}"})]
#: A permission, such as `iam:CreateUser`.
Action = Annotated[str, Meta(extra={FACT: r"[a-z0-9-]{1,63}:[A-Za-z0-9]{1,128}"})]
#: The ids that AWS and opentrail give.
EventId = Annotated[str, Meta(extra={FACT: r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"})]
IpAddress = Annotated[str, Meta(extra={FACT: r"(?=.*[.:])[0-9A-Fa-f.:]{2,45}"})]
KeyId = Annotated[str, Meta(extra={FACT: r"A[A-Z0-9]{15,127}"})]
#: Words of opentrail's own, never quoted from a caller.
OwnWords = Annotated[str, Meta(extra={FACT: r"(?s).*"})]
#: Text from a record: an imported record may have secrets there, so an agent does not get it.
RecordText = Annotated[str, Meta(extra={SECRETS: True})]
Region = Annotated[str, Meta(extra={FACT: r"(?![0-9]+\Z)[a-z0-9][a-z0-9-]{0,61}[a-z0-9]"})]
ResourceType = Annotated[str, Meta(extra={FACT: r"AWS::[A-Za-z0-9]{1,50}::[A-Za-z0-9]{1,50}"})]
#: A time in the form of records.
Time = Annotated[str, Meta(extra={FACT: r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"})]
#: Marks an object that an agent gets unchanged or not at all: a policy.
Whole = Meta(extra={WHOLE: True})
#: One word, such as the name of an event or an error code.
Word = Annotated[str, Meta(extra={FACT: r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"})]
