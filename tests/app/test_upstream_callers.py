"""Callers and the account, as named by the upstream."""

from __future__ import annotations

import asyncio
import dataclasses

import boto3
import pytest

from opentrail.app import upstreams
from opentrail.app.upstreams import UpstreamCallers
from opentrail.core.identity import key_for_account
from opentrail.identity.known_identities import Identities
from opentrail.settings import Settings
from tests.fakes import MemoryControl, asynchronous
from tests.live.processes import free_port, moto_server
from tests.stub_upstream import RawRequest, StubUpstream


def callers_of(url: str, **changes: object) -> tuple[UpstreamCallers, Identities, MemoryControl]:
    control = MemoryControl()
    identities = Identities(control)
    settings = dataclasses.replace(Settings(upstream={"": url}), **changes)  # type: ignore[arg-type]
    return UpstreamCallers(settings, identities), identities, control


@pytest.mark.slow
@asynchronous
async def test_the_upstream_names_the_caller_of_a_key() -> None:
    with moto_server() as url:
        callers, identities, control = callers_of(url)
        await callers.learn_account()
        assert callers.default is not None
        assert identities.known_account == "123456789012"
        assert await callers.name("test") is True
        assert identities.resolve("test").user_identity["arn"] == (
            "arn:aws:iam::123456789012:user/moto"
        )
        again = Identities(control)
        await again.load()
        assert again.known_account == "123456789012"
        assert again.is_stranger("test")


@asynchronous
async def test_an_unknown_upstream_is_not_asked_about_keys() -> None:
    with StubUpstream(keep=True) as stub:
        callers, identities, _ = callers_of(stub.url)
        await callers.learn_account()
        assert await callers.name("AKIAIOSFODNN7EXAMPLE") is True
        assert identities.is_stranger("AKIAIOSFODNN7EXAMPLE")
        assert identities.known_account is None
        assert {request.method for request in stub.requests} == {"GET"}


@pytest.mark.parametrize("changes", [{"upstream_check": "off"}, {"auth": "enforced"}])
@asynchronous
async def test_key_lookup_can_be_turned_off(changes: dict[str, str]) -> None:
    with StubUpstream(keep=True) as stub:
        callers, _, _ = callers_of(stub.url, **changes)
        assert not callers.asks
        await callers.learn_account()
        assert await callers.name("test") is True
        assert stub.requests == []


@asynchronous
async def test_keys_of_own_calls_are_not_requested() -> None:
    callers, _, _ = callers_of(f"http://127.0.0.1:{free_port()}")
    assert await callers.name(key_for_account("000000000000")) is True


@pytest.mark.slow
@asynchronous
async def test_an_upstream_that_starts_later_names_its_callers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upstreams, "_ACCOUNT_RETRY_SECONDS", 0.01)
    down = f"http://127.0.0.1:{free_port()}"
    callers, identities, _ = callers_of(down)
    assert await callers.name("test") is False
    learning = asyncio.ensure_future(callers.learn_account())
    await asyncio.sleep(0)
    assert identities.known_account is None
    with moto_server() as url:
        assert callers._probe is not None
        callers._probe.url = url  # it starts
        await learning
        assert identities.known_account == "123456789012"
        assert await callers.name("test") is True


@pytest.mark.slow
@asynchronous
async def test_moto_is_recognized_whatever_it_holds() -> None:
    with moto_server() as url:
        rds = boto3.client(
            "rds",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        rds.create_db_instance(DBInstanceIdentifier="a", DBInstanceClass="b", Engine="postgres")
        callers, identities, _ = callers_of(url)
        await callers.learn_account()
        assert identities.known_account == "123456789012"


@asynchronous
async def test_kind_is_kept_while_its_mark_fails() -> None:
    is_broken = False

    def answer(request: RawRequest) -> bytes:
        body = b"" if is_broken else b'{"batch": {}}'
        status = b"500 Error" if is_broken or request.target != "/moto-api/config" else b"201 OK"
        return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)

    with StubUpstream(keep=True, answer=answer) as stub:
        callers, _, control = callers_of(stub.url)
        await callers.learn_account()
        is_broken = True
        stub.requests.clear()
        again = UpstreamCallers(Settings(upstream={"": stub.url}), Identities(control))
        await again.learn_account()
        assert "POST" in {request.method for request in stub.requests}  # asks as it asks moto
