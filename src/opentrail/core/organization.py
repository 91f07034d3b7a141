"""An organization of AWS Organizations: a management account and its members."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from opentrail.core.errors import CloudTrailError, UsageError
from opentrail.core.event import is_account

_ID = re.compile(r"o-[a-z0-9]{10,32}")
_KEYS = ("id", "management_account", "accounts")


@dataclass(frozen=True, slots=True)
class Organization:
    """The current state of an organization."""

    #: `o-` and 10 to 32 letters and digits.
    id: str
    management_account: str
    #: All accounts, the management account among them.
    accounts: frozenset[str]
    #: Whether it has all features; organization trails need more than consolidated billing.
    has_all_features: bool = True


def read_organization(table: Any, source: str) -> Organization:
    """Returns the organization that a table of the configuration describes.

    Args:
        table: `id`, `management_account`, and `accounts`, which may omit the management account.
        source: names the table in errors.

    Raises:
        UsageError: a value is wrong; the message names its key.
    """
    if not isinstance(table, dict):
        raise UsageError(f"{source} must be a table, not {table!r}")
    for key in table:
        if key not in _KEYS:
            raise UsageError(f"{source} has an unknown key {key!r}")
    organization_id = table.get("id")
    if not isinstance(organization_id, str) or not _ID.fullmatch(organization_id):
        form = "'o-' with 10 to 32 lowercase letters and digits"
        raise UsageError(f"{source}: id must be {form}, not {organization_id!r}")
    management = _account(table.get("management_account"), f"{source}: management_account")
    value = table.get("accounts")
    if not isinstance(value, list):
        raise UsageError(f"{source}: accounts must be a list of account ids, not {value!r}")
    accounts = [_account(account_id, f"{source}: each of accounts") for account_id in value]
    for account in accounts:
        if accounts.count(account) > 1:
            raise UsageError(f"{source}: accounts has {account!r} more than once")
    return Organization(organization_id, management, frozenset({management, *accounts}))


def not_management_account() -> CloudTrailError:
    """Returns the error of a call that only the management of an organization may make."""
    return CloudTrailError(
        "NotOrganizationMasterAccountException",
        "You cannot configure or manage trails for an organization because this action requires "
        "being signed in with the management account.",
    )


def _account(value: Any, name: str) -> str:
    if not is_account(value):
        raise UsageError(f"{name} must be a string of 12 digits, not {value!r}")
    return str(value)
