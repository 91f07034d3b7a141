"""The page about monitoring and the Grafana dashboard name existing metrics."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.live.processes import Opentrail, opentrail_server

ROOT = Path(__file__).parent.parent.parent
DASHBOARD = ROOT / "packaging/grafana/opentrail.json"
ALERTS = ROOT / "packaging/prometheus/opentrail.yml"
PAGE = ROOT / "docs/howto/monitor.md"
RUNBOOK = ROOT / "docs/howto/runbook.md"
_METRIC = re.compile(r"\bopentrail_[a-z_]+\b")
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("", "_bucket")}

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    folder = tmp_path_factory.mktemp("monitoring")
    with opentrail_server(folder / "data", command="sandbox") as running:
        yield running


@pytest.fixture(scope="module")
def metrics(server: Opentrail) -> set[str]:
    """Returns every Prometheus name of a metric of the server."""
    server.boto("iam").list_users()
    with urllib.request.urlopen(f"{server.console}/metrics") as answer:  # noqa: S310
        text = answer.read().decode()
    return {
        family.name + suffix
        for family in text_string_to_metric_families(text)
        for suffix in _SUFFIXES[family.type]
        if not family.name.endswith("_created")
    }


def expressions() -> list[str]:
    return [
        target["expr"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", [])
    ]


def test_the_dashboard_has_exactly_the_servers_metrics(metrics: set[str]) -> None:
    named = {name for text in expressions() for name in _METRIC.findall(text)}
    assert named - metrics == set()
    # A histogram by its buckets.
    shown = {name.removesuffix("_bucket") for name in named}
    assert {name.removesuffix("_bucket") for name in metrics} - shown == set()


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def test_every_metric_of_the_alerts_exists(metrics: set[str]) -> None:
    named = {name for rule in alerts() for name in _METRIC.findall(rule["expr"])}
    assert len(named) > 8
    assert named - metrics == set()


def test_alerts_match_the_page_and_suggest_a_remedy() -> None:
    table = PAGE.read_text().partition("| condition | means |")[2].partition("\n\n")[0]
    assert {rule["expr"] for rule in alerts()} == set(re.findall(r"^\| `(.+?)` \|", table, re.M))
    for rule in alerts():
        assert rule["alert"].startswith("Opentrail")
        assert rule["labels"]["severity"] in ("critical", "warning")
        of = "job" if rule["expr"].startswith("sum by (job)") else "instance"
        assert f"$labels.{of}" in rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_the_runbook_covers_each_alert_and_loss() -> None:
    sections = re.split(r"^### ", RUNBOOK.read_text().partition("## Back up")[0], flags=re.M)[1:]
    headings = [section.partition("\n")[0] for section in sections]
    named = [heading for heading in headings if heading.startswith("Opentrail")]
    assert sorted(named) == sorted(rule["alert"] for rule in alerts())
    assert len(headings) - len(named) == 6
    for section in sections:
        parts = re.findall(r"^- \*\*([\w ]+):\*\*", section, re.M)
        assert parts == ["Symptoms", "What to do", "Resolved when"], section


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing")
def test_prometheus_accepts_the_alerts() -> None:
    subprocess.run(["promtool", "check", "rules", ALERTS], check=True, capture_output=True)


def test_the_page_names_the_metrics_of_the_server(metrics: set[str]) -> None:
    page = PAGE.read_text()
    named = set(_METRIC.findall(page))
    assert named - metrics == set()
    # The page's table has each one; a histogram without its buckets.
    assert {name for name in metrics if not name.endswith("_bucket")} - named == set()


def test_the_dashboard_can_be_imported() -> None:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    assert dashboard["title"] == "opentrail"
    assert dashboard["schemaVersion"] >= 36
    assert "id" not in dashboard, "an id is of one Grafana"
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard))) <= names | {
        "__range",
        "__rate_interval",
    }
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in dashboard["panels"]:
        assert panel["type"] in ("row", "stat", "timeseries")
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["type"] == "row" or panel["targets"]
