"""All wings of a server, one line for each."""

from __future__ import annotations

from opentrail.app.wing import StartWing
from opentrail.app.wings import console, detections, imports, insights, organizations, sinks

WINGS: tuple[StartWing, ...] = (
    imports.start,
    organizations.start,
    sinks.start,
    insights.start,
    detections.start,
    console.start,
)
