"""One server: its listeners, and the order of start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from opentrail.access.administration import (
    NAMED_KEY_KIND,
    DirectoryAdministration,
    KeyAdministration,
    PolicyAdministration,
)
from opentrail.access.keys import KEY_KIND, KeyDirectory
from opentrail.access.policies import POLICIES_KIND, PolicyDirectory
from opentrail.access.resource_policies import RESOURCE_POLICY_KIND, ResourcePolicies
from opentrail.adapters.aws.object_store import S3Access
from opentrail.adapters.aws.own_endpoint import BotocoreEndpoint
from opentrail.adapters.data_directory.files import DataDirectory, write_durably
from opentrail.adapters.data_directory.system import (
    raise_descriptor_limit,
    restore_garbage_collection,
    tune_garbage_collection,
)
from opentrail.adapters.keys.rsa import SHARED_KINDS
from opentrail.api.cloudtrail.authorizer import Authorizer
from opentrail.api.cloudtrail.server import CloudTrailApi
from opentrail.api.pages import PublicState, port_app
from opentrail.api.services import Services
from opentrail.api.v1.administration import AccessAdministration, ReceivedRecords
from opentrail.api.v1.counts import EventCounts
from opentrail.api.v1.events import EventExport, Events
from opentrail.api.v1.proofs import Proofs, Verifications
from opentrail.api.v1.server import JsonApi, QuestionRoutes
from opentrail.api.v1.state import State
from opentrail.api.v1.stores import EventDataStores
from opentrail.api.v1.stories import Stories
from opentrail.api.v1.streams import Streams
from opentrail.api.v1.tail import Marks, Tail
from opentrail.api.v1.trail_administration import TrailAdministration
from opentrail.api.v1.trails import Trails, trail_problems
from opentrail.app.access_keys import control_place, open_keys
from opentrail.app.api_proxy import ProxiedCalls
from opentrail.app.background import run_beside
from opentrail.app.console_server import (
    EventProvers,
    TrailVerifiers,
    serve_console,
)
from opentrail.app.core import core_of, start_core, start_history
from opentrail.app.endpoint_server import (
    EndpointServer,
    admitted_peers,
    arm_faults,
    bind,
    console_connection_limit,
    load_certificate,
    tls_of_endpoint,
    upstreams_of,
)
from opentrail.app.engines import Engines, open_engines
from opentrail.app.health import Health, ServerStatus
from opentrail.app.http_server import ConsoleConnections
from opentrail.app.known_positions import kept_events
from opentrail.app.recorders import Recorders
from opentrail.app.upstreams import (
    ServerKeys,
    UpstreamCallers,
    own_access,
    own_api_access,
    own_region,
    server_keys,
)
from opentrail.app.wing import Core, StartWing, Wing
from opentrail.capture.proxy.endpoint import SCOPE_KEY, ask
from opentrail.capture.record.ingest import Ingest
from opentrail.core.errors import StorageFailed, UsageError
from opentrail.core.logs import LastProblem, set_up_logging
from opentrail.core.version import __version__
from opentrail.identity.known_identities import CatchUp, Identities, know_all
from opentrail.ports.metrics import total
from opentrail.settings import Settings

log = logging.getLogger(__name__)

#: Maximum seconds that a thread runs before Python switches to another one.
_SWITCH_SECONDS = 0.0005
#: Maximum seconds that a key's first call waits for other servers' records.
_OTHERS_SECONDS = 1.0
#: Maximum seconds that the first start waits for the upstream's account.
_ACCOUNT_SECONDS = 10.0
#: Threads for blocking work: disk and network.
_THREADS = 16


@dataclass(frozen=True, slots=True)
class _Access:
    """The keys whose signatures are checked, and their owners' permissions."""

    keys: KeyDirectory
    own_keys: ServerKeys
    policies: PolicyDirectory
    resource_policies: ResourcePolicies


