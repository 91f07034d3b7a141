"""Why a call was denied."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypedDict, cast

import orjson
from msgspec import Meta

from opentrail.core.event import call_in
from opentrail.core.facts import Action, OwnWords, RecordText, Word
from opentrail.questions.question import Asked, Question, Text
from opentrail.who.shapes import CallRow


class ExplainedDenial(TypedDict):
    """The reason why a call was denied, as far as its record shows it."""

    sentence: str
    #: `explicit deny`, `no policy allows it`, `not recorded` or `not denied`.
    verdict: OwnWords
    action: Action | None
    #: Whether the error message names the action; otherwise the event name implies it.
    isActionRecorded: bool
    policyType: OwnWords | None
    #: The resource in the error message.
    resource: RecordText | None
    #: The change that would allow the call, or the missing data of the record that would show it.
    missing: list[OwnWords]
    errorCode: Word | None
    errorMessage: RecordText | None
    event: CallRow


class Explain(Question, frozen=True, kw_only=True):
    """Returns why a call was denied, as far as its record shows, which has no policies or tags."""

    role: ClassVar = "viewer"
    purpose: ClassVar = "explain why a call was denied, from its record"

    event: Annotated[Text, Meta(description="the id of an event")]

    async def answer(self, asked: Asked) -> ExplainedDenial:
        """Reads the error message of the record."""
        from opentrail.permissions.outcomes import explain
        from opentrail.who.event_rows import find_event, rows_of

        event = await find_event(asked.history, self.event)
        (row,) = await rows_of([event])
        record = orjson.loads(event.record)
        denial = explain(record)
        is_call = "eventName" in call_in(record)
        return {
            "sentence": row["sentence"] if is_call else "There is no sentence about this event",
            "verdict": denial.verdict,
            "action": denial.action,
            "isActionRecorded": denial.is_action_recorded,
            "policyType": denial.policy_type,
            "resource": denial.resource,
            "missing": list(denial.missing),
            "errorCode": call_in(record).get("errorCode"),
            "errorMessage": call_in(record).get("errorMessage"),
            "event": cast(CallRow, {name: row.get(name) for name in CallRow.__annotations__}),
        }
