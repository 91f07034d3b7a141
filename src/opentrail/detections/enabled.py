"""The rules that are applied to new events, in the control store."""

from __future__ import annotations

from typing import Any

import msgspec

from opentrail.core.errors import UsageError
from opentrail.detections.rules import DetectionRule
from opentrail.ports.control import ControlStore, Put, Remove

KIND = "detection"
#: Maximum rules.
MAX_RULES = 2_000


class EnabledRule(msgspec.Struct, frozen=True):
    """A rule that is applied to the events after a position of the journal."""

    rule: DetectionRule
    after: int
    enabled_at: str
    enabled_by: str


class EnabledRules:
    """The enabled rules by name."""

    def __init__(self, control: ControlStore) -> None:
        self._control = control

    async def all(self) -> list[EnabledRule]:
        """Returns the enabled rules, by name."""
        stored = await self._control.scan(KIND)
        return [msgspec.convert(each.document, EnabledRule) for each in stored]

    async def revision(self) -> str:
        """Returns a text, another one after a change."""
        return (await self._control.revisions([KIND]))[KIND]

    async def get(self, name: str) -> EnabledRule:
        """Returns an enabled rule.

        Raises:
            UsageError: there is none with this name.
        """
        stored = await self._control.get(KIND, name)
        if stored is None:
            message = f"rule {name!r} is not enabled; 'opentrail detections list' shows which are"
            raise UsageError(message)
        return msgspec.convert(stored.document, EnabledRule)

    async def put(self, enabled: EnabledRule) -> None:
        """Enables a rule, in place of one with the same name.

        Raises:
            UsageError: there are too many.
        """
        name = enabled.rule.name
        others = {each.key for each in await self._control.scan(KIND)} - {name}
        if len(others) >= MAX_RULES:
            raise UsageError(f"at most {MAX_RULES:,} rules can be enabled")
        document: dict[str, Any] = msgspec.to_builtins(enabled)
        await self._control.apply([Put(KIND, name, document)])

    async def remove(self, name: str) -> None:
        """Disables a rule.

        Raises:
            UsageError: there is none with this name.
        """
        await self.get(name)
        await self._control.apply([Remove(KIND, name)])
