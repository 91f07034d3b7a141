"""Filters over the values in a sealed file: never a false negative."""

from __future__ import annotations

import duckdb
import pytest

from opentrail.adapters.duckdb import file_index
from opentrail.adapters.duckdb.file_index import VALUES, ValueFilter, fill_values


def held_by(rows: list[tuple[str | None, list[str]]], category: str = "Management") -> ValueFilter:
    """Returns the filter of a table with these user names and resource types.

    `category` is the category of the last row only.
    """
    with duckdb.connect(":memory:") as database:
        database.execute("ATTACH ':memory:' AS made")
        database.execute(
            "CREATE TABLE made.events (event_name VARCHAR, event_source VARCHAR, username VARCHAR,"
            " access_key_id VARCHAR, resource_types VARCHAR[], category VARCHAR)"
        )
        for number, (username, types) in enumerate(rows, 1):
            own = category if number == len(rows) else "Management"
            database.execute(
                "INSERT INTO made.events VALUES ('Call', 's3.amazonaws.com', ?, NULL, ?, ?)",
                [username, types, own],
            )
        database.execute(VALUES)
        fill_values(database)
        return ValueFilter(
            database.execute("SELECT attribute, value, category FROM made.held").fetchall()
        )


def test_filter_has_no_false_negatives() -> None:
    found = held_by([("mary", ["AWS::IAM::User"]), (None, []), ("o'hara \u00e9", ["a", "b"])])
    for key, values in {
        "Username": ["mary", "o'hara \u00e9"],
        "ResourceType": ["AWS::IAM::User", "a", "b"],
        "EventName": ["Call"],
        "EventSource": ["s3.amazonaws.com"],
    }.items():
        assert all(found.may_contain(key, value) for value in values)
        assert not found.may_contain(key, "Mary")
    assert not found.may_contain("AccessKeyId", "AKIAEXAMPLE")


def test_value_is_held_by_events_of_its_categories() -> None:
    found = held_by([("mary", ["a"]), ("john", ["a", "b"])], category="Data")
    assert found.may_contain("Username", "john")
    assert found.may_contain("Username", "john", ("Data",))
    assert found.may_contain("Username", "john", ("Management", "Data"))
    assert not found.may_contain("Username", "john", ("Management",))
    assert not found.may_contain("Username", "john", ())
    assert not found.may_contain("Username", "nobody", ("Management", "Data"))
    assert found.may_contain("ResourceType", "a", ("Management",))
    assert not found.may_contain("ResourceType", "b", ("Management", "Insight"))
    assert found.may_contain("EventId", "whatever", ("Insight",))


def test_unlisted_entries_may_exist() -> None:
    found = held_by([("mary", [])])
    for key in ("EventId", "ResourceName", "ReadOnly"):
        assert found.may_contain(key, "whatever")


def test_attribute_with_too_many_values_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_index, "MAX_VALUES", 3)
    few = held_by([("a", []), ("b", []), ("c", []), (None, [])])
    assert few.may_contain("Username", "c")
    assert not few.may_contain("Username", "d")
    many = held_by([("a", []), ("b", []), ("c", []), ("d", [])])
    assert many.may_contain("Username", "e")
    assert not many.may_contain("EventName", "e")


def test_an_empty_file_has_no_values() -> None:
    assert not held_by([]).may_contain("Username", "mary")
