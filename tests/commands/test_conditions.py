"""The defaults of a search."""

import argparse
from datetime import UTC, datetime

import pytest

from opentrail.commands.conditions import conditions_of, defaults_of, require_one_form, since_of
from opentrail.core.errors import UsageError

pytestmark = pytest.mark.usefixtures("empty_folder")

ASKED = {
    "expression": None,
    "account": None,
    "region": None,
    "all_accounts": False,
    "all_regions": False,
    "all_categories": False,
}


def asked(**given: object) -> argparse.Namespace:
    return argparse.Namespace(**{**ASKED, **given})


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({}, {"account", "region", "categories"}),
        ({"expression": "region=eu-west-1"}, {"account", "categories"}),
        ({"expression": "category=Data"}, {"account", "region"}),
        ({"expression": "account=111122223333"}, {"region", "categories"}),
        ({"expression": "name=("}, {"account", "region", "categories"}),
        ({"all_regions": True, "account": "111122223333"}, {"categories"}),
        ({"all_categories": True}, {"account", "region"}),
    ],
)
def test_required_arguments_have_no_default(given: dict[str, object], left: set[str]) -> None:
    assert set(defaults_of(asked(**given))) == left


def test_all_regions_are_no_condition() -> None:
    conditions = conditions_of(asked(all_regions=True))
    assert conditions["region"] is None
    assert conditions["account"] == "own"


def test_json_and_csv_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="--json and --csv"):
        require_one_form(argparse.Namespace(json=True, csv=True))


def test_a_time_may_be_relative() -> None:
    now = datetime(2026, 3, 31, 12, tzinfo=UTC)
    assert since_of("90d", now) == "2025-12-31T12:00:00Z"
    assert since_of("30m", now) == "2026-03-31T11:30:00Z"
    assert since_of("2020-01-01T09:00:00Z", now) == "2020-01-01T09:00:00Z"
    with pytest.raises(UsageError, match=r"--since must be a time like .* or 7d, not"):
        since_of("99999999d", now)
