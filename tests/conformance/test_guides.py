"""The calls behind the examples of AWS's guides are recorded as the guides show them.

`python -m tests.conformance.test_guides` rewrites the tables of the format page.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conformance.guide_differences import (
    NOT_YET,
    ROWS,
    Comparison,
    Difference,
    Row,
    compared,
)
from tests.conformance.guides import Example, examples, left_out, records_of
from tests.fakes import run

PAGE = Path(__file__).parents[2] / "docs/reference/cloudtrail-format.md"
GUIDES = {
    *("DynamoDB", "S3", "KMS", "Lambda", "SQS", "SNS", "Kinesis", "Secrets Manager", "ECR", "EKS"),
    *("EventBridge", "API Gateway", "Bedrock", "Cognito", "Step Functions"),
}
_TABLES = re.compile(r"(?<=<!-- guides -->\n\n).*?(?=\n<!-- end -->)", re.S)
_HOW = {"missing": "AWS's only", "added": "opentrail's only", "other": "other value"}


@cache
def comparisons() -> list[tuple[Example, Comparison]]:
    """Returns every example with the comparison of its record."""
    chosen = examples()
    records = run(records_of(chosen))
    return [
        (example, compared(example.record, ours))
        for example, ours in zip(chosen, records, strict=True)
    ]


@pytest.mark.slow
def test_examples_of_guides_are_recorded_as_shown() -> None:
    covering = {
        f"{example.title}: {difference}": sum(row.covers(example.title, difference) for row in ROWS)
        for example, comparison in comparisons()
        for difference in comparison.differences
    }
    assert [difference for difference, rows in covering.items() if rows != 1] == []
    assert len(comparisons()) >= 139
    assert sum(comparison.equal for _, comparison in comparisons()) >= 1_679


@pytest.mark.slow
def test_every_row_of_differences_still_occurs() -> None:
    assert [row for row in ROWS if not covered(row)] == []


@pytest.mark.slow
def test_format_page_has_the_tables_of_guides() -> None:
    found = _TABLES.search(PAGE.read_text())
    assert found is not None
    assert found[0] == tables()


def test_every_guide_has_examples_with_unique_titles() -> None:
    titles = Counter(example.title for example in examples())
    assert [title for title, count in titles.items() if count > 1] == []
    assert {example.guide for example in examples()} >= GUIDES


def test_comparison_finds_every_kind_of_difference() -> None:
    theirs = {
        "eventName": "A",
        "requestParameters": {
            "vpcId": "1",
            "list": [{"x": True}, 2],
            "t": "Jul 1, 2023 1:02:03 AM",
        },
        "responseElements": None,
        "eventID": "not compared",
    }
    assert compared(theirs, theirs).differences == []
    ours = {
        "eventName": "B",
        "requestParameters": {"vPCId": "1", "list": [{"x": 1}], "t": "Jul 1, 2023, 1:02:03 AM"},
        "responseElements": {},
        "readOnly": True,
    }
    comparison = compared(theirs, ours)
    assert comparison.equal == 1
    assert [str(difference) for difference in comparison.differences] == [
        "eventName: other 'A', ours 'B'",
        "requestParameters.vpcId: missing '1'",
        "requestParameters.list[0].x: other True, ours 1",
        "requestParameters.list[1]: missing 2",
        "requestParameters.vPCId: added '1'",
        "responseElements: other None, ours {}",
        "readOnly: added True",
    ]


def test_row_covers_its_own_members_only() -> None:
    row = Row("KMS: *", ("resources[0].ARN",), "other", "a reason", ("ours",))
    theirs = {"resources": [{"ARN": "theirs", "type": "a"}]}
    (same,) = compared(theirs, {"resources": [{"ARN": "ours", "type": "a"}]}).differences
    (value,) = compared(theirs, {"resources": [{"ARN": "wrong", "type": "a"}]}).differences
    (member,) = compared(theirs, {"resources": [{"ARN": "theirs", "type": "ours"}]}).differences
    assert row.covers("KMS: Decrypt", same)
    assert not row.covers("SQS: Decrypt", same)
    assert not row.covers("KMS: Decrypt", value)
    assert not row.covers("KMS: Decrypt", member)


def covered(row: Row) -> list[str]:
    """Returns the title of an example for each difference that a row covers."""
    return [
        example.title
        for example, comparison in comparisons()
        for difference in comparison.differences
        if row.covers(example.title, difference)
    ]


# The page


def tables() -> str:
    """Returns the tables of the format page: the guides, and the differences."""
    return "\n".join([*_of_guides(), "", *_of_differences(), ""])


def _of_guides() -> Iterator[str]:
    yield (
        "| guide | pages | examples | no call through opentrail | equal members"
        " | members that the example does not have yet | other differences |"
    )
    yield "|---|---|---|---|---|---|---|"
    others = left_out()
    total = [0] * 6
    for guide in dict.fromkeys(example.guide for example in examples()):
        of_guide = [(e, c) for e, c in comparisons() if e.guide == guide]
        apart = [other for other in others if other.guide == guide]
        new = sum(_is_new(e, difference) for e, c in of_guide for difference in c.differences)
        figures = [
            len({e.page for e, _ in of_guide} | {other.page for other in apart}),
            len(of_guide) + len(apart),
            len(apart),
            sum(c.equal for _, c in of_guide),
            new,
            sum(len(c.differences) for _, c in of_guide) - new,
        ]
        total = [whole + figure for whole, figure in zip(total, figures, strict=True)]
        yield _cells(guide, *figures)
    yield _cells("all", *total)


def _is_new(example: Example, difference: Difference) -> bool:
    return any(row.covers(example.title, difference) for row in ROWS if row.reason == NOT_YET)


def _of_differences() -> Iterator[str]:
    yield "| examples | members | difference | count | reason |"
    yield "|---|---|---|---|---|"
    for row in ROWS:
        titles = covered(row)
        members = ", ".join(f"`{member}`" for member in row.members)
        yield _cells(_named(row, titles), members, _HOW[row.how], len(titles), row.reason)


def _named(row: Row, titles: list[str]) -> str:
    """Returns the examples of a row: one by its title, several as a guide's or by number."""
    different = list(dict.fromkeys(titles))
    if len(different) == 1:
        return different[0]
    guides = sorted({title.partition(":")[0] for title in different})
    return f"{len(different)} of {', '.join(guides) if len(guides) < 4 else 'all guides'}"


def _cells(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


if __name__ == "__main__":
    text = PAGE.read_text()
    PAGE.write_text(_TABLES.sub(lambda _: tables(), text))
