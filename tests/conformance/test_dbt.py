"""dbt, from the package index, tests event history through Athena's API."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.installed import installed
from tests.live.processes import Opentrail, clean_environment, opentrail_server

pytestmark = [pytest.mark.conformance, pytest.mark.live]

#: Later versions of dbt-core download a parser from outside the package index.
PACKAGES = ("dbt-athena>=1.11,<2", "dbt-core>=1.11,<1.12")
PAGE = Path(__file__).parents[2] / "docs/howto/query-with-other-tools.md"
FILES = re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```", PAGE.read_text(), re.M | re.S)
COUNTS = re.findall(r'^dbt show --inline "(.*)"$', PAGE.read_text(), re.M)


@pytest.fixture(scope="module")
def dbt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("dbt"), *PACKAGES) / "dbt"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    with opentrail_server(tmp_path_factory.mktemp("server") / "data", command="sandbox") as started:
        started.boto("iam").create_user(UserName="Mary")
        yield started


@pytest.fixture
def project(server: Opentrail, tmp_path: Path) -> Path:
    """The project of the page."""
    for name, content in FILES:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content.replace("http://127.0.0.1:4747", server.url))
    return tmp_path


def run(
    dbt: Path, server: Opentrail, project: Path, *arguments: str, glue: str = "http://127.0.0.1:9"
) -> subprocess.CompletedProcess[str]:
    """Runs a command; unless told otherwise, it cannot reach AWS Glue."""
    environment = clean_environment(
        **server.access() | {"AWS_ENDPOINT_URL": glue},
        DBT_SEND_ANONYMOUS_USAGE_STATS="false",
        AWS_MAX_ATTEMPTS="1",
    )
    return subprocess.run(
        [dbt, "--no-use-colors", *arguments],
        capture_output=True,
        text=True,
        cwd=project,
        env=environment,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (("debug",), "All checks passed!"),
        (("test",), "PASS=4 WARN=0 ERROR=0"),
        (("source", "freshness"), "PASS freshness of opentrail.event_history"),
        (("show", "--inline", *COUNTS), "| CreateUser "),
        (("show", "--select", "denied"), "Previewing node 'denied'"),
        (("compile",), "Found 1 model, 4 data tests, 1 source"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_commands_of_the_page_work(
    dbt: Path, server: Opentrail, project: Path, arguments: tuple[str, ...], output: str
) -> None:
    done = run(dbt, server, project, *arguments)
    assert done.returncode == 0, done.stdout
    assert output in done.stdout


def test_broken_rule_fails(dbt: Path, server: Opentrail, project: Path) -> None:
    rule = "SELECT * FROM {{ source('opentrail', 'event_history') }} WHERE eventname = 'CreateUser'"
    (project / "tests/nobody_creates_users.sql").write_text(rule)
    done = run(dbt, server, project, "test", "--select", "nobody_creates_users")
    assert done.returncode == 1, done.stdout
    assert "FAIL 1 nobody_creates_users" in done.stdout


@pytest.mark.parametrize("arguments", [("run",), ("test", "--store-failures")])
def test_materialized_models_fail(
    dbt: Path, server: Opentrail, project: Path, arguments: tuple[str, ...]
) -> None:
    file = project / "models/denied.sql"
    file.write_text(file.read_text().replace("ephemeral", "view"))
    done = run(dbt, server, project, *arguments, glue=server.url)
    assert done.returncode != 0, done.stdout
    assert "only SELECT statements are supported" in done.stdout
