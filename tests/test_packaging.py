"""The files for container engines and for systemd fit the package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
#: Seconds in which a server finishes its requests, with a margin.
LEAST_SECONDS = 15


def test_unit_documentation_is_an_installed_file() -> None:
    unit = (ROOT / "packaging/opentrail.service").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    installed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    (document,) = re.findall("^Documentation=(.*)$", unit, re.M)
    (prefix,) = re.findall("^ExecStart=(.*)/bin/opentrail ", unit, re.M)
    assert document in [f"file:{prefix}/{path}" for path in installed.values()]


@pytest.mark.parametrize("file", ["compose.yaml", "compose.cluster.yaml"])
def test_containers_have_time_to_stop(file: str) -> None:
    services = yaml.safe_load((ROOT / file).read_text())["services"]
    ours = [service for service in services.values() if "build" in service]
    assert ours
    for service in ours:
        assert int(service["stop_grace_period"].removesuffix("s")) >= LEAST_SECONDS


def test_images_have_versions() -> None:
    images = [
        service["image"]
        for file in ("compose.yaml", "compose.cluster.yaml")
        for service in yaml.safe_load((ROOT / file).read_text())["services"].values()
        if "build" not in service
    ]
    images += re.findall(r"^ARG PYTHON_IMAGE=(.*)$", (ROOT / "Containerfile").read_text(), re.M)
    assert len(images) > 5
    for image in images:
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", image), image


def test_security_policy_supports_the_last_release() -> None:
    """That is the newest version with a date in the changelog."""
    (newest, *_) = re.findall(
        r"^## \[(\d+\.\d+)\.\d+\] - ", (ROOT / "CHANGELOG.md").read_text(), re.M
    )
    supported = re.findall(r"^\| ([\d.]+) \| yes \|$", (ROOT / "SECURITY.md").read_text(), re.M)
    assert supported == [newest]
