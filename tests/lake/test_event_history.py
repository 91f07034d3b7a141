"""The columns of `event_history` have the values of the record."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from opentrail.lake.dialect.statements import translate
from opentrail.lake.event_history import NAME, TABLE, VIEW, store_id
from opentrail.lake.samples import SAMPLES
from tests.factories import ACCOUNT, real_records
from tests.lake.oracle import Engine, Tables, engine


def load(made: Engine, records: list[dict[str, Any]]) -> None:
    made.connection.execute(
        f"CREATE OR REPLACE TABLE {VIEW} AS SELECT record,"
        " CAST(epoch(CAST(record ->> '/eventTime' AS TIMESTAMP)) AS BIGINT) AS event_time,"
        " record ->> '/eventName' AS event_name, record ->> '/eventSource' AS event_source,"
        " record ->> '/errorCode' AS error_code, record ->> '/awsRegion' AS region,"
        " record ->> '/sourceIPAddress' AS source_ip, record ->> '/eventCategory' AS category"
        " FROM (SELECT unnest(?::VARCHAR[]) AS record)",
        [[json.dumps(each) for each in records]],
    )


@pytest.fixture(scope="module")
def history() -> Iterator[Engine]:
    with engine() as made:
        load(made, list(real_records()))
        made.tables = Tables({NAME: TABLE, store_id(ACCOUNT): TABLE})
        yield made


_PLAIN = [
    "eventVersion",
    "eventSource",
    "eventName",
    "awsRegion",
    "sourceIPAddress",
    "userAgent",
    "errorCode",
    "errorMessage",
    "requestID",
    "eventID",
    "eventType",
    "recipientAccountId",
    "eventCategory",
]


@pytest.mark.parametrize("name", _PLAIN)
def test_text_columns_have_the_members_of_the_record(history: Engine, name: str) -> None:
    _, rows = history.run(f"SELECT eventJson, {name} FROM event_history")
    assert len(rows) == len(real_records()) > 10
    for record, value in rows:
        wanted = json.loads(record).get(name)
        assert value == wanted or (value, wanted) == (str(wanted), wanted)


@pytest.mark.parametrize("name", ["requestParameters", "responseElements", "additionalEventData"])
def test_maps_have_strings_or_json(history: Engine, name: str) -> None:
    _, rows = history.run(f"SELECT eventJson, {name}, cardinality({name}) FROM event_history")
    for record, value, size in rows:
        wanted = json.loads(record).get(name)
        if not isinstance(wanted, dict):
            assert value is None
            continue
        assert size == len(wanted)
        for key, each in wanted.items():
            if isinstance(each, str) or each is None:
                assert value[key] == each
            else:
                assert json.loads(value[key]) == each


def test_members_of_a_map_are_read_by_any_name(history: Engine) -> None:
    with engine() as made:
        keys = ["plain", "a/b", "a~b", "it's", 'q"x', "é", "0", "a.b", ""]
        load(
            made,
            [{"eventTime": "2024-01-02T03:04:05Z", "requestParameters": dict.fromkeys(keys, "v")}],
        )
        made.tables = history.tables
        for key in keys:
            quoted = key.replace("'", "''")
            column = f"element_at(requestParameters, '{quoted}')"
            _, rows = made.run(f"SELECT {column}, requestParameters['{quoted}'] FROM event_history")
            assert rows == [["v", "v"]], key
        assert made.run("SELECT element_at(requestParameters, 'x') FROM event_history")[1] == [
            [None]
        ]


def test_rows_and_their_members_agree(history: Engine) -> None:
    _, rows = history.run(
        "SELECT userIdentity, userIdentity.type,"
        " userIdentity.sessionContext.sessionIssuer.userName, eventJson FROM event_history"
    )
    for identity, kind, issuer, record in rows:
        wanted = json.loads(record)["userIdentity"]
        assert (identity[0] if identity else None) == kind == wanted.get("type")
        context = wanted.get("sessionContext") or {}
        assert issuer == (context.get("sessionIssuer") or {}).get("userName")


def test_grouping_by_members_of_the_record(history: Engine) -> None:
    _, rows = history.run(
        "SELECT userIdentity.type, element_at(requestParameters, 'userName'), count(*)"
        f" FROM {store_id(ACCOUNT)}"
        " GROUP BY userIdentity.type, element_at(requestParameters, 'userName')"
    )
    assert sum(count for _, _, count in rows) == len(real_records())


def test_two_references_do_not_mix(history: Engine) -> None:
    _, rows = history.run(
        "SELECT count(*) FROM event_history a JOIN event_history b ON a.eventID = b.eventID"
        " AND a.eventJson = b.eventJson WHERE a.eventName <> b.eventName"
    )
    assert rows == [[0]]


def test_invalid_json_for_duckdb_is_null(history: Engine) -> None:
    with engine() as made:
        load(made, [{"eventTime": "2024-01-02T03:04:05Z", "userAgent": "ok"}])
        made.connection.execute(f"""UPDATE {VIEW} SET record = '{{"userAgent": "\\ud800"}}'""")
        made.tables = history.tables
        assert made.run("SELECT userAgent FROM event_history")[1] == [[None]]


@pytest.mark.parametrize(
    ("condition", "stored"),
    [
        ("eventTime > '2020-01-01'", r"c\d+ >= epoch_us"),
        ("eventTime < now() - interval '1' day", r"c\d+ <= epoch_us"),
        ("DATE '2019-06-01' > eventTime AND userAgent IS NOT NULL", r"c\d+ <= epoch_us"),
        ("eventTime BETWEEN '2015-01-01' AND date_add('day', -1, now())", r">= .* AND .* <= "),
        ("eventCategory = 'Data'", r"c\d+ IN \('Data'\)"),
        ("(('Management' = eventCategory))", r"c\d+ IN \('Management'\)"),
        ("awsRegion IN ('us-east-1', 'eu-west-1')", r"c\d+ IN \('us-east-1', 'eu-west-1'\)"),
        ("NOT eventCategory = 'Data'", ""),
        ("eventCategory = '' OR eventCategory = 'Data'", ""),
        ("eventTime <> '2020-01-01'", ""),
        ("eventCategory = coalesce(eventCategory, 'Data')", ""),
    ],
)
def test_conditions_read_stored_columns_first(history: Engine, condition: str, stored: str) -> None:
    statement = f"SELECT eventJson FROM event_history WHERE {condition}"
    clauses = translate(statement, history.tables).sql.split(" WHERE ")[1:]
    (first,) = [clause.removeprefix("((").split(" AND (")[0] for clause in clauses]
    assert re.search(stored or r"^(?!c\d+ (IN|[<>]=))", first)
    _, rows = history.run(statement)
    alone = f"SELECT eventJson FROM event_history WHERE coalesce({condition}, false)"
    assert rows == history.run(alone)[1]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_samples_run(history: Engine, sample: Any) -> None:
    columns, rows = history.run(sample.statement)
    assert sample.description
    assert all(len(row) == len(columns) for row in rows)
    assert not any(column.name.startswith("_col") for column in columns)
