"""Counters and distributions as Prometheus reads them."""

import math
from datetime import timedelta

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from opentrail.ports.metrics import Freshness, Metrics, total
from tests.factories import MOMENT


def families(metrics: Metrics) -> dict[str, str]:
    """Returns name and kind of all exposed metrics."""
    text = generate_latest(metrics.registry).decode()
    return {family.name: family.type for family in text_string_to_metric_families(text)}


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_metric_has_our_prefix_and_help() -> None:
    text = generate_latest(Metrics().registry).decode()
    names = families(Metrics())
    assert names
    assert all(name.startswith("opentrail_") for name in names)
    helps = [line for line in text.splitlines() if line.startswith("# HELP ")]
    assert all(len(line.split(" ", 3)[3]) > 3 for line in helps)


def test_each_metric_has_its_type() -> None:
    kinds = families(Metrics())
    assert kinds["opentrail_calls"] == "counter"
    assert kinds["opentrail_records"] == "counter"
    assert kinds["opentrail_lost_records"] == "counter"
    assert kinds["opentrail_refused_calls"] == "counter"
    assert kinds["opentrail_undecoded_calls"] == "counter"
    assert kinds["opentrail_append_seconds"] == "histogram"
    assert kinds["opentrail_visible_seconds"] == "histogram"
    assert kinds["opentrail_journal_position"] == "gauge"
    assert kinds["opentrail_history_position"] == "gauge"


def test_losses_are_zero_before_anything_is_lost() -> None:
    """An alarm on them needs a number, not an absence."""
    found = samples(Metrics())
    assert found["opentrail_lost_records_total", ()] == 0
    assert found["opentrail_undecoded_calls_total", ()] == 0


def test_counters_count_by_their_labels() -> None:
    metrics = Metrics()
    metrics.count("s3", "Data", 0.1)
    metrics.count("s3", "Data", 0.1)
    metrics.count("iam", "Management", 0.1, more=2)
    metrics.journal_position.set(41)
    found = samples(metrics)
    assert found["opentrail_calls_total", (("service", "s3"),)] == 2
    assert found["opentrail_calls_total", (("service", "iam"),)] == 1
    assert found["opentrail_records_total", (("category", "Data"),)] == 2
    assert found["opentrail_records_total", (("category", "Management"),)] == 3
    assert found["opentrail_journal_position", ()] == 41


def test_a_distribution_sorts_its_values_into_buckets() -> None:
    metrics = Metrics()
    metrics.count("s3", "Data", 0.002)
    metrics.count("s3", "Data", 0.3)
    found = samples(metrics)
    assert found["opentrail_append_seconds_bucket", (("le", "0.0025"),)] == 1
    assert found["opentrail_append_seconds_bucket", (("le", "0.5"),)] == 2
    assert found["opentrail_append_seconds_count", ()] == 2


def test_two_servers_in_one_process_count_separately() -> None:
    one, other = Metrics(), Metrics()
    one.lost.inc()
    assert samples(one)["opentrail_lost_records_total", ()] == 1
    assert samples(other)["opentrail_lost_records_total", ()] == 0


def test_counters_are_summed_and_gauges_are_local() -> None:
    ours, first, second = Metrics(), Metrics(), Metrics()
    ours.count("iam", "Management", 0.001)
    first.count("iam", "Management", 0.002, more=19)
    second.count("s3", "Data", 0.002, more=298)
    second.count("s3", "Data", 99.0)
    second.lost.inc(7)
    ours.journal_position.set(5)
    first.journal_position.set(1_000)
    text = ours.exposition([first.samples(), second.samples()]).decode()
    shown = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert shown["opentrail_records_total", (("category", "Management"),)] == 21
    assert shown["opentrail_records_total", (("category", "Data"),)] == 300
    assert shown["opentrail_lost_records_total", ()] == 7
    assert shown["opentrail_append_seconds_bucket", (("le", "0.0025"),)] == 3
    assert shown["opentrail_append_seconds_bucket", (("le", "+Inf"),)] == 4
    assert shown["opentrail_append_seconds_count", ()] == 4
    assert shown["opentrail_journal_position", ()] == 5
    counted = [ours.samples(), first.samples(), second.samples()]
    assert total(counted, "opentrail_records_total") == 321


def test_the_exposition_of_one_process_equals_the_registry() -> None:
    metrics = Metrics()
    metrics.count("iam", "Management", 0.1)
    assert metrics.exposition() == generate_latest(metrics.registry)


# Freshness


def visible(metrics: Metrics, *seconds: float) -> None:
    metrics.visible.observe([MOMENT - timedelta(seconds=wait) for wait in seconds], MOMENT)


def test_freshness_is_a_distribution_with_its_quantiles() -> None:
    metrics = Metrics()
    visible(metrics, *(number / 1_000 for number in range(1, 101)))
    visible(metrics, -5.0, 0.25)
    found = samples(metrics)
    assert families(metrics)["opentrail_visible_quantile_seconds"] == "gauge"
    bucket = "opentrail_visible_seconds_bucket"
    assert found[bucket, (("le", "0.001"),)] == 2  # a clock put back counts as no time
    assert found[bucket, (("le", "0.05"),)] == 51
    assert found[bucket, (("le", "0.25"),)] == 102
    assert found[bucket, (("le", "+Inf"),)] == 102
    assert found["opentrail_visible_seconds_count", ()] == 102
    assert math.isclose(found["opentrail_visible_seconds_sum", ()], 5.05 + 0.25)
    assert found["opentrail_visible_quantile_seconds", (("quantile", "0.5"),)] == 0.05
    assert found["opentrail_visible_quantile_seconds", (("quantile", "0.99"),)] == 0.1


def test_quantiles_cover_a_minute_or_ten_thousand_records() -> None:
    now = [1_000.0]
    freshness = Freshness(CollectorRegistry(), lambda: now[0])
    assert all(math.isnan(seconds) for _, seconds in freshness.quantiles())
    freshness.observe([MOMENT - timedelta(seconds=9)] * 5_000, MOMENT)
    assert freshness.quantiles() == [(0.5, 9.0), (0.99, 9.0)]
    now[0] += 59
    freshness.observe([MOMENT - timedelta(seconds=1)] * 15_000, MOMENT)
    assert freshness.quantiles() == [(0.5, 1.0), (0.99, 1.0)]
    freshness.observe([MOMENT - timedelta(seconds=2)], MOMENT)
    now[0] += 61
    assert all(math.isnan(seconds) for _, seconds in freshness.quantiles())
    freshness.observe([], MOMENT)
    freshness.observe([MOMENT - timedelta(seconds=3)], MOMENT)
    assert freshness.quantiles() == [(0.5, 3.0), (0.99, 3.0)]


def test_other_processes_freshness_is_added_without_quantiles() -> None:
    ours, other = Metrics(), Metrics()
    visible(ours, 0.002)
    visible(other, 0.2, 0.2)
    found = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(ours.exposition([other.samples()]).decode())
        for sample in family.samples
    }
    assert found["opentrail_visible_seconds_count", ()] == 3
    assert found["opentrail_visible_seconds_bucket", ("0.0025",)] == 1
    assert found["opentrail_visible_seconds_bucket", ("0.25",)] == 3
    assert found["opentrail_visible_quantile_seconds", ("0.99",)] == 0.002
