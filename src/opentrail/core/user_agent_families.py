"""Families of user agents: programs, without their versions and surroundings."""

from __future__ import annotations

import re

#: Group 1 is the family; DuckDB reads this, too. S3's records have user agents in brackets, and
#: those of AWS's partners begin with `APN/1.0`.
FAMILY = "^\\[?(?:APN/[^ ]* )?([^][/ ,;()]{1,64})"
_FAMILY = re.compile(FAMILY)


def family_of(user_agent: str) -> str | None:
    """Returns the family of a user agent; None if it has none.

    >>> family_of("aws-cli/2.15.30 md/awscrt#0.19.19"), family_of("[Boto3/1.34.69 md/Botocore]")
    ('aws-cli', 'Boto3')
    >>> family_of("APN/1.0 HashiCorp/1.0 Terraform/1.7.5"), family_of("console.amazonaws.com")
    ('HashiCorp', 'console.amazonaws.com')
    """
    match = _FAMILY.match(user_agent)
    return match[1] if match else None
