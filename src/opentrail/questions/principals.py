"""Principals of recorded calls."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypedDict

from msgspec import Meta

from opentrail.core.event import format_time
from opentrail.core.facts import AccountId, Time
from opentrail.questions.question import Asked, SearchQuestion, Text

if TYPE_CHECKING:
    from opentrail.ports.event_store import PrincipalActivity

PrincipalKind = Literal["IAM user", "root user", "role", "role session", "federated user"]
#: Type of a resource in a principal's ARN → kind of the principal.
_KINDS: dict[tuple[str, str], PrincipalKind] = {
    ("iam", "user"): "IAM user",
    ("iam", "root"): "root user",
    ("iam", "role"): "role",
    ("sts", "assumed-role"): "role session",
    ("sts", "federated-user"): "federated user",
}
_PRINCIPAL = re.compile(r"arn:[^:]*:([^:]*):[^:]*:([^:]*):([^/:]+)[/:]?(.*)", re.DOTALL)


class ListedPrincipal(TypedDict):
    """A principal in the list of callers."""

    arn: str
    name: str
    #: None: the ARN does not show it.
    kind: PrincipalKind | None
    account: AccountId | None
    events: int
    failed: int
    first: Time
    last: Time


class PrincipalList(TypedDict):
    """Principals, in order of their last call."""

    principals: list[ListedPrincipal]
    #: Whether `principals` is complete.
    complete: bool


class ListPrincipals(SearchQuestion, frozen=True, kw_only=True):
    """Returns the principals with the latest calls whose ARNs contain `text`."""

    role: ClassVar = "viewer"
    purpose: ClassVar = "list principals"

    text: Annotated[Text, Meta(description="a part of an ARN, in any case")] | None = None
    limit: Annotated[int, Meta(ge=1, le=500, description="maximum number of results")] = 50

    async def answer(self, asked: Asked) -> PrincipalList:
        """Reads the principals of a search."""
        from opentrail.core.expression import Compare
        from opentrail.history.written_searches import listed
        from opentrail.who.event_rows import also

        search = listed(self.search(asked))
        if self.text:
            search = also(search, Compare(("principal_arn",), ":", self.text, is_field=True))
        found = await asked.history.principals(search, self.limit + 1)
        rows = [_row(each) for each in found[: self.limit]]
        return {"principals": rows, "complete": len(found) <= self.limit}


def _row(found: PrincipalActivity) -> ListedPrincipal:
    match = _PRINCIPAL.fullmatch(found.arn)
    service, account, kind, name = match.groups() if match else ("", "", "", "")
    return {
        "arn": found.arn,
        "name": name.rpartition("/")[2] if kind == "user" else name or kind or found.arn,
        "kind": _KINDS.get((service, kind)),
        "account": account or None,
        "events": found.events,
        "failed": found.failed,
        "first": format_time(found.first),
        "last": format_time(found.last),
    }
