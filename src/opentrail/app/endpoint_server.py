"""The AWS endpoint of one process: its address, TLS, upstreams, and the recorder behind it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from opentrail.access.keys import KnownKey, KnownKeys
from opentrail.adapters.certificates import names_in_certificate
from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.data_directory.system import SystemClock, raise_descriptor_limit
from opentrail.adapters.data_directory.unrecorded_counts import GapFile, LeftOutCounts
from opentrail.app.upstreams import UpstreamKinds, emulator_of
from opentrail.capture.proxy import ClientConnection, Endpoint, Upstream, Upstreams
from opentrail.capture.proxy.bodies import StoredBody
from opentrail.capture.proxy.connections import Acceptor, Handshake
from opentrail.capture.proxy.endpoint import AnswerApiCall
from opentrail.capture.proxy.gate import Gate
from opentrail.capture.proxy.refusals import server_context
from opentrail.capture.record.assemble import Assembler
from opentrail.capture.record.choice import Choice
from opentrail.capture.record.client_address import Networks, VpcEndpoint, network
from opentrail.capture.record.recorder import Recorder
from opentrail.core import faults
from opentrail.core.errors import UsageError
from opentrail.core.event import Record
from opentrail.core.selectors.selection import Selection
from opentrail.identity.known_identities import (
    CatchUp,
    KnownIdentities,
    Newcomers,
    directory_identities,
)
from opentrail.ports.clock import Clock
from opentrail.ports.journal import JournalWriter
from opentrail.ports.metrics import Metrics, Sample
from opentrail.settings import Address, Settings
from opentrail.wire.resign import UpstreamCredentials
from opentrail.wire.routing import Router
from opentrail.wire.service_models import ServiceCatalog

#: Descriptors reserved for the journal, files of bodies and other processes.
_OTHER_DESCRIPTORS = 256
_MIN_CONNECTIONS = 16
_MIN_CONSOLE_CONNECTIONS = 8
_MAX_CONSOLE_CONNECTIONS = 512
#: Seconds for running calls to finish; SIGTERM to exit takes at most 10 s (guarantee D18).
FINISH_SECONDS = 7.0
#: Seconds after which the counts of a past hour are closed.
_HOUR_CHECK_SECONDS = 1.0
_LOOPBACK = ("127.0.0.0/8", "::1")

log = logging.getLogger(__name__)


class EndpointServer:
    """Records and forwards the calls on connections of this process."""

    def __init__(
        self,
        settings: Settings,
        journal: JournalWriter,
        identities: KnownIdentities,
        answer_api_call: AnswerApiCall,
        metrics: Metrics,
        catalog: ServiceCatalog,
        catch_up: CatchUp | None = None,
    ) -> None:
        clock = SystemClock()
        networks = networks_of(settings)
        self._settings = settings
        self._identities = identities
        self._keys = KnownKeys()
        data = DataDirectory(settings.data_dir)
        self._gap_file = GapFile(data.lost)
        self._recorder = Recorder(
            journal,
            Assembler(identities.resolve, networks, lambda: identities.known_account),
            identities.learn,
            clock,
            metrics,
            settings.on_record_failure == "refuse",
            self._gap_file.keep,
        )
        self._counts = LeftOutCounts(data.left_out, time.time)
        selection = settings.record if isinstance(settings.record, Selection) else None
        router = Router(catalog, *names_of(settings))
        self._endpoint = Endpoint(
            recorder=self._recorder,
            router=router,
            upstreams=upstreams_of(settings),
            answer_api_call=answer_api_call,
            clock=clock,
            metrics=metrics,
            tls=_tls_to_upstreams(settings),
            gate=self._gate(settings, clock, router),
            meet=Newcomers(identities, catch_up).meet if catch_up else None,
            networks=networks,
            takes_for_s3=(
                UpstreamKinds(settings.upstream_ca).takes_for_s3
                if settings.upstream_check == "on"
                else None
            ),
            choice=Choice(selection, self._counts.count) if selection else None,
            answer_seconds=settings.upstream_timeout,
            max_connections=connection_limit(raise_descriptor_limit()),
        )
        metrics.connection_limit.set(self._endpoint.max_connections)
        metrics.spilled_bytes.set_function(lambda: StoredBody.spilled_bytes)
        self._tls = tls_of_endpoint(settings)
        self._ended = asyncio.Event()
        self._gaps = asyncio.ensure_future(self._recorder.close_gaps(self._ended))
        self._hours = asyncio.ensure_future(self._close_past_hours())
        self._admits = admitted_peers(settings, metrics)
        self._acceptor: Acceptor | None = None

    def _gate(self, settings: Settings, clock: Clock, router: Router) -> Gate | None:
        if not settings.verifies:
            return None
        unknown, unsigned = settings.of_unknown_keys, settings.of_unsigned
        return Gate(self._keys.find, clock.now, unknown, unsigned, router.identify)

    async def _close_past_hours(self) -> None:
        while True:
            await asyncio.sleep(_HOUR_CHECK_SECONDS)
            self._counts.close_if_over()

    async def know_keys(self, keys: Sequence[KnownKey], forgotten: Sequence[str] = ()) -> None:
        """Adds and removes keys of the key directory."""
        self._identities.add_directory(self._keys.update(keys, forgotten))

    async def name_key(self, access_key_id: str, entry: Mapping[str, Any] | None) -> None:
        """Sets or removes the identity behind a key."""
        identities = directory_identities({access_key_id: entry}) if entry else []
        self._identities.add_directory(identities, [access_key_id])

    async def start(self, listening: socket.socket) -> None:
        """Accepts connections."""
        self._acceptor = Acceptor(listening, self._take, self._admits)
        self._acceptor.accept()

    def _take(self, client: socket.socket) -> None:
        self._endpoint.take(client, self._tls, self._connection)

    async def serve(self, client: socket.socket) -> None:
        """Serves an accepted connection; returns once its TLS handshake has ended."""
        await self._endpoint.serve(client, self._tls, self._connection)

    def _connection(self, handshake: Handshake | None) -> ClientConnection:
        return ClientConnection(self._endpoint, handshake)

    def reload_certificate(self) -> None:
        """Reloads certificate and key; existing connections keep the previous ones.

        Raises:
            UsageError: they are not valid or do not match; the previous ones remain.
        """
        if self._tls is not None:
            load_certificate(self._tls, self._settings)

    def learn(self, record: Record) -> None:
        """Learns the identities in another process's record."""
        self._identities.learn(record)

    async def collect_samples(self) -> list[list[Sample]]:
        """Returns the metrics of other processes: an empty list."""
        return []

    async def stop(self) -> None:
        """Finishes running calls and writes their records (guarantee D18)."""
        if self._acceptor is not None:
            self._acceptor.close()
        await self._endpoint.stop(FINISH_SECONDS)
        await self._recorder.drain()
        self._ended.set()
        await asyncio.gather(self._gaps, return_exceptions=True)
        await self._recorder.close_gap()
        self._gap_file.close()
        self._hours.cancel()
        self._counts.close()


