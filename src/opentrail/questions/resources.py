"""Resources in events."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypedDict

from msgspec import Meta

from opentrail.questions.question import Asked, SearchQuestion, Text
from opentrail.who.shapes import ListedResource

#: Maximum newest events to read for the listed resources.
_MAX_EVENTS = 1_000


class ResourceList(TypedDict):
    """Resources, in order of the newest event that names each."""

    resources: list[ListedResource]
    #: Whether `resources` is complete.
    complete: bool


class ListResources(SearchQuestion, frozen=True, kw_only=True):
    """Returns the resources in the newest events, each once.

    Without `text` or `prefix`, it leaves out resources that events only read.
    """

    role: ClassVar = "viewer"
    purpose: ClassVar = "list resources"
    path: ClassVar = "/resources/list"

    text: Annotated[Text, Meta(description="a part of a name or ARN, in any case")] | None = None
    prefix: Annotated[Text, Meta(description="prefix of the names")] | None = None
    type: Annotated[Text, Meta(description="only of this type: AWS::IAM::User")] | None = None
    # A search counts the events of each resource.
    limit: Annotated[int, Meta(ge=1, le=100, description="maximum number of results")] = 50

    async def answer(self, asked: Asked) -> ResourceList:
        """Reads the newest events with resources, and counts the events of each resource."""
        from opentrail.core.expression import Compare, Is, literal
        from opentrail.history.event_history import has_all
        from opentrail.history.threads import in_thread
        from opentrail.history.written_searches import listed
        from opentrail.who.event_rows import also, resource_row, resources_in

        text, prefix = self.text or "", self.prefix or ""
        given = self.search(asked)
        search = listed(given)
        if text:
            search = also(search, Compare(("resource_names",), ":", text, is_field=True))
        if prefix:
            pattern = f"{literal(prefix)}*"
            search = also(search, Compare(("resource_names",), "=", pattern, is_field=True))
        if not (text or prefix):
            search = also(search, Is("write"))
        if self.type:
            same = Compare(("resource_types",), "=", literal(self.type), is_field=True)
            search = also(search, same)
        events = await asked.history.latest(search, _MAX_EVENTS)
        found = [
            each
            for each in await in_thread(resources_in, events)
            if self.type in (None, each.type)
            and any(text.lower() in name.lower() and name.startswith(prefix) for name in each.names)
        ]
        counted = None if prefix else given
        rows = [await resource_row(asked.history, counted, each) for each in found[: self.limit]]
        is_whole = has_all(events, _MAX_EVENTS) and len(found) <= self.limit
        return {"resources": rows, "complete": is_whole}
