"""Finds the creator of a resource, and its changes and deletion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NotRequired, cast

from msgspec import Meta

from opentrail.questions.question import Account, Asked, Question, Text
from opentrail.who.shapes import NearestRow, ResourceStories

if TYPE_CHECKING:
    from opentrail.history.event_history import History


class WhoAnswer(ResourceStories):
    """Who created, changed and deleted the resources of a name, or suggestions."""

    #: Types of the name's resources, if no resource has the requested type.
    types: NotRequired[list[str]]
    #: The most similar name, if no event has the name.
    nearest: NotRequired[list[NearestRow]]
    #: A description of each range missing from event history.
    missing: list[str]


class Who(Question, frozen=True, kw_only=True):
    """Returns who created, changed and deleted a resource, with whose credentials, and what next.

    An answer without a resource has suggestions: `types` of the name's resources, otherwise the
    `nearest` name.
    """

    role: ClassVar = "viewer"
    purpose: ClassVar = "find out who made, changed and deleted a resource"

    resource: Annotated[Text, Meta(description="name, ARN, BUCKET/KEY, tag Name, or user/Mary")]
    type: Annotated[
        Text | None, Meta(description="only of this type or service: user, AWS::IAM::User, iam")
    ] = None
    account: Account | None = None

    async def answer(self, asked: Asked) -> WhoAnswer:
        """Reads the events of the name."""
        from opentrail.who.resource_stories import who

        found = await who(asked.history, self.resource, self.type, self.account)
        meant = {} if found["answers"] else await self._meant(asked.history)
        return cast(WhoAnswer, {**found, **meant, "missing": asked.missing})

    async def _meant(self, history: History) -> dict[str, Any]:
        """Returns the types of the name's resources, otherwise the most similar name."""
        from opentrail.core.expression import Compare, literal
        from opentrail.history.event_history import Search
        from opentrail.history.nearest import nearest_values
        from opentrail.who.event_rows import nearest_row
        from opentrail.who.resource_stories import who
        from opentrail.who.sentence import words_of

        if self.type:
            others = (await who(history, self.resource, account=self.account))["answers"]
            if types := [words_of(each["type"]) for each in others if each["type"]]:
                return {"types": [*dict.fromkeys(types)]}
        same = Compare(("resource_names",), "=", literal(self.resource), is_field=True)
        found = await nearest_values(history, Search(expression=same))
        return {"nearest": [nearest_row(item) for item in found]} if found else {}
