"""The upstream's organization: its changes, and its last state during a failure."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from opentrail.adapters.aws.object_store import S3Access
from opentrail.adapters.aws.services import ServiceClients, UpstreamOrganizations
from opentrail.core.errors import ServiceError
from tests.capture.proxy.wires import Wire, ok, scripted
from tests.fakes import asynchronous
from tests.live.processes import moto_server

pytestmark = pytest.mark.live


def organizations_of(url: str) -> UpstreamOrganizations:
    return UpstreamOrganizations(
        ServiceClients(lambda _service, region: S3Access(url, "x", "x", region))
    )


def client_of(url: str) -> Any:
    return boto3.client(
        "organizations",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )


@asynchronous
async def test_the_last_answer_holds_while_the_upstream_fails() -> None:
    with moto_server(ends=True) as url:
        client = client_of(url)
        client.create_organization(FeatureSet="ALL")
        organizations = organizations_of(url)
        before = await organizations.current()
        assert before is not None
        made = client.create_account(Email="a@example.com", AccountName="a")
        member = made["CreateAccountStatus"]["AccountId"]
        after = await organizations.current()
        assert after is not None
        assert after.accounts == before.accounts | {member}
    assert await organizations.current() == after


@asynchronous
async def test_a_silent_upstream_is_an_error() -> None:
    with moto_server(ends=True) as url:
        organizations = organizations_of(url)
    with pytest.raises(ServiceError, match="the organization"):
        await organizations.current()


@asynchronous
async def test_a_missing_organization_is_also_an_answer() -> None:
    with moto_server(ends=True) as url:
        organizations = organizations_of(url)
        assert await organizations.current() is None
    assert await organizations.current() is None


@asynchronous
async def test_consolidated_billing_is_not_all_features() -> None:
    with moto_server() as url:
        client_of(url).create_organization(FeatureSet="CONSOLIDATED_BILLING")
        found = await organizations_of(url).current()
    assert found is not None
    assert not found.has_all_features


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"Id": "o-a1b2c3d4e5/../x"}, "id must be"),
        ({"MasterAccountId": "root"}, "management_account must be"),
        ({"MasterAccountId": None}, "MasterAccountId"),
    ],
)
@asynchronous
async def test_invalid_organizations_are_ignored(changed: dict[str, Any], named: str) -> None:
    """Ids become a part of file names."""
    right = {"Id": "o-a1b2c3d4e5", "MasterAccountId": "111111111111", "FeatureSet": "ALL"}
    organization = {name: value for name, value in {**right, **changed}.items() if value}
    described = json.dumps({"Organization": organization}).encode()
    accounts = json.dumps({"Accounts": [{"Id": "222222222222"}]}).encode()

    def upstream(wire: Wire) -> None:
        head = wire.request()[0]
        wire.send(ok(described if b"DescribeOrganization" in head else accounts))

    with scripted(upstream, upstream, upstream) as stub:
        with pytest.raises(ServiceError, match=named) as caught:
            await organizations_of(stub.url).current()
        assert caught.value.code == "UnexpectedAnswer"