class Server:
    """One opentrail server."""

    def __init__(
        self,
        settings: Settings,
        wings: Sequence[StartWing],
        remake_buckets: bool = False,
        admin: tuple[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self._start_wings = wings
        self._admin = admin
        self._remake_buckets = remake_buckets
        self._data = DataDirectory(settings.data_dir)
        self._stop = asyncio.Event()
        self._is_on_terminal = os.isatty(0)
        self._broken: str | None = None
        self.endpoint_url = self.console_url = ""
        self._wings: list[Wing] = []
        #: The caller as the upstream sees it; None before the start.
        self.callers: UpstreamCallers | None = None

    def console_link(self) -> str | None:
        """Returns a single-use link to the web console, if the server has one."""
        link = next((wing.console_link for wing in self._wings if wing.console_link), None)
        return link() if link else None

    async def run(self, when_ready: Callable[[Server], None]) -> None:
        """Serves until it is stopped.

        Raises:
            OpentrailError: it cannot start, or storage failed.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        arm_faults()
        loop.set_default_executor(ThreadPoolExecutor(_THREADS, "background"))
        async with contextlib.AsyncExitStack() as stack:
            self._data.open()
            stack.callback(self._data.close)
            listening = bind(self.settings.listen, "--listen")
            stack.callback(listening.close)
            console = bind(self.settings.console_listen, "--console-listen")
            stack.callback(console.close)
            _require_two_ports(listening, console)
            try:
                await self._start(stack, listening, console)
            except OSError as error:
                raise StorageFailed(
                    f"data directory {self.settings.data_dir} cannot be used: {error}"
                ) from error
            except StorageFailed as error:
                if self._data.is_full:
                    raise StorageFailed(f"{error}; the disk is full") from error
                raise
            tune_garbage_collection()
            when_ready(self)
            await self._stop.wait()
            restore_garbage_collection()
        if self._broken is not None:
            raise StorageFailed(self._broken)

    async def _start(
        self, stack: contextlib.AsyncExitStack, listening: socket.socket, console: socket.socket
    ) -> None:
        """Opens the engines, then starts the journal's followers, the endpoint and the console."""
        engines = await open_engines(stack, self.settings, self._data, self._fail)
        settings = self.settings = engines.settings
        uses_tls = settings.tls_certificate is not None
        self.endpoint_url = settings.listen.url(listening.getsockname()[1], tls=uses_tls)
        self.console_url = settings.console_listen.url(console.getsockname()[1], tls=uses_tls)
        # Identities from earlier runs name the owners of these keys.
        await start_history(stack, engines)
        access = _Access(
            await open_keys(control_place(settings, self._data), engines.control, engines.sealer),
            server_keys(settings, engines.identities.resolve, self._admin),
            PolicyDirectory(engines.control),
            ResourcePolicies(engines.control),
        )
        await access.policies.load()
        callers = self.callers = UpstreamCallers(settings, engines.identities)
        await self._learn_account(stack, callers, engines.identities)

        def account() -> str:
            own = self._own_access(engines, access)
            return engines.identities.resolve(own.access_key_id).account

        core = core_of(stack, engines, self._data, account, self.endpoint_url, self.console_url)
        self._wings = [start(core) for start in self._start_wings]
        services = await start_core(core, self._wings, self._remake_buckets)
        endpoint = await self._start_endpoint(core, services, access, callers, listening)
        if engines.sealer is not None:
            self._follow_other_servers(core, services, access, endpoint)
        await self._start_console(core, services, access, endpoint, console)

    def _own_access(self, engines: Engines, access: _Access) -> S3Access:
        """Returns access to this server's endpoint, in the account of its upstream."""
        account, keys = engines.identities.account, access.own_keys
        url = self.endpoint_url
        return own_access(self.settings, url, keys.own, account, keys.store_access)

    async def _learn_account(
        self, stack: contextlib.AsyncExitStack, callers: UpstreamCallers, identities: Identities
    ) -> None:
        """Learns the upstream's account; the first start waits briefly for its answer."""
        learning = asyncio.ensure_future(callers.try_account())
        if identities.known_account is None:
            await asyncio.wait({learning}, timeout=_ACCOUNT_SECONDS)
        is_learned = learning.done() and learning.result()
        if not is_learned:
            learning.cancel()
            run_beside(stack, callers.learn_account())

    async def _start_endpoint(
        self,
        core: Core,
        services: Services,
        access: _Access,
        callers: UpstreamCallers,
        listening: socket.socket,
    ) -> EndpointServer | Recorders:
        """Answers and records calls."""
        settings, engines = core.settings, core.engines
        journal, identities = engines.journal, engines.identities
        metrics, catalog = engines.metrics, engines.catalog
        authorizer = await self._authorizer(engines, services, access)
        api = CloudTrailApi(services, catalog, SCOPE_KEY, authorizer)
        endpoint: EndpointServer | Recorders
        know_others = partial(know_all, journal, identities)
        catch_up = _asking(callers, know_others if engines.site.learns_from_others else None)
        if settings.recorders > 1:
            proxied_calls = ProxiedCalls(api.app, identities.resolve, lambda: journal.head)
            endpoint = Recorders(settings, journal, identities, proxied_calls, metrics, catch_up)
        else:
            ask_api = partial(ask, api.app)
            endpoint = EndpointServer(
                settings, journal, identities, ask_api, metrics, catalog, catch_up
            )
        core.stack.push_async_callback(endpoint.stop)
        await endpoint.know_keys([*access.own_keys.all(), *access.keys.all().values()])
        await endpoint.start(listening)
        return endpoint

    def _follow_other_servers(
        self,
        core: Core,
        services: Services,
        access: _Access,
        endpoint: EndpointServer | Recorders,
    ) -> None:
        """Applies other servers' changes of the control store."""
        from opentrail.app.cluster.postgresql import follow_changes

        named = core.engines.named_keys

        async def reload_keys() -> None:
            await _send_keys(endpoint, access.keys, await access.keys.load())

        async def reload_named_keys() -> None:
            for access_key_id in await named.load():
                await endpoint.name_key(access_key_id, named.all().get(access_key_id))

        reloads = {
            KEY_KIND: reload_keys,
            POLICIES_KIND: access.policies.load,
            RESOURCE_POLICY_KIND: access.resource_policies.load,
            NAMED_KEY_KIND: reload_named_keys,
            **dict.fromkeys(SHARED_KINDS, services.signer.check),
        }
        engines = core.engines
        changes = follow_changes(engines.control, engines.inventory.require_own_store, reloads)
        run_beside(core.stack, changes)

    async def _start_console(
        self,
        core: Core,
        services: Services,
        access: _Access,
        endpoint: EndpointServer | Recorders,
        console: socket.socket,
    ) -> None:
        """Answers the command line, scripts and browsers."""
        stack, settings, engines = core.stack, core.settings, core.engines
        metrics, identities, journal = engines.metrics, engines.identities, engines.journal

        async def exposition() -> bytes:
            return metrics.exposition(await endpoint.collect_samples())

        async def key_changed(access_key_id: str) -> None:
            await _send_keys(endpoint, access.keys, [access_key_id])

        async def key_named(access_key_id: str) -> None:
            await endpoint.name_key(access_key_id, engines.named_keys.all().get(access_key_id))

        store = engines.store if engines.site.keeps_history else None
        state = Health(engines.trimmed_journal, store, engines.site)

        async def health() -> dict[str, Any]:
            counted = [metrics.samples(), *await endpoint.collect_samples()]
            state.data_problems = [
                *engines.inventory.problems,
                *engines.site.problems,
                *engines.disk.problems,
                *services.store_problems,
            ]
            state.key_problems = list(services.signer.problems)
            state.service_problems = [
                *engines.history.follower.problems,
                *identities.problems,
                *(each for wing in self._wings for each in wing.problems()),
            ]
            await state.ask_control(
                partial(trail_problems, services.control, services.trails),
                lambda: engines.control.failure,
                partial(kept_events, services.control),
            )
            return state.document(settings, counted)

        def as_owner() -> S3Access:
            return self._own_access(engines, access)

        async def as_user(service: str, user: str | None) -> S3Access:
            key = access.own_keys.own
            if user is not None:
                key = access.own_keys.of_user(user)
                await endpoint.know_keys([key])
            of_store = partial(own_access, store_access=access.own_keys.store_access)
            to = own_api_access if service == "cloudtrail" else of_store
            return to(settings, self.endpoint_url, key, identities.account)

        token = secrets.token_urlsafe(32)
        missing, allowed = state.missing, PolicyAdministration(access.policies)

        async def disk() -> dict[str, Any]:
            counted = [metrics.samples(), *await endpoint.collect_samples()]
            return await engines.disk.document(total(counted, "opentrail_spilled_bytes"))

        status = self._status(stack, engines, services, health, disk)
        verify = TrailVerifiers(settings.data_dir, as_owner).verify
        verifications = Verifications(services.control, services.clock)
        streams, tail = Streams(services, missing), Tail(services)
        listed = Trails(services, verify, verifications)
        groups: list[object] = [
            Events(services, missing),
            EventExport(services),
            EventCounts(services),
            streams,
            tail,
            Marks(services),
            Stories(services, missing),
            QuestionRoutes(services, missing),
            listed,
            EventDataStores(services, listed),
            TrailAdministration(
                services, BotocoreEndpoint(as_user), core.account, own_region(settings)
            ),
            Proofs(services, EventProvers(as_owner).prove, verifications),
            State(services, health, status.document, metrics.visible.quantiles),
            AccessAdministration(
                KeyAdministration(access.keys, allowed, key_changed).run,
                allowed.run,
                DirectoryAdministration(engines.named_keys, key_named).run,
            ),
            ReceivedRecords(
                Ingest(journal, identities.resolve, endpoint.learn, engines.clock).take,
                identities.resolve,
            ),
        ]
        for wing in self._wings:
            groups += wing.groups(services, missing)
        sessions = next((wing.sessions for wing in self._wings if wing.sessions), None)
        user_tokens = next((wing.user_tokens for wing in self._wings if wing.user_tokens), None)
        api = JsonApi(groups, token, sessions, user_tokens, core.account)
        public = PublicState(exposition, health, settings.tls_certificate is not None)
        pages = [page for wing in self._wings for page in wing.pages]
        home = next((wing.home for wing in self._wings if wing.home), None)
        proxy_host = urlsplit(settings.console_url).netloc if settings.console_url else None
        app = port_app([*public.routes(), *api.routes, *pages], home, proxy_host)
        tls = tls_of_endpoint(settings)
        limits = ConsoleConnections(metrics, console_connection_limit(raise_descriptor_limit()))
        admits = admitted_peers(settings, metrics)
        await serve_console(stack, app, console, limits, tls, admits)
        hung_up = partial(self._hung_up, tls, endpoint)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)
        stack.push_async_callback(streams.end)
        stack.callback(tail.end)
        self._write_server_file(stack, token)

    def _status(
        self,
        stack: contextlib.AsyncExitStack,
        engines: Engines,
        services: Services,
        health: Callable[[], Awaitable[dict[str, Any]]],
        disk: Callable[[], Awaitable[dict[str, Any]]],
    ) -> ServerStatus:
        problem = LastProblem()
        logging.getLogger().addHandler(problem)
        stack.callback(logging.getLogger().removeHandler, problem)
        quantiles, started = engines.metrics.visible.quantiles, engines.clock.now()
        left_out = engines.metrics.left_out.read
        return ServerStatus(
            self.settings, services, health, quantiles, left_out, problem, started, disk
        )

    async def _authorizer(
        self, engines: Engines, services: Services, access: _Access
    ) -> Authorizer | None:
        if not self.settings.verifies:
            return None
        await access.resource_policies.load()
        return Authorizer(
            access.policies,
            access.resource_policies,
            services.trails,
            engines.clock,
            access.own_keys.is_trusted,
            services.stores,
            services.channels,
        )

    def _hung_up(self, tls: ssl.SSLContext | None, endpoint: EndpointServer | Recorders) -> None:
        """Handles SIGHUP: reloads the certificate, or ends with the terminal that started it."""
        if tls is not None:
            self._reload_certificate(tls, endpoint)
        elif self._is_on_terminal:
            self._stop.set()
        else:
            log.info("no certificate to reload")

    def _reload_certificate(
        self, tls: ssl.SSLContext, endpoint: EndpointServer | Recorders
    ) -> None:
        """Reloads certificate and key for new connections of both ports."""
        try:
            load_certificate(tls, self.settings)
            endpoint.reload_certificate()
        except UsageError as error:
            log.error("certificate not reloaded", extra={"error": str(error)})
            return
        log.info("certificate reloaded")

    def _write_server_file(self, stack: contextlib.AsyncExitStack, token: str) -> None:
        described = {
            "pid": os.getpid(),
            "endpoint": self.endpoint_url,
            "console": self.console_url,
            "token": token,
            "certificate": _absolute(self.settings.tls_certificate),
            "version": __version__,
        }
        write_durably(self._data.server_file, json.dumps(described, indent=2).encode() + b"\n")
        stack.callback(self._remove_server_file)

    def _remove_server_file(self) -> None:
        """Removes the file if it is still ours (the whole folder may have been replaced)."""
        with contextlib.suppress(OSError, ValueError):
            if json.loads(self._data.server_file.read_text())["pid"] == os.getpid():
                self._data.server_file.unlink()

    def _fail(self, reason: str) -> None:
        """Ends the server with exit code 74: storage can no longer be trusted (guarantee D6)."""
        self._broken = reason
        self._stop.set()


def _asking(callers: UpstreamCallers, know_others: CatchUp | None) -> CatchUp | None:
    """Returns the lookup of a key in other servers, then the upstream; None without either."""
    if know_others is None:
        return callers.name if callers.asks else None

    async def ask(access_key_id: str) -> bool:
        async with asyncio.timeout(_OTHERS_SECONDS):
            await know_others(access_key_id)
        return await callers.name(access_key_id)

    return ask


async def _send_keys(
    endpoint: EndpointServer | Recorders, keys: KeyDirectory, key_ids: Collection[str]
) -> None:
    """Sends these keys of the key directory to the endpoint, which forgets deleted ones."""
    known = keys.all()
    forgotten = [key_id for key_id in key_ids if key_id not in known]
    await endpoint.know_keys([known[each] for each in key_ids if each in known], forgotten)


def _absolute(file: Path | None) -> str | None:
    return str(file.resolve()) if file else None


def _require_two_ports(listening: socket.socket, console: socket.socket) -> None:
    """Returns if endpoint and console have different addresses.

    Raises:
        UsageError: both are the same.
    """
    hosts = {listening.getsockname()[0], console.getsockname()[0]}
    ports = {listening.getsockname()[1], console.getsockname()[1]}
    if len(ports) == 1 and (len(hosts) == 1 or hosts & {"0.0.0.0", "::"}):  # noqa: S104
        raise UsageError(
            f"--listen and --console-listen are both port {ports.pop()}; give them different ports"
        )


def serve(
    settings: Settings,
    wings: Sequence[StartWing],
    when_ready: Callable[[Server], None],
    remake_buckets: bool = False,
    admin: tuple[str, str] | None = None,
) -> None:
    """Runs a server in this process until SIGTERM.

    Args:
        settings: its settings.
        wings: its parts beyond recording, finding, delivering and answering.
        when_ready: called once it listens.
        remake_buckets: whether to recreate missing buckets of trails.
        admin: id and secret of an access key that may call every operation.

    Raises:
        OpentrailError: it cannot start, or storage failed.
    """
    if not settings.upstream:
        raise UsageError("--upstream URL is needed: where calls go, such as http://127.0.0.1:5000")
    os.umask(0o077)
    # The thread that answers calls must not wait long for the writing and indexing threads.
    sys.setswitchinterval(_SWITCH_SECONDS)
    set_up_logging()
    upstreams_of(settings)
    tls_of_endpoint(settings)

    async def main() -> None:
        await Server(settings, wings, remake_buckets, admin).run(when_ready)

    uvloop.run(main())


__all__ = ["Server", "serve"]
