"""Counters and distributions that `/metrics` shows."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from opentrail.core.event import Entry
from opentrail.core.selectors.selection import LeftOut

#: Name, labels and value of a sample of a counter or histogram.
Sample = tuple[str, tuple[tuple[str, str], ...], float]

#: Gauges of each process; the server's value is their sum.
SUMMED_GAUGES = frozenset(
    {"opentrail_open_connections", "opentrail_connection_limit", "opentrail_spilled_bytes"}
)
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
#: Maximum records that quantiles are calculated from.
_MAX_RECORDS = 10_000
#: Maximum age in seconds of these records.
_RECENT_SECONDS = 60.0
_QUANTILES = (0.5, 0.99)
_SECOND = timedelta(seconds=1)


class Metrics:
    """One registry per server, so that two servers in one test do not share numbers.

    Without event history there is no position of it: nothing falls behind.
    """

    def __init__(self, has_history: bool = True) -> None:
        self.registry = CollectorRegistry()
        of_history = self.registry if has_history else None
        self._calls = _Totals("opentrail_calls", "Calls answered", "service", self.registry)
        self._records = _Totals(
            "opentrail_records", "Records made durable", "category", self.registry
        )
        #: Bytes of the records that became visible since the start, by category.
        self.record_bytes = _Totals(
            "opentrail_record_bytes", "Bytes of records that lookups see", "category", self.registry
        )
        #: Their number.
        self.visible_records = 0
        self.disk_bytes = Gauge(
            "opentrail_disk_bytes",
            "Bytes that records take in the data directory",
            ["part"],
            registry=self.registry,
        )
        self.disk_free = Gauge(
            "opentrail_disk_free_bytes",
            "Free bytes of the data directory's file system",
            registry=self.registry,
        )
        self.disk_days_left = Gauge(
            "opentrail_disk_days_left",
            "Days until the disk is full at the present rate; +Inf if it never is",
            registry=self.registry,
        )
        self.disk_days_left.set(math.inf)
        self.expired = Counter(
            "opentrail_expired_events",
            "Events that expired by age (retention), --history-size (size) or a full disk (disk)",
            ["reason"],
            registry=self.registry,
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
        self.open_connections = Gauge(
            "opentrail_open_connections", "Connections of clients", registry=self.registry
        )
        self.connection_limit = Gauge(
            "opentrail_connection_limit",
            "Maximum connections of clients",
            registry=self.registry,
        )
        self.spilled_bytes = Gauge(
            "opentrail_spilled_bytes",
            "Bytes of bodies in temporary files, until their calls are recorded",
            registry=self.registry,
        )
        self.idle_closed = Counter(
            "opentrail_idle_connections_closed",
            "Idle connections closed to make room for new ones",
            registry=self.registry,
        )
        self.lost = Counter(
            "opentrail_lost_records",
            "Calls answered without a record (on-record-failure=allow)",
            registry=self.registry,
        )
        self.left_out = LeftOutTotals(self.registry)
        self._append_seconds = _Durations(
            "opentrail_append_seconds",
            "From a finished answer to its durable record",
            self.registry,
        )
        self.visible = Freshness(self.registry)
        self.journal_position = Gauge(
            "opentrail_journal_position", "Last durable position", registry=self.registry
        )
        self.history_position = Gauge(
            "opentrail_history_position",
            "Last position that lookups see",
            registry=of_history,
        )
        self.history_blocks = Counter(
            "opentrail_history_blocks",
            "Blocks of history files that were not in the cache: downloaded from S3, or failed",
            ["outcome"],
            registry=of_history,
        )
        self.missing_files = Gauge(
            "opentrail_history_files_missing",
            "Listed history files that S3 does not have",
            registry=self.registry,
        )
        self.control_store_failing = Gauge(
            "opentrail_control_store_failing",
            "1 while the control store cannot be read or changed, else 0",
            registry=self.registry,
        )
        self.worker = Gauge(
            "opentrail_worker",
            "1 on the server that delivers trails, 0 on the others of a cluster",
            registry=self.registry,
        )
        self.worker.set(1)
        self.delivered_files = Counter(
            "opentrail_delivered_files",
            "Files written to trail buckets",
            ["kind"],
            registry=self.registry,
        )
        self.delivery_failures = Counter(
            "opentrail_delivery_failures", "Deliveries that failed", registry=self.registry
        )
        self.given_up_files = Counter(
            "opentrail_given_up_files",
            "Log files that could not be written for 30 days",
            registry=self.registry,
        )
        self.notifications = Counter(
            "opentrail_notifications", "Log files announced to topics", registry=self.registry
        )
        self.lost_notifications = Counter(
            "opentrail_lost_notifications",
            "Log files that could not be announced to a topic in time",
            registry=self.registry,
        )
        self.streamed_events = Counter(
            "opentrail_streamed_events",
            "Events for log groups, accepted (taken) or rejected (refused)",
            ["outcome"],
            registry=self.registry,
        )
        self.bus_events = Counter(
            "opentrail_bus_events",
            "Events for event buses: accepted (taken), too large, or given up",
            ["outcome"],
            registry=self.registry,
        )
        self.otlp_events = Counter(
            "opentrail_otlp_events",
            "Events for the collector of --otlp-endpoint: accepted (taken), or rejected",
            ["outcome"],
            registry=self.registry,
        )
        self.detections = Counter(
            "opentrail_detections",
            "Matches of rules: recorded, or suppressed; failed: events that cannot be matched",
            ["outcome"],
            registry=self.registry,
        )
        self.webhook_events = Counter(
            "opentrail_webhook_events",
            "Matches and insights for the webhook: accepted (taken), or rejected",
            ["outcome"],
            registry=self.registry,
        )

    def count(self, service: str, category: str, seconds: float, more: int = 0) -> None:
        """Counts a recorded call.

        Args:
            service: the service that was called.
            category: the record's `eventCategory`.
            seconds: from the finished answer to the durable record.
            more: further records of the call.
        """
        self._calls.by_label[service] += 1
        self._records.by_label[category] += 1 + more
        self._append_seconds.observe(seconds)

    def count_visible(self, entries: Sequence[Entry]) -> None:
        """Counts records that became visible."""
        for entry in entries:
            self.record_bytes.by_label[entry.category] += len(entry.record)
        self.visible_records += len(entries)

    def samples(self) -> list[Sample]:
        """Returns the samples, for another process to add to its own."""
        return [
            (sample.name, tuple(sorted(sample.labels.items())), sample.value)
            for family in self.registry.collect()
            if family.type in ("counter", "histogram") or family.name in SUMMED_GAUGES
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]

    def exposition(self, others: Sequence[Iterable[Sample]] = ()) -> bytes:
        """Returns the body of `/metrics`, with the samples of other processes added."""
        if not others:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        registry.register(_Sum(self.registry, others))
        return generate_latest(registry)


# The counters for each call cost a sixth of prometheus_client's own counters.


class _Totals(Collector):
    """A counter for each value of a label."""

    def __init__(
        self, name: str, documentation: str, label: str, registry: CollectorRegistry
    ) -> None:
        self._about = name, documentation
        self._label = label
        self.by_label: defaultdict[str, int] = defaultdict(int)
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yields the counter."""
        family = CounterMetricFamily(*self._about, labels=[self._label])
        for value, count in list(self.by_label.items()):
            family.add_metric([value], count)
        yield family


