"""Apache Superset, from the package index, queries event history through Athena's API."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.installed import installed
from tests.live.processes import Opentrail, clean_environment, opentrail_server

pytestmark = [pytest.mark.conformance, pytest.mark.live]

PACKAGES = (
    "apache-superset>=6,<7",
    "PyAthena[sqlalchemy]>=3,<5",
    # Superset's package does not require all of its imports.
    *("cachetools", "flask-caching<2.4", "rich"),
)
PAGE = Path(__file__).parents[2] / "docs/howto/query-with-other-tools.md"
(URI,) = re.findall(r"^awsathena\S+$", PAGE.read_text(), re.M)
(CALLS,) = re.findall(
    r"^```sql\n(SELECT.* AS caller FROM event_history)\n```", PAGE.read_text(), re.M
)
CONFIG = """
SECRET_KEY = "of-a-test-that-runs-on-this-machine-only"
SQLALCHEMY_DATABASE_URI = "sqlite:///FOLDER/superset.db"
WTF_CSRF_ENABLED = TALISMAN_ENABLED = RATELIMIT_ENABLED = False
"""
PASSWORD = "of-a-test"
ADMIN = "--username admin --firstname Mary --lastname Major --email mary@example.com"
COMMANDS = (
    ("db", "upgrade"),
    ("fab", "create-admin", *ADMIN.split(), "--password", PASSWORD),
    ("init",),
)
#: Sends each request that it reads to Superset, and prints the answers.
CLIENT = """
import json, sys
from superset.app import create_app
client = create_app().test_client()
login = {"username": "admin", "password": sys.argv[1], "provider": "db"}
token = client.post("/api/v1/security/login", json=login).json["access_token"]
for method, path, body in json.load(sys.stdin):
    answer = client.open(
        f"/api/v1/{path}", method=method, json=body, headers={"Authorization": f"Bearer {token}"}
    )
    print("answer", json.dumps([answer.status_code, answer.get_json(silent=True)]))
