"""Counters and distributions that `/metrics` shows."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One registry per server, so that two servers in one test do not share numbers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter(
            "opentrail_calls", "Calls answered", ["service"], registry=self.registry
        )
        self.records = Counter(
            "opentrail_records", "Records made durable", ["category"], registry=self.registry
        )
        self.undecoded = Counter(
            "opentrail_undecoded_calls",
            "Calls recorded without their parameters",
            registry=self.registry,
        )
        self.refused = Counter(
            "opentrail_refused_calls",
            "Calls refused by opentrail",
            ["reason"],
            registry=self.registry,
        )
        self.lost = Counter(
            "opentrail_lost_records",
            "Calls answered without a record (on-record-failure=allow)",
            registry=self.registry,
        )
        self.append_seconds = Histogram(
            "opentrail_append_seconds",
            "From a finished answer to its durable record",
            registry=self.registry,
            buckets=_FAST,
        )
        self.visible_seconds = Histogram(
            "opentrail_visible_seconds",
            "From a record's making to its being found by look-ups",
            registry=self.registry,
            buckets=_FAST,
        )
        self.journal_position = Gauge(
            "opentrail_journal_position", "Last durable position", registry=self.registry
        )
        self.history_position = Gauge(
            "opentrail_history_position", "Last position look-ups see", registry=self.registry
        )
        self.delivered_files = Counter(
            "opentrail_delivered_files",
            "Files written to trail buckets",
            ["kind"],
            registry=self.registry,
        )
        self.delivery_failures = Counter(
            "opentrail_delivery_failures", "Deliveries that failed", registry=self.registry
        )