class LeftOutTotals(Collector):
    """The counters of calls that `--record` leaves out; `read` returns them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.read: Callable[[], Mapping[LeftOut, int]] = dict
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yields the counters."""
        family = CounterMetricFamily(
            "opentrail_left_out_calls",
            "Calls that --record leaves out",
            labels=["event_source", "event_name", "resource_type"],
        )
        for values, count in self.read().items():
            family.add_metric(values, count)
        yield family


class _Durations(Collector):
    """A histogram of seconds."""

    def __init__(self, name: str, documentation: str, registry: CollectorRegistry) -> None:
        self._about = name, documentation
        self._counts = [0] * (len(_BUCKETS) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(_BUCKETS, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterator[Metric]:
        """Yields the histogram."""
        bounds = [*map(floatToGoString, _BUCKETS), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(*self._about, buckets=buckets, sum_value=self._sum)


class Freshness(Collector):
    """Seconds from the making of records until lookups find them."""

    def __init__(
        self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._seconds = _Durations(
            "opentrail_visible_seconds", "From a record's making until lookups find it", registry
        )
        #: Time at which a batch became visible, and the seconds that its records took.
        self._recent: deque[tuple[float, list[float]]] = deque()
        self._remembered = 0
        registry.register(self)

    def observe(self, times: Iterable[datetime], now: datetime) -> None:
        """Observes records that became visible at `now`, by the times when they were made."""
        # The clock may have been set back.
        waits = [max(0.0, (now - moment) / _SECOND) for moment in times]
        if not waits:
            return
        for wait in waits:
            self._seconds.observe(wait)
        self._recent.append((self._clock(), waits))
        self._remembered += len(waits)
        while self._remembered - len(self._recent[0][1]) >= _MAX_RECORDS:
            self._remembered -= len(self._recent.popleft()[1])

    def quantiles(self) -> list[tuple[float, float]]:
        """Returns each quantile with its seconds; NaN if nothing became visible recently."""
        since = self._clock() - _RECENT_SECONDS
        while self._recent and self._recent[0][0] < since:
            self._remembered -= len(self._recent.popleft()[1])
        waits = sorted([wait for _, batch in self._recent for wait in batch])
        if not waits:
            return [(share, math.nan) for share in _QUANTILES]
        return [(share, waits[math.ceil(share * len(waits)) - 1]) for share in _QUANTILES]

    def collect(self) -> Iterator[Metric]:
        """Yields the quantiles of the last minute."""
        quantiles = GaugeMetricFamily(
            "opentrail_visible_quantile_seconds",
            "Quantiles of opentrail_visible_seconds over the last minute",
            labels=["quantile"],
        )
        for share, seconds in self.quantiles():
            quantiles.add_metric([str(share)], seconds)
        yield quantiles


class _Sum(Collector):
    """Families of one registry with samples of other processes added."""

    def __init__(self, registry: CollectorRegistry, others: Sequence[Iterable[Sample]]) -> None:
        self._registry = registry
        self._added: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for samples in others:
            for name, labels, value in samples:
                of_name = self._added.setdefault(name, {})
                of_name[labels] = of_name.get(labels, 0.0) + value

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        for family in self._registry.collect():
            summed = Metric(family.name, family.documentation, family.type)
            names = {sample.name for sample in family.samples} | _names_of(family)
            others = {name: dict(self._added.get(name, {})) for name in names}
            for sample in family.samples:
                more = others[sample.name].pop(tuple(sorted(sample.labels.items())), 0.0)
                summed.add_sample(sample.name, sample.labels, sample.value + more)
            for name, of_name in others.items():
                for labels, value in of_name.items():
                    summed.add_sample(name, dict(labels), value)
            yield summed


def _names_of(family: Metric) -> set[str]:
    """Returns the sample names of a counter, which may have no sample yet."""
    return {f"{family.name}_total"} if family.type == "counter" else set()


def total(
    sample_sets: Iterable[Iterable[Sample]],
    name: str,
    labels: tuple[tuple[str, str], ...] | None = None,
) -> int:
    """Returns a counter's or gauge's sum over processes, of these labels or of all."""
    of_all = (sample for samples in sample_sets for sample in samples if sample[0] == name)
    return int(sum(value for _, has, value in of_all if labels is None or has == labels))
