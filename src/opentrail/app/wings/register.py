"""All wings of a server, one line for each."""

from __future__ import annotations

from opentrail.app.wing import StartWing
from opentrail.app.wings import (
    agents,
    console,
    detections,
    imports,
    insights,
    organizations,
    permissions,
    sinks,
)

WINGS: tuple[StartWing, ...] = (
    imports.start,
    organizations.start,
    sinks.start,
    insights.start,
    detections.start,
    permissions.start,
    agents.start,
    console.start,
)
