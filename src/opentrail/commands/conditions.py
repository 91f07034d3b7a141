"""The conditions of a search, and their defaults."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime

from opentrail.core.errors import UsageError
from opentrail.core.event import format_time, parse_moment
from opentrail.core.expression import ExpressionError, fields_in, parse


def conditions_of(options: argparse.Namespace) -> dict[str, str | None]:
    """Returns the query of a search, with defaults for conditions without a flag or term."""
    query = {
        "expression": options.expression,
        "since": vars(options).get("since"),
        "until": vars(options).get("until"),
        "limit": vars(options).get("limit"),
        "account": None if options.all_accounts else options.account,
        "region": None if options.all_regions else options.region,
        "categories": "all",
    }
    return {**query, **defaults_of(options)}


def since_of(text: str, now: datetime) -> str:
    """Returns a time in the API's form; `90d` is 90 days ago."""
    try:
        return format_time(parse_moment(text, now))
    except ValueError as error:
        raise UsageError(f"--since {error}") from error


def own_region() -> str:
    """Returns the Region from the environment, or the default one."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return region or "us-east-1"


def defaults_of(options: argparse.Namespace) -> dict[str, str | None]:
    """Returns the defaults of conditions that neither a flag nor the expression sets."""
    usual = {"account": "own", "region": own_region(), "categories": None}
    flags = {
        "account": options.account or options.all_accounts,
        "region": options.region or options.all_regions,
        "categories": options.all_categories,
    }
    conditions = {name for name, flag in flags.items() if flag} | _named_in(options.expression)
    return {name: value for name, value in usual.items() if name not in conditions}


def _named_in(expression: str | None) -> set[str]:
    """Returns the conditions with defaults that an expression sets."""
    try:
        fields = fields_in(parse(expression or "", datetime.now(UTC)))
    except ExpressionError:
        return set()  # the server reports the error
    conditions = {"account": "account", "region": "region", "category": "categories"}
    return {conditions[field] for field in fields if field in conditions}


def require_one_form(options: argparse.Namespace) -> None:
    """Raises `UsageError` for both `--json` and `--csv`."""
    if options.json and options.csv:
        raise UsageError("--json and --csv exclude each other")
