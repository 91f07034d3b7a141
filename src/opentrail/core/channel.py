"""A channel: through it, services outside AWS send events to event data stores.

Source: "CreateChannel" of the API Reference.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Self

from opentrail.core.arns import CHANNEL, CloudTrailArn
from opentrail.core.event import Json
from opentrail.core.trail import Tags

#: The source of a channel for events of own services.
CUSTOM = "Custom"
#: Names of sources in "Create an integration with a CloudTrail partner" of the User Guide.
PARTNERS = (
    *("CloudStorageSecurityConsole", "Clumio", "CrowdStrike", "CyberArk", "GitHub"),
    *("IBMMulticloud", "KongGatewayEnterprise", "LaunchDarkly", "MontyCloud"),
    *("NetskopeCloudExchange", "OktaSystemLogEvents", "OneLogin", "Shoreline", "Snyk"),
    "WizAuditLogs",
)


@dataclass(frozen=True, slots=True)
class Channel:
    """A created channel."""

    id: str
    name: str
    account: str
    region: str
    #: `CUSTOM` or one of `PARTNERS`.
    source: str
    #: The ids of the event data stores that have its events.
    stores: tuple[str, ...]
    tags: Tags = ()

    @property
    def arn(self) -> CloudTrailArn:
        """The channel's ARN."""
        return CloudTrailArn(CHANNEL, self.region, self.account, self.id)

    @property
    def key(self) -> str:
        """The key of its document."""
        return f"{self.account}/{self.region}/{self.id}"

    def document(self) -> Json:
        """Returns the document to store."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Json) -> Self:
        """Returns the channel that `document` describes; the inverse of `document`."""
        tags = tuple((key, value) for key, value in document["tags"])
        return cls(**{**document, "stores": tuple(document["stores"]), "tags": tags})


@dataclass(frozen=True, slots=True)
class IngestionStatus:
    """The latest events that a channel received; None: there were none."""

    attempted_at: str
    attempted_id: str
    succeeded_at: str | None = None
    succeeded_id: str | None = None
    error_code: str | None = None

    def after(self, former: Self | None) -> Self:
        """Returns this status of a request, with what an earlier one had and this one lacks."""
        if former is None:
            return self
        return type(self)(
            self.attempted_at,
            self.attempted_id,
            self.succeeded_at or former.succeeded_at,
            self.succeeded_id or former.succeeded_id,
            self.error_code or former.error_code,
        )
