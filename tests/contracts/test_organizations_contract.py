"""The guarantees of an organization's source, in the settings and on moto."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from opentrail.adapters.aws.object_store import S3Access
from opentrail.adapters.aws.services import (
    ConfiguredOrganizations,
    ServiceClients,
    UpstreamOrganizations,
)
from opentrail.core.organization import Organization, read_organization
from opentrail.ports.services import Organizations
from tests.factories import ACCOUNT, REGION
from tests.fakes import asynchronous


@dataclass
class Kit:
    """The source of an organization, and a way to make one with members."""

    source: Callable[[], Organizations]
    make: Callable[[int], tuple[str, set[str]]]


@pytest.fixture(params=["configured", pytest.param("upstream", marks=pytest.mark.live)])
def kit(request: pytest.FixtureRequest) -> Kit:
    made: OnMoto | Configured = Configured()
    if request.param == "upstream":
        made = OnMoto(request.getfixturevalue("moto_url"))
    return Kit(made.source, made.make)


@dataclass
class Configured:
    """Settings of a server."""

    described: list[Organization] = field(default_factory=list)

    def source(self) -> Organizations:
        return ConfiguredOrganizations(*self.described)

    def make(self, members: int) -> tuple[str, set[str]]:
        accounts = {str(200_000_000_000 + number) for number in range(members)}
        table = {
            "id": "o-a1b2c3d4e5",
            "management_account": ACCOUNT,
            "accounts": sorted(accounts),
        }
        self.described.append(read_organization(table, "organization"))
        return "o-a1b2c3d4e5", accounts


class OnMoto:
    """A moto without organizations; unknown keys belong to its default account."""

    def __init__(self, url: str) -> None:
        moto = HTTPConnection(urlsplit(url).netloc)
        moto.request("POST", "/moto-api/reset")
        assert moto.getresponse().status == 200
        moto.close()
        self._url = url
        self.client: Any = boto3.client(
            "organizations",
            region_name=REGION,
            endpoint_url=url,
            aws_access_key_id="opentrail",
            aws_secret_access_key="opentrail",
        )

    def source(self) -> Organizations:
        def access(_service: str, region: str) -> S3Access:
            return S3Access(self._url, "opentrail", "opentrail", region)

        return UpstreamOrganizations(ServiceClients(access))

    def make(self, members: int) -> tuple[str, set[str]]:
        made = self.client.create_organization(FeatureSet="ALL")["Organization"]
        accounts = set()
        for number in range(members):
            status = self.client.create_account(
                Email=f"{number}@example.com", AccountName=f"account {number}"
            )["CreateAccountStatus"]
            accounts.add(str(status["AccountId"]))
        return str(made["Id"]), accounts


@asynchronous
async def test_an_organization_may_be_missing(kit: Kit) -> None:
    assert await kit.source().current() is None


@pytest.mark.parametrize("members", [0, 1, 130])
@asynchronous
async def test_an_organization_has_all_its_accounts(kit: Kit, members: int) -> None:
    organization_id, accounts = kit.make(members)
    assert len(accounts) == members
    expected = Organization(organization_id, ACCOUNT, frozenset({ACCOUNT, *accounts}))
    assert await kit.source().current() == expected
