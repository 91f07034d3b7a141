"""The wings of a server. Whoever adds one adds a line here; whoever leaves one out, too."""

from __future__ import annotations

from opentrail.app.wing import StartWing
from opentrail.app.wings import console, imports, insights, organizations, sinks

WINGS: tuple[StartWing, ...] = (
    imports.start,
    organizations.start,
    sinks.start,
    insights.start,
    console.start,
)