def connection_limit(descriptors: int) -> int:
    """Returns the maximum number of connections; each may need another to its upstream."""
    free = descriptors - _OTHER_DESCRIPTORS - console_connection_limit(descriptors)
    return max(_MIN_CONNECTIONS, free // 2)


def console_connection_limit(descriptors: int) -> int:
    """Returns the maximum number of connections of the console: a share of the descriptors."""
    share = (descriptors - _OTHER_DESCRIPTORS) // 8
    return min(max(_MIN_CONSOLE_CONNECTIONS, share), _MAX_CONSOLE_CONNECTIONS)


def bind(address: Address, name: str) -> socket.socket:
    """Returns a socket bound to the address.

    Raises:
        UsageError: the address is in use or not one of this machine.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address.host, address.port))
    except OSError as error:
        listening.close()
        raise UsageError(
            f"cannot listen on {address.host}:{address.port}: {error.strerror}; "
            f"choose another address with {name} HOST:PORT"
        ) from error
    listening.setblocking(False)
    return listening


def tls_of_endpoint(settings: Settings) -> ssl.SSLContext | None:
    """Returns the endpoint's TLS context; None without TLS.

    Raises:
        UsageError: certificate and key are invalid or do not match.
    """
    if settings.tls_certificate is None:
        return None
    context = server_context()
    load_certificate(context, settings)
    return context


def load_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    """Loads certificate and key into a context, for new connections.

    Raises:
        UsageError: they are not valid or do not match; the context is unchanged.
    """
    if settings.tls_certificate is None or settings.tls_key is None:
        return
    try:
        for target in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), context):
            target.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (ssl.SSLError, OSError) as error:
        raise UsageError(
            f"--tls-certificate and --tls-key must be PEM files of a pair: {error}"
        ) from error


def _tls_to_upstreams(settings: Settings) -> ssl.SSLContext | None:
    """Returns the TLS context for https upstreams; None without one: loading it takes 50 ms."""
    if not any(url.lower().startswith("https:") for url in settings.upstream.values()):
        return None
    return ssl.create_default_context(cafile=settings.upstream_ca)


def upstreams_of(settings: Settings) -> Upstreams:
    """Returns the upstreams by service.

    Raises:
        UsageError: an upstream's URL or service is invalid.
    """
    upstreams = {}
    _require_known_services([name for name in settings.upstream if name])
    for name, url in settings.upstream.items():
        access = settings.access.get(name)
        key = None
        if access is not None and access.resign:
            key = UpstreamCredentials(
                access.access_key_id, access.secret_access_key, access.session_token, access.region
            )
        upstreams[name] = Upstream.parse(url, key, emulator_of(settings, name))
    return Upstreams(upstreams.pop("", None), upstreams)


def _require_known_services(names: Sequence[str]) -> None:
    """Checks that every service in the settings exists.

    Raises:
        UsageError: a service is unknown.
    """
    services = ServiceCatalog().names if names else frozenset[str]()
    for name in names:
        if name not in services:
            close = get_close_matches(name, services, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(f"--upstream: there is no service {name!r}{hint}")


def networks_of(settings: Settings) -> Networks | None:
    """Returns trusted proxies and VPC endpoints; None if there are none."""
    if not settings.trusted_proxies and not settings.vpc_endpoints:
        return None
    endpoints = [
        VpcEndpoint(
            name, tuple(network(text) for text in endpoint["networks"]), endpoint.get("account")
        )
        for name, endpoint in settings.vpc_endpoints.items()
    ]
    return Networks([network(text) for text in settings.trusted_proxies], endpoints)


def admitted_peers(settings: Settings, metrics: Metrics) -> Callable[[str], bool] | None:
    """Returns the check, by address, of whether a host may connect; None: any host may.

    With `--insecure-trusted-networks`, only hosts there and this machine may.
    """
    if not settings.insecure_trusted_networks:
        return None
    trusted = [network(text) for text in (*settings.insecure_trusted_networks, *_LOOPBACK)]
    trusts = Networks(trusted).trusts

    def admits(address: str) -> bool:
        is_admitted = trusts(address)
        if not is_admitted:
            metrics.refused.labels("network").inc()
            log.warning("disconnected a host outside the trusted networks", extra={"host": address})
        return is_admitted

    return admits


def names_of(settings: Settings) -> tuple[set[str], set[str]]:
    """Returns the endpoint's names for clients, and the domains of its virtual hosts."""
    names = {"localhost", "localhost.localstack.cloud", socket.gethostname()}
    domains = set(settings.domain)
    listen = settings.listen.host
    if not listen[:1].isdigit() and ":" not in listen:
        names.add(listen)
    if settings.tls_certificate is not None:
        for name in names_in_certificate(settings.tls_certificate):
            (domains if name.startswith("*.") else names).add(name.removeprefix("*."))
    return names, domains


def arm_faults() -> None:
    """Arms a crash point for tests: `OPENTRAIL_CRASH_AT=NAME:COUNT`.

    Raises:
        UsageError: the point is unknown.
    """
    text = os.environ.get("OPENTRAIL_CRASH_AT")
    if not text:
        return
    name, _, count = text.partition(":")
    if name not in faults.POINTS or not (count or "1").isdigit():
        raise UsageError(f"OPENTRAIL_CRASH_AT must be NAME:COUNT with one of {list(faults.POINTS)}")
    faults.arm(name, int(count or "1"), lambda: os.kill(os.getpid(), signal.SIGKILL))