"""
#: Superset's time grains for Athena.
GRAINS = (
    *("PT1S", "PT1M", "PT1H", "P1D", "P1W", "P1M", "P3M", "P1Y"),
    *("P1W/1970-01-03T00:00:00Z", "1969-12-28T00:00:00Z/P1W"),
)


class Superset:
    """An installed Superset with its database."""

    def __init__(self, server: Opentrail, commands: Path, folder: Path) -> None:
        self._commands = commands
        self._folder = folder
        config = folder / "superset_config.py"
        config.write_text(CONFIG.replace("FOLDER", str(folder)))
        self._environment = clean_environment(
            **server.access(), SUPERSET_CONFIG_PATH=str(config), FLASK_APP="superset"
        )

    def run(self, program: str, *arguments: str, given: str = "") -> str:
        """Runs one of its programs, and returns the output."""
        done = subprocess.run(
            [self._commands / program, *arguments],
            input=given,
            capture_output=True,
            text=True,
            cwd=self._folder,
            env=self._environment,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, *requests: tuple[str, str, Any]) -> list[Any]:
        """Sends requests to its API, and returns the answers, which all mean success."""
        output = self.run("python", "-c", CLIENT, PASSWORD, given=json.dumps(requests))
        answers = [json.loads(line[7:]) for line in output.splitlines() if line[:7] == "answer "]
        assert [status // 100 for status, _ in answers] == [2] * len(requests), answers
        return [answer for _, answer in answers]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    data = tmp_path_factory.mktemp("server") / "data"
    with opentrail_server(data, command="sandbox") as started:
        started.boto("iam").create_user(UserName="Mary")
        yield started


@pytest.fixture(scope="module")
def superset(server: Opentrail, tmp_path_factory: pytest.TempPathFactory) -> Superset:
    commands = installed(tmp_path_factory.mktemp("superset"), *PACKAGES)
    made = Superset(server, commands, tmp_path_factory.mktemp("home"))
    for arguments in COMMANDS:
        made.run("superset", *arguments)
    access = server.access()
    uri = URI.replace("127.0.0.1%3A4747", server.url.removeprefix("http://"))
    uri = uri.replace("KEY", access["AWS_ACCESS_KEY_ID"])
    uri = uri.replace("SECRET", access["AWS_SECRET_ACCESS_KEY"])
    database = {"database_name": "opentrail", "sqlalchemy_uri": uri}
    dataset = {"database": 1, "schema": "default"}
    made.ask(
        ("POST", "database/test_connection/", database),
        ("POST", "database/", database),
        ("POST", "dataset/", dataset | {"table_name": "event_history"}),
        ("POST", "dataset/", dataset | {"table_name": "calls", "sql": CALLS}),
    )
    return made


def test_tables_and_columns_are_listed(superset: Superset) -> None:
    schemas, tables, table = superset.ask(
        ("GET", "database/1/schemas/", None),
        ("GET", "database/1/tables/?q=(schema_name:default)", None),
        ("GET", "database/1/table_metadata/?name=event_history&schema=default", None),
    )
    assert schemas["result"] == ["default"]
    assert [each["value"] for each in tables["result"]] == ["event_history"]
    types = {each["name"]: each["type"] for each in table["columns"]}
    assert (types["eventtime"], types["eventname"]) == ("TIMESTAMP", "VARCHAR")


def test_sql_lab_limits_rows(superset: Superset) -> None:
    statement = "SELECT eventname, readonly FROM event_history WHERE eventname = 'CreateUser'"
    query = {"database_id": 1, "schema": "default", "client_id": "a", "queryLimit": 10}
    (answer,) = superset.ask(("POST", "sqllab/execute/", query | {"sql": statement}))
    assert answer["data"] == [{"eventname": "CreateUser", "readonly": False}]
    assert "LIMIT 11" in answer["query"]["executedSql"]


def chart(dataset: int, **query: Any) -> tuple[str, str, Any]:
    """Returns the request for a chart's data."""
    shown = {"filters": [], "extras": {}, "row_limit": 100, **query}
    source = {"id": dataset, "type": "table"}
    return ("POST", "chart/data", {"datasource": source, "force": True, "queries": [shown]})


def custom(sql: str, label: str, **more: str) -> dict[str, str]:
    return {"expressionType": "SQL", "sqlExpression": sql, "label": label, **more}


def test_charts_count_calls_in_each_time_grain(superset: Superset) -> None:
    calls = custom("COUNT(*)", "calls")
    requests = [
        chart(
            dataset,
            columns=[
                custom("eventtime", "time", timeGrain=grain, columnType="BASE_AXIS"),
                "eventname",
            ],
            metrics=[calls],
            # The names with the most calls: a join with a subquery.
            series_columns=["eventname"],
            series_limit=100,
            series_limit_metric=calls,
            granularity="eventtime",
            time_range="2020-01-01 : 2100-01-01",
        )
        for dataset in (1, 2)
        for grain in GRAINS
    ]
    for answer in superset.ask(*requests):
        (result,) = answer["result"]
        names = {row["eventname"]: row["calls"] for row in result["data"]}
        assert names["CreateUser"] == 1, result


def test_charts_group_by_the_caller(superset: Superset) -> None:
    filters = [
        {"col": "eventname", "op": "IN", "val": ["CreateUser"]},
        {"col": "eventname", "op": "ILIKE", "val": "%user%"},
        {"col": "errorcode", "op": "IS NULL"},
    ]
    callers = {"metrics": [custom("COUNT(*)", "calls")], "filters": filters}
    answers = superset.ask(
        chart(1, columns=[custom("useridentity.arn", "caller")], **callers),
        chart(2, columns=["caller"], extras={"having": "COUNT(*) > 0"}, **callers),
    )
    for answer in answers:
        (result,) = answer["result"]
        arn = "arn:aws:iam::123456789012:user/admin"
        assert result["data"] == [{"caller": arn, "calls": 1}], result
