"""Forms of strings in which a caller can say nothing, so that an agent may take them as facts.

The type of a string in an answer is one of these; any other string is text that a caller may have
written. A value without its form is such text, too.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

#: Key of the form, a regular expression, in the `extra` of a type's `Meta`.
FACT = "fact"
AccountId = Annotated[str, Meta(extra={FACT: r"[0-9]{12}"})]
#: The ids that AWS and opentrail give.
EventId = Annotated[str, Meta(extra={FACT: r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"})]
IpAddress = Annotated[str, Meta(extra={FACT: r"(?=.*[.:])[0-9A-Fa-f.:]{2,45}"})]
KeyId = Annotated[str, Meta(extra={FACT: r"A[A-Z0-9]{15,127}"})]
Region = Annotated[str, Meta(extra={FACT: r"(?![0-9]+\Z)[a-z0-9][a-z0-9-]{0,61}[a-z0-9]"})]
ResourceType = Annotated[str, Meta(extra={FACT: r"AWS::[A-Za-z0-9]{1,50}::[A-Za-z0-9]{1,50}"})]
#: A time as records have it.
Time = Annotated[str, Meta(extra={FACT: r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"})]
#: One word, such as the name of an event or an error code.
Word = Annotated[str, Meta(extra={FACT: r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"})]
