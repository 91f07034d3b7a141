"""ARNs of CloudTrail's own resources (cloudtrail-format §1.2).

What is looked up by an ARN, and what a policy is asked about, must be the same resource: both read
ARNs here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TRAIL, STORE, CHANNEL, DASHBOARD = TYPES = ("trail", "eventdatastore", "channel", "dashboard")
_FORM = re.compile(r"arn:aws[a-z-]*:cloudtrail:([a-z0-9-]+):([0-9]{12}):([a-z]+)/(.+)")


@dataclass(frozen=True, slots=True)
class CloudTrailArn:
    """Where a resource is, and what it is called there."""

    #: One of `TYPES`, or a type that is not known.
    type: str
    region: str
    account: str
    #: Name of a trail or dashboard, id of an event data store or channel.
    name: str

    def __str__(self) -> str:
        """Returns the one form in which opentrail writes the ARN, whatever its partition was."""
        return f"arn:aws:cloudtrail:{self.region}:{self.account}:{self.type}/{self.name}"


def read_cloudtrail_arn(text: str) -> CloudTrailArn | None:
    """Returns the parts of an ARN; None if the text is not the ARN of a CloudTrail resource.

    >>> read_cloudtrail_arn("arn:aws:cloudtrail:us-east-1:123456789012:trail/my-trail").name
    'my-trail'
    """
    form = _FORM.fullmatch(text)
    if form is None:
        return None
    region, account, kind, name = form.groups()
    return CloudTrailArn(kind, region, account, name)
