"""Rules as documents: accepted ones, and the required members of every match."""

import msgspec
import pytest

from opentrail.core.errors import UsageError
from opentrail.detections.rules import (
    AllOf,
    AnyOf,
    Condition,
    Correlation,
    DetectionRule,
    Like,
    Negation,
    OneOf,
    RuleSelection,
    rule_of,
    values_that,
)

USERS = OneOf("eventName", ("CreateUser", "DeleteUser"))
ROLES = OneOf("eventName", ("CreateRole",))
OTHER = Like("*x*", "userAgent")


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        (USERS, {"createuser", "deleteuser"}),
        (AllOf((OTHER, USERS, ROLES)), {"createrole"}),
        (AllOf((OTHER,)), None),
        (AnyOf((USERS, ROLES)), {"createuser", "deleteuser", "createrole"}),
        (AnyOf((USERS, OTHER)), None),
        (AnyOf(()), None),
        (Negation(USERS), None),
    ],
)
def test_names_in_matches(condition: Condition, names: set[str] | None) -> None:
    assert values_that(condition, "eventName") == names


def test_rule_is_the_same_after_it_was_stored() -> None:
    rule = DetectionRule(
        "a_rule", "A rule", "high", tags=("attack.t1110",), condition=Negation(USERS)
    )
    assert rule_of(msgspec.to_builtins(rule)) == rule
    [selection] = rule.selections
    assert (selection.name, selection.condition) == ("a_rule", rule.condition)


def correlation(**changes: object) -> dict[str, object]:
    selection = RuleSelection("base", USERS, ("userIdentity.arn",))
    whole = DetectionRule("r", "R", correlation=Correlation("event_count", (selection,), 600, 3))
    document = msgspec.to_builtins(whole)
    document["correlation"].update(changes)
    return dict(document)


ROLE_SELECTION = msgspec.to_builtins(RuleSelection("other", ROLES))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("text", "Expected `object`, got `str`"),
        ({"name": "r"}, "missing required field `title`"),
        ({"name": "r", "title": "R", "level": "worst"}, r"Invalid enum value 'worst'.*level"),
        ({"name": "r", "title": "R", "more": 1}, "unknown field `more`"),
        ({"name": "r", "title": "R"}, "must have either a condition or a correlation"),
        ({"name": "a b", "title": "R"}, "must have 1 to 128 letters, digits"),
        (
            {"name": "r", "title": "R", "condition": {"type": "Eval", "code": "1"}},
            "Invalid value 'Eval'",
        ),
        (
            {
                "name": "r",
                "title": "R",
                "condition": msgspec.to_builtins(OneOf("a", ("x" * 99_999,))),
            },
            "must have at most 65536 bytes",
        ),
        (correlation(seconds=0), "timespan must be 1 second to 7 days"),
        (correlation(count=0), "count must be 1 to 1000"),
        (correlation(selections=[]), "same fields of group-by"),
        (correlation(type="value_count"), "a field is for value_count"),
        (correlation(field="userAgent"), "a field is for value_count"),
    ],
)
def test_other_documents_are_refused(document: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rule_of(document)


def test_selections_are_grouped_by_as_many_fields() -> None:
    document = correlation()
    selections = document["correlation"]["selections"]  # type: ignore[index]
    document["correlation"]["selections"] = [*selections, ROLE_SELECTION]  # type: ignore[index]
    with pytest.raises(UsageError, match="same fields of group-by"):
        rule_of(document)


@pytest.mark.slow
def test_a_rule_is_not_nested_without_end() -> None:
    condition: dict[str, object] = msgspec.to_builtins(USERS)
    for _ in range(49):
        condition = {"type": "Negation", "part": condition}
    rule_of({"name": "r", "title": "R", "condition": condition})
    for _ in range(2_000):
        condition = {"type": "Negation", "part": condition}
        with pytest.raises(UsageError, match=r"nested more than 50|at most 65536|recursion depth"):
            rule_of({"name": "r", "title": "R", "condition": condition})
