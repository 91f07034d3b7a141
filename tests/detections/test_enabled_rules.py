"""The enabled rules in the control store."""

from __future__ import annotations

import pytest

from opentrail.core.errors import UsageError
from opentrail.detections import enabled_rules as module
from opentrail.detections.enabled_rules import EnabledRule, EnabledRules
from opentrail.detections.rules import DetectionRule, OneOf
from tests.fakes import MemoryControl, asynchronous


def an_enabled_rule(name: str = "users", after: int = 0, **changes: object) -> EnabledRule:
    condition = OneOf("eventName", ("CreateUser",))
    rule = DetectionRule(name, "A user was created", **{"condition": condition, **changes})  # type: ignore[arg-type]
    return EnabledRule(rule, after, "2020-01-01T09:00:00Z", "ann")


@asynchronous
async def test_rules_are_enabled_and_disabled_by_name() -> None:
    rules = EnabledRules(MemoryControl())
    before = await rules.revision()
    for rule in (an_enabled_rule("b"), an_enabled_rule("a"), an_enabled_rule("a", after=7)):
        await rules.put(rule.rule.name, rule)
    assert await rules.all() == [an_enabled_rule("a", after=7), an_enabled_rule("b")]
    assert await rules.revision() != before
    await rules.delete("b")
    with pytest.raises(UsageError, match="rule 'b' is not enabled; 'opentrail detections list'"):
        await rules.delete("b")


def test_the_number_of_rules_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RULES", 2)

    @asynchronous
    async def fill() -> None:
        rules = EnabledRules(MemoryControl())
        for name in ("a", "b", "b"):
            await rules.put(name, an_enabled_rule(name))
        with pytest.raises(UsageError, match="at most 2 rules"):
            await rules.put("c", an_enabled_rule("c"))

    fill()
