"""Clients of Amazon Athena, from the package index, query event history."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.installed import installed
from tests.live.processes import Opentrail, clean_environment, opentrail_server

pytestmark = [pytest.mark.conformance, pytest.mark.live]

PACKAGES = ("PyAthena[pandas,sqlalchemy]>=3,<5", "awswrangler>=3,<4", "duckdb")
PAGE = Path(__file__).parents[2] / "docs/howto/query-with-other-tools.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
STATEMENT = (
    "SELECT element_at(requestparameters, 'userName') AS name, eventtime, readonly, errorcode"
    " FROM event_history WHERE eventname = 'CreateUser'"
)
START = f'''
from pyathena import connect
import awswrangler, boto3, pandas, sqlalchemy
STATEMENT = """{STATEMENT}"""
'''
SCRIPTS = {
    "cursor": """
cursor = connect(work_group="opentrail").cursor().execute(STATEMENT)
print([column[0] for column in cursor.description], [row[0] for row in cursor.fetchall()])
""",
    "parameters": """
cursor = connect(work_group="opentrail").cursor()
statement = "SELECT count(*) FROM event_history WHERE eventname = %(name)s"
cursor.execute(statement, {"name": "CreateUser"})
print(cursor.fetchone())
""",
    "pandas": """
from pyathena.pandas.cursor import PandasCursor
cursor = connect(s3_staging_dir="s3://results/", cursor_class=PandasCursor).cursor()
frame = cursor.execute(STATEMENT).as_pandas()
print(frame.columns.tolist(), frame["name"].tolist(), frame.dtypes["eventtime"])
""",
    "sqlalchemy": """
engine = sqlalchemy.create_engine(
    "awsathena+rest://@athena.us-east-1.amazonaws.com/default?work_group=opentrail&s3_staging_dir="
)
table = sqlalchemy.Table("event_history", sqlalchemy.MetaData(), autoload_with=engine)
query = sqlalchemy.select(table.c.eventname).where(table.c.eventname == "CreateUser")
with engine.connect() as connection:
    print(sqlalchemy.inspect(engine).get_table_names(), connection.execute(query).fetchall())
    count = sqlalchemy.text("SELECT count(*) AS n FROM event_history")
    print(pandas.read_sql(count, connection).shape)
""",
    "awswrangler": """
frame = awswrangler.athena.read_sql_query(
    STATEMENT,
    database="default",
    workgroup="opentrail",
    ctas_approach=False,
    s3_output="s3://results/a/",
)
print(frame.columns.tolist(), frame["name"].tolist(), frame.dtypes["eventtime"])
""",
}
COLUMNS = "['name', 'eventtime', 'readonly', 'errorcode']"
EXPECTED = {
    "cursor": f"{COLUMNS} ['Mary']",
    "parameters": "(1,)",
    "pandas": f"{COLUMNS} ['Mary'] datetime64",
    "sqlalchemy": "['event_history'] [('CreateUser',)]\n(1, 1)",
    "awswrangler": f"{COLUMNS} ['Mary'] datetime64",
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("athena"), *PACKAGES) / "python"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    data = tmp_path_factory.mktemp("server") / "data"
    with opentrail_server(data, command="sandbox") as started:
        started.boto("iam").create_user(UserName="Mary")
        started.boto("s3").create_bucket(Bucket="results")
        yield started


def run(server: Opentrail, python: Path, script: str, folder: Path) -> str:
    """Runs a script, and returns its output."""
    environment = clean_environment(
        **server.access(), AWS_ENDPOINT_URL_ATHENA=f"{server.url}/athena", PYTHONWARNINGS="ignore"
    )
    done = subprocess.run(
        [python, "-c", script],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("client", SCRIPTS)
def test_client_queries_event_history(
    server: Opentrail, python: Path, client: str, tmp_path: Path
) -> None:
    assert EXPECTED[client] in run(server, python, START + SCRIPTS[client], tmp_path)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_examples_of_the_page_run(
    server: Opentrail, python: Path, number: int, tmp_path: Path
) -> None:
    file = tmp_path / "events.parquet"
    server.opentrail("query", "--parquet", str(file), "SELECT * FROM event_history")
    script = BLOCKS[number].replace("127.0.0.1%3A4747", server.url.removeprefix("http://"))
    found = run(server, python, script, tmp_path)
    assert "CreateUser" in found or "eventversion" in found
