"""The Helm chart: Helm accepts it, and its rendered manifests run as a cluster."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from opentrail.adapters.keys.sealing import MASTER_KEY_VARIABLE
from opentrail.core.version import __version__
from tests.certificates import issue, write
from tests.live.processes import TIMEOUT_SECONDS, Opentrail, clean_environment
from tests.live.test_cluster import MASTER_KEY
from tests.postgres import shared_server

ROOT = Path(__file__).parents[2]
CHART = ROOT / "packaging/helm/opentrail"
UPSTREAM = "http://127.0.0.1:1"

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]
needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason="Helm is missing")


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["helm", *arguments], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )


def rendered(*settings: str) -> dict[tuple[str, str], Any]:
    """Returns the chart's manifests for settings, by kind and name."""
    flags = [word for setting in settings for word in ("--set", setting)]
    done = helm("template", "audit", str(CHART), "--set", f"upstreams={{{UPSTREAM}}}", *flags)
    assert done.returncode == 0, done.stderr
    documents = [one for one in yaml.safe_load_all(done.stdout) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in documents}


def container_of(stateful_set: Mapping[str, Any]) -> Any:
    (container,) = stateful_set["spec"]["template"]["spec"]["containers"]
    return container


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


@needs_helm
def test_helm_accepts_the_chart_and_requires_an_upstream() -> None:
    linted = helm("lint", "--strict", str(CHART), "--set", f"upstreams={{{UPSTREAM}}}")
    assert linted.returncode == 0, linted.stdout + linted.stderr
    refused = helm("template", "audit", str(CHART))
    assert refused.returncode != 0
    assert "where are calls forwarded?" in refused.stderr


@needs_helm
def test_chart_selectors_and_settings_have_an_effect() -> None:
    found = rendered(
        *("replicas=5", "image.tag=1.2.3", "secret=mine", "tlsSecret=pair"),
        *("storage.className=fast", "flags={--recorders=4}"),
    )
    servers = found["StatefulSet", "audit"]["spec"]
    labels = servers["template"]["metadata"]["labels"]
    assert servers["selector"]["matchLabels"] == labels
    assert found["Service", "audit"]["spec"]["selector"] == labels
    assert found["Service", servers["serviceName"]]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget", "audit"]["spec"]["selector"]["matchLabels"] == labels
    assert servers["replicas"] == 5
    assert servers["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "fast"
    container = container_of(found["StatefulSet", "audit"])
    assert container["image"] == "opentrail:1.2.3"
    assert container["envFrom"] == [{"secretRef": {"name": "mine"}}]
    assert container["args"][-1] == "--recorders=4"
    volumes = servers["template"]["spec"]["volumes"]
    assert volumes == [{"name": "tls", "secret": {"secretName": "pair"}}]
    assert "storageClassName" not in str(rendered()["StatefulSet", "audit"])


@needs_helm
def test_server_starts_with_the_flags_and_is_ready(tmp_path: Path) -> None:
    container = container_of(rendered()["StatefulSet", "audit"])
    certificate = issue("127.0.0.1", "127.0.0.1", is_authority=False)
    write(certificate, tmp_path / "tls.crt", tmp_path / "tls.key")
    # As in the container, with another folder of the certificate and other ports.
    command, *flags = (text.replace("/tls/", f"{tmp_path}/") for text in container["args"])
    flags = [flag for flag in flags if "listen" not in flag]
    url = shared_server().new_database()
    server = Opentrail(tmp_path / "data", *flags, command=command)
    try:
        server.start(
            OPENTRAIL_JOURNAL=url,
            OPENTRAIL_CONTROL_STORE=url,
            **{MASTER_KEY_VARIABLE: MASTER_KEY},
        )
        program, script = container["readinessProbe"]["exec"]["command"]
        assert (program, script) == ("python", "/opt/opentrail/health.py")
        probed = subprocess.run(
            [sys.executable, str(ROOT / "packaging/container_health.py")],
            env=clean_environment(OPENTRAIL_DATA_DIR=str(server.data_dir)),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        assert (probed.returncode, probed.stdout) == (0, "ok\n"), probed.stderr
    finally:
        server.close()
