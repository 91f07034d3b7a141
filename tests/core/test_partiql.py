"""Statements of PartiQL: their tables, and their visible parts."""

from __future__ import annotations

import pytest

from opentrail.core.partiql import REDACTED, without_values


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        # "Understanding DynamoDB log file entries"; AWS also shows the values of keys
        (
            "UPDATE Music SET Album = 'Greatest' WHERE Artist = 'No One You Know'",
            "UPDATE Music SET Album = HID WHERE Artist = HID",
        ),
        (
            "INSERT INTO Music VALUE {'Artist' : 'x', 'Year':1999}",
            "INSERT INTO Music VALUE {'Artist' : HID, 'Year':HID}",
        ),
        # names within a value are data
        (
            "INSERT INTO t VALUE {'a': {'b': 'x'}, 'c': 'd'}",
            "INSERT INTO t VALUE {'a': {HID: HID}, 'c': HID}",
        ),
        ("UPDATE t SET a = {'b': 'x'}", "UPDATE t SET a = {HID: HID}"),
        ('SELECT a FROM "t"."index"', 'SELECT a FROM "t"."index"'),
        ("SELECT a FROM t WHERE b = ''", "SELECT a FROM t WHERE b = HID"),
        ("SELECT a FROM t WHERE b = 'it''s'", "SELECT a FROM t WHERE b = HID"),
        ("SELECT a FROM t WHERE b = 'x", "SELECT a FROM t WHERE b = HID"),
        ('SELECT a FROM "t WHERE b = x', "SELECT a FROM HID"),
        ("SELECT a FROM t WHERE b = -1.5e-3", "SELECT a FROM t WHERE b = -HID"),
        ("", ""),
    ],
)
def test_only_names_of_a_statement_stay(statement: str, shown: str) -> None:
    assert without_values(statement) == shown.replace("HID", REDACTED)
