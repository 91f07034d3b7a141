"""SQL over event history with real clients, and across kills."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from opentrail.commands.client import find
from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET
from opentrail.lake.queries import MAX_ACTIVE
from tests.factories import ACCOUNT
from tests.live.processes import (
    Opentrail,
    eventually,
    moto_server,
    opentrail_server,
)
from tests.live.test_mcp import ask, connected

pytestmark = [pytest.mark.live, pytest.mark.slow]

_ENDLESS = (
    "SELECT count(*) FROM UNNEST(sequence(1, 9999)) a (x), UNNEST(sequence(1, 9999)) b (x),"
    " UNNEST(sequence(1, 9999)) c (x)"
)
_CREATED = (
    "SELECT element_at(requestParameters, 'userName') AS name FROM event_history"
    " WHERE eventName = 'CreateUser' ORDER BY name"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    data = tmp_path_factory.mktemp("sql") / "data"
    with opentrail_server(data, "--upstream", "http://127.0.0.1:9") as started:
        yield started


def create(server: Opentrail, name: str) -> None:
    """Records a call; its upstream cannot be reached."""
    with pytest.raises(ClientError):
        server.boto("iam").create_user(UserName=name)


def finished(cloudtrail: Any, statement: str) -> Any:
    """Runs a query and returns its results."""
    query_id = cloudtrail.start_query(QueryStatement=statement)["QueryId"]

    def results() -> Any:
        found = cloudtrail.get_query_results(QueryId=query_id)
        return found if found["QueryStatus"] not in ("QUEUED", "RUNNING") else None

    return eventually(results, "the query ends")


def test_clients_get_the_same_rows_right_after_a_call(server: Opentrail) -> None:
    create(server, "Mary")
    create(server, "Pete")
    names = ["Mary", "Pete"]
    # boto3, right after the answer to the last call
    cloudtrail = server.boto("cloudtrail")
    found = finished(cloudtrail, _CREATED)
    assert [row[0]["name"] for row in found["QueryResultRows"]] == names
    # aws-cli
    store = json.loads(server.aws("cloudtrail", "list-event-data-stores"))["EventDataStores"][0]
    listed = json.loads(
        server.aws("cloudtrail", "list-queries", "--event-data-store", store["EventDataStoreArn"])
    )
    assert listed["Queries"][0]["QueryStatus"] == "FINISHED"
    # the command
    done = server.opentrail("query", "--json", _CREATED)
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == names
    # HTTP
    console = find(Namespace(endpoint=None, data_dir=server.data_dir))
    page = console.ask("/api/v1/query", {}, {"statement": _CREATED})
    assert (page["status"], page["rows"]) == ("FINISHED", [[name] for name in names])

    # an agent
    async def as_agent() -> dict[str, Any]:
        async with connected(server.data_dir) as client:
            return await ask(client, "query", statement=_CREATED)

    assert "Mary" in json.dumps(asyncio.run(as_agent()))


def test_wrong_statements_are_refused_like_aws(server: Opentrail) -> None:
    with pytest.raises(ClientError) as error:
        server.boto("cloudtrail").start_query(QueryStatement="SELECT nosuch FROM event_history")
    assert error.value.response["Error"] == {
        "Code": "InvalidQueryStatementException",
        "Message": "line 1:8: Column 'nosuch' cannot be resolved",
    }


def test_cancelled_query_leaves_no_process(server: Opentrail) -> None:
    cloudtrail = server.boto("cloudtrail")
    query_id = cloudtrail.start_query(QueryStatement=_ENDLESS)["QueryId"]
    assert server.children(b"query_child")
    assert cloudtrail.cancel_query(QueryId=query_id)["QueryStatus"] == "CANCELLED"
    assert server.children(b"query_child") == []


def test_killed_server_leaves_failed_and_finished_queries(tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", "--upstream", "http://127.0.0.1:9") as server:
        create(server, "Mary")
        cloudtrail = server.boto("cloudtrail")
        found = finished(cloudtrail, _CREATED)
        assert len(found["QueryResultRows"]) == 1
        ended = cloudtrail.list_queries(EventDataStore="event_history")["Queries"][0]["QueryId"]
        running = cloudtrail.start_query(QueryStatement=_ENDLESS)["QueryId"]
        server.kill()
        server.start()
        cloudtrail = server.boto("cloudtrail")
        assert cloudtrail.describe_query(QueryId=running)["QueryStatus"] == "FAILED"
        again = cloudtrail.get_query_results(QueryId=ended)
        assert [row[0]["name"] for row in again["QueryResultRows"]] == ["Mary"]
        assert server.children(b"query_child") == []


def test_queries_that_wait_for_their_turn_end_with_the_server(tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", "--upstream", "http://127.0.0.1:9") as server:
        cloudtrail = server.boto("cloudtrail")
        for _ in range(MAX_ACTIVE):
            cloudtrail.start_query(QueryStatement=_ENDLESS)
        processes = server.children(b"query_child")
        assert len(processes) == MAX_ACTIVE
        server.kill()
        eventually(
            lambda: not any(map(alive, processes)),
            "all processes have ended",
        )


def alive(pid: int) -> bool:
    """Returns whether a process runs or is stopped, and is not only waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_killed_query_process_is_only_a_failed_query(server: Opentrail) -> None:
    import os
    import signal

    cloudtrail = server.boto("cloudtrail")
    query_id = cloudtrail.start_query(QueryStatement=_ENDLESS)["QueryId"]
    for process in server.children(b"query_child"):
        os.kill(process, signal.SIGKILL)

    def is_failed() -> bool:
        return bool(cloudtrail.describe_query(QueryId=query_id)["QueryStatus"] == "FAILED")

    eventually(is_failed, "the query has failed")
    create(server, "after")


