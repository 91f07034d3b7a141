"""Event data stores with real clients, across kills."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.live.processes import Opentrail, opentrail_server
from tests.live.test_sql import finished

pytestmark = [pytest.mark.live, pytest.mark.slow]

S3 = [
    {
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
        ]
    }
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    data = tmp_path_factory.mktemp("stores") / "data"
    with opentrail_server(data, "--upstream", "http://127.0.0.1:9") as started:
        yield started


def put(server: Opentrail, *keys: str) -> None:
    """Records calls; their upstream cannot be reached."""
    for key in keys:
        with pytest.raises(ClientError):
            server.boto("s3").put_object(Bucket="bucket", Key=key, Body=b"x")


def keys_in(cloudtrail: Any, store: str) -> list[str]:
    column = "element_at(requestParameters, 'key')"
    found = finished(cloudtrail, f"SELECT {column} AS key FROM {store} ORDER BY eventTime, key")  # noqa: S608
    assert found["QueryStatus"] == "FINISHED", found
    return [row[0]["key"] for row in found["QueryResultRows"]]


def create(cloudtrail: Any, name: str, **settings: Any) -> str:
    created = cloudtrail.create_event_data_store(
        Name=name, TerminationProtectionEnabled=False, **settings
    )
    return str(created["EventDataStoreArn"])


def test_store_has_exactly_the_selected_events(server: Opentrail) -> None:
    cloudtrail = server.boto("cloudtrail")
    put(server, "before")
    arn = create(cloudtrail, "objects", AdvancedEventSelectors=S3)
    store = arn.rpartition("/")[2]
    assert keys_in(cloudtrail, store) == []
    put(server, "a", "b")
    with pytest.raises(ClientError):
        server.boto("iam").create_user(UserName="Mary")
    assert keys_in(cloudtrail, store) == ["a", "b"]
    cloudtrail.stop_event_data_store_ingestion(EventDataStore=arn)
    put(server, "stopped")
    cloudtrail.start_event_data_store_ingestion(EventDataStore=arn)
    put(server, "c")
    assert keys_in(cloudtrail, "objects") == ["a", "b", "c"]
