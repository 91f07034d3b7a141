"""Counters and distributions as Prometheus reads them."""

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from opentrail.metrics import Metrics, total


def families(metrics: Metrics) -> dict[str, str]:
    """Returns name and kind of everything that is shown."""
    text = generate_latest(metrics.registry).decode()
    return {family.name: family.type for family in text_string_to_metric_families(text)}


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_metric_is_ours_by_name_and_has_help() -> None:
    text = generate_latest(Metrics().registry).decode()
    names = families(Metrics())
    assert names
    assert all(name.startswith("opentrail_") for name in names)
    helps = [line for line in text.splitlines() if line.startswith("# HELP ")]
    assert all(len(line.split(" ", 3)[3]) > 3 for line in helps)


def test_what_is_counted_measured_and_told_has_its_kind() -> None:
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


def test_losses_stand_at_zero_before_anything_is_lost() -> None:
    """An alarm on them needs a number, not an absence."""
    found = samples(Metrics())
    assert found["opentrail_lost_records_total", ()] == 0
    assert found["opentrail_undecoded_calls_total", ()] == 0


def test_counters_count_by_their_labels() -> None:
    metrics = Metrics()
    metrics.calls.labels("s3").inc()
    metrics.calls.labels("s3").inc()
    metrics.calls.labels("iam").inc()
    metrics.records.labels("Data").inc()
    metrics.journal_position.set(41)
    found = samples(metrics)
    assert found["opentrail_calls_total", (("service", "s3"),)] == 2
    assert found["opentrail_calls_total", (("service", "iam"),)] == 1
    assert found["opentrail_records_total", (("category", "Data"),)] == 1
    assert found["opentrail_journal_position", ()] == 41


def test_a_distribution_sorts_what_it_sees_into_buckets() -> None:
    metrics = Metrics()
    metrics.append_seconds.observe(0.002)
    metrics.append_seconds.observe(0.3)
    found = samples(metrics)
    assert found["opentrail_append_seconds_bucket", (("le", "0.0025"),)] == 1
    assert found["opentrail_append_seconds_bucket", (("le", "0.5"),)] == 2
    assert found["opentrail_append_seconds_count", ()] == 2


def test_two_servers_in_one_process_do_not_share_numbers() -> None:
    one, other = Metrics(), Metrics()
    one.lost.inc()
    assert samples(one)["opentrail_lost_records_total", ()] == 1
    assert samples(other)["opentrail_lost_records_total", ()] == 0


def test_what_other_processes_counted_is_added_and_gauges_are_our_own() -> None:
    ours, first, second = Metrics(), Metrics(), Metrics()
    ours.records.labels("Management").inc(1)
    first.records.labels("Management").inc(20)
    second.records.labels("Data").inc(300)
    second.lost.inc(7)
    for metrics, seconds in ((first, 0.002), (second, 0.002), (second, 99.0)):
        metrics.append_seconds.observe(seconds)
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
    assert shown["opentrail_append_seconds_bucket", (("le", "0.0025"),)] == 2
    assert shown["opentrail_append_seconds_bucket", (("le", "+Inf"),)] == 3
    assert shown["opentrail_append_seconds_count", ()] == 3
    assert shown["opentrail_journal_position", ()] == 5
    counted = [ours.samples(), first.samples(), second.samples()]
    assert total(counted, "opentrail_records_total") == 321


def test_alone_the_exposition_is_what_the_registry_holds() -> None:
    metrics = Metrics()
    metrics.records.labels("Management").inc(3)
    assert metrics.exposition() == generate_latest(metrics.registry)