def until(server: Opentrail, query_id: str, member: str, status: str) -> dict[str, Any]:
    """Returns the state of a query, once a member of it has a value."""
    cloudtrail = server.boto("cloudtrail")

    def state() -> dict[str, Any] | None:
        found: dict[str, Any] = cloudtrail.describe_query(QueryId=query_id)
        return found if found[member] == status else None

    found = eventually(state, f"{member} is {status}")
    assert found is not None
    return found


def test_results_in_s3_are_signed_even_after_a_kill(tmp_path: Path) -> None:
    with (
        moto_server() as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream) as server,
    ):
        s3 = server.boto("s3")
        s3.create_bucket(Bucket="results")
        server.boto("iam").create_user(UserName="Mary")
        given = {"QueryStatement": _CREATED, "DeliveryS3Uri": "s3://results/audit"}
        queries = []
        for _ in range(3):
            queries.append(server.boto("cloudtrail").start_query(**given)["QueryId"])
            until(server, queries[-1], "QueryStatus", "FINISHED")
            server.kill()
            server.start()
        for query_id in queries:
            state = until(server, query_id, "DeliveryStatus", "SUCCESS")
            assert state["DeliveryS3Uri"] == "s3://results/audit"
        s3, cloudtrail = server.boto("s3"), server.boto("cloudtrail")
        listed = s3.list_objects_v2(Bucket="results")["Contents"]
        signs = [each["Key"] for each in listed if each["Key"].endswith("/result_sign.json")]
        assert (len(listed), len(signs)) == (6, 3)
        keys = {
            key["Fingerprint"]: key["Value"]
            for key in cloudtrail.list_public_keys()["PublicKeyList"]
        }
        for sign in signs:
            verify_result(s3, sign, keys)


def verify_result(s3: Any, sign_key: str, keys: dict[str, bytes]) -> None:
    """Verifies a result with nothing but its files and the public keys."""
    folder = sign_key.removesuffix("result_sign.json")
    assert folder.startswith(f"audit/AWSLogs/{ACCOUNT}/CloudTrail-Lake/Query/")

    def content(name: str) -> bytes:
        return bytes(s3.get_object(Bucket="results", Key=folder + name)["Body"].read())

    sign = json.loads(content("result_sign.json"))
    hashes_text = " ".join(each["fileHashValue"] for each in sign["files"])
    for each in sign["files"]:
        assert hashlib.sha256(content(each["fileName"])).hexdigest() == each["fileHashValue"]
    public = serialization.load_der_public_key(keys[sign["publicKeyFingerprint"]])
    assert isinstance(public, rsa.RSAPublicKey)
    signature = bytes.fromhex(sign["hashSignature"])
    public.verify(signature, hashes_text.encode(), padding.PKCS1v15(), hashes.SHA256())
    assert gzip.decompress(content("result_1.csv.gz")) == b'"name"\n"Mary"\n'


def test_athena_client_queries_event_history(server: Opentrail) -> None:
    create(server, "Zoe")
    athena = boto3.client(
        "athena",
        region_name="us-east-1",
        endpoint_url=f"{server.url}/athena",
        aws_access_key_id=ADMIN_KEY_ID,
        aws_secret_access_key=ADMIN_SECRET,
    )
    statement = _CREATED.replace("ORDER BY", "AND eventjson LIKE '%Zoe%' ORDER BY")
    query_id = athena.start_query_execution(QueryString=statement)["QueryExecutionId"]

    def state() -> Any:
        found = athena.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]["Status"]
        return found["State"] if found["State"] not in ("QUEUED", "RUNNING") else None

    assert eventually(state, "the query ends") == "SUCCEEDED"
    rows = athena.get_query_results(QueryExecutionId=query_id)["ResultSet"]["Rows"]
    assert [row["Data"][0]["VarCharValue"] for row in rows] == ["name", "Zoe"]
    # Calls at other paths are for the upstream, which cannot be reached.
    with pytest.raises(ClientError) as error:
        server.boto("athena").list_work_groups()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 502
    names = {(each["eventSource"], each["eventName"]) for each in server.records("")}
    for name in ("StartQueryExecution", "GetQueryResults", "ListWorkGroups"):
        assert ("athena.amazonaws.com", name) in names
