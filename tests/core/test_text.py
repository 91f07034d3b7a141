"""Tests of opentrail.core.text."""

import csv
import io
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.text import (
    counted,
    csv_line,
    escape_formulas,
    printable,
    unique_names,
)

#: Cells with their lines, which the console's tests read as well.
CELLS = Path(__file__).parents[2] / "console/tests/cells.json"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Grüße 日本語 🙂", "Grüße 日本語 🙂"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202eevil", "\\u202eevil"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("two\u2028lines\u2029", "two\\u2028lines\\u2029"),
        ("", ""),
    ],
)
def test_text_is_printed_without_terminal_controls(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.hypothesis
@settings(deadline=None)
@given(st.text(st.characters()))
def test_no_text_keeps_a_control_character(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    kept = [c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    if len(kept) == len(text):
        assert shown == text


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (12_000, "12,000 files")]
)
def test_a_number_has_its_noun(number: int, shown: str) -> None:
    assert counted(number, "file") == shown


@pytest.mark.parametrize(
    ("cell", "shown"),
    [("=1", "'=1"), (" +1", "' +1"), ("a=1", "a=1"), ("名", "名"), ("a\x00b", r"a\x00b")],
)
def test_cells_are_made_harmless(cell: str, shown: str) -> None:
    assert escape_formulas(cell) == shown


def test_cells_are_escaped_as_in_the_console() -> None:
    for cell, line in json.loads(CELLS.read_text()):
        assert csv_line([cell, 1]) == line


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=4))
def test_no_cell_of_a_line_is_a_formula(cells: list[str]) -> None:
    (read,) = csv.reader(io.StringIO(csv_line(cells), newline=""))
    assert len(read) == len(cells)
    for cell in read:
        assert not cell.lstrip(" ").startswith(("=", "+", "-", "@"))


@given(st.lists(st.text(st.sampled_from("aA_1"), max_size=3), max_size=8))
def test_names_of_columns_become_unique(names: list[str]) -> None:
    unique = unique_names(names)
    assert len({name.lower() for name in unique}) == len(names)
    assert all(a.startswith(b) for a, b in zip(unique, names, strict=True))
