"""One server: which engine is behind which port, and the order of start and stop."""

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
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from opentrail.access.administration import KeyAdministration, PolicyAdministration
from opentrail.access.named_keys import DirectoryAdministration, NamedKeys
from opentrail.access.policies import PolicyDirectory
from opentrail.access.resource_policies import ResourcePolicies
from opentrail.access.users import ConsoleUsers
from opentrail.adapters.archived_journal import ArchivedJournal
from opentrail.adapters.aws.object_store import S3Access, S3Objects
from opentrail.adapters.aws.organizations import UpstreamOrganizations
from opentrail.adapters.aws.own_endpoint import BotocoreEndpoint
from opentrail.adapters.aws.services import (
    CloudWatchLogGroups,
    EventBridgeBus,
    KmsKeys,
    ServiceClients,
    SnsTopics,
)
from opentrail.adapters.configured_organizations import ConfiguredOrganizations
from opentrail.adapters.files import DataDirectory, write_durably
from opentrail.adapters.gap_file import kept_gaps
from opentrail.adapters.ipc.events import IpcEventStore
from opentrail.adapters.rsa import RsaSigner
from opentrail.adapters.sql import SqlControl
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.system import (
    SystemClock,
    settle_memory,
    unsettle_memory,
)
from opentrail.api.authorization.authorizer import Authorizer
from opentrail.api.command_line import CommandLineApi
from opentrail.api.console.sessions import Sessions
from opentrail.api.console.web import WebConsole
from opentrail.api.operation import Services
from opentrail.api.server import CloudTrailApi
from opentrail.api.trail_administration import TrailAdministration
from opentrail.app.access import (
    ServerKeys,
    own_access,
    own_api_access,
    server_keys,
    service_access,
    store_access,
)
from opentrail.app.access_keys import open_control, open_keys
from opentrail.app.api_proxy import ProxiedCalls
from opentrail.app.console_server import (
    EventProvers,
    console_settings,
    oidc_login,
    serve_console,
    verify_trail,
)
from opentrail.app.endpoint_server import (
    PRELOADED,
    EndpointServer,
    arm_faults,
    bind,
    load_certificate,
    tls_of_endpoint,
    upstreams_of,
)
from opentrail.app.health import Health
from opentrail.app.housekeeping import Housekeeping
from opentrail.app.insights import WatchProcess, has_insights, sources
from opentrail.app.known_positions import (
    keep_mark,
    known_imports,
    known_positions,
    mark_imports,
    mark_journal,
)
from opentrail.app.recorders import Recorders
from opentrail.app.status import ServerStatus
from opentrail.capture.ingest import Ingest
from opentrail.capture.proxy.asgi import SCOPE_KEY, ask
from opentrail.capture.record.recorder import gap_entry, lost_entry
from opentrail.core.errors import OpentrailError, RecordRefused, StorageFailed, UsageError
from opentrail.core.organization import Organization
from opentrail.follow import Follower, follow
from opentrail.history.event_history import History
from opentrail.identity.known_identities import Identities, directory_identities
from opentrail.imports.service import Imports
from opentrail.insights.expected import ExpectedIncidents
from opentrail.insights.follower import Insights
from opentrail.logs import LastProblem, set_up_logging
from opentrail.metrics import Metrics
from opentrail.organizations.administration import OrganizationAdministration
from opentrail.ports.clock import Clock
from opentrail.ports.journal import Journal, LostPositions
from opentrail.ports.organizations import Organizations
from opentrail.settings import Settings
from opentrail.trails.delivery import LogDelivery
from opentrail.trails.destinations import Destinations
from opentrail.trails.digest import DigestChains
from opentrail.trails.members import TrailMembers
from opentrail.trails.plans import EntrySelector
from opentrail.trails.registry import TrailRegistry
from opentrail.trails.sinks.cloudwatch_logs import CloudWatchLogsSink
from opentrail.trails.sinks.eventbridge import EntryMatcher, EventBridgeFollower
from opentrail.trails.sinks.sns import SnsSink
from opentrail.trails.worker import TrailDeliveries
from opentrail.version import __version__
from opentrail.wire.service_models import ServiceCatalog

log = logging.getLogger(__name__)

#: Seconds for which records gather between two inserts into history.
_HISTORY_LINGER = 0.05
#: Identities are known in memory at once; storing them may take its time. At most so long: records
#: that are older are read from disk again when many arrive.
_IDENTITIES_LINGER = 0.5
#: Seconds of events that are put on an event bus together.
_BUS_LINGER = 0.5
#: Seconds of events that are counted for Insights together, and between two looks at whether any
#: trail wants them.
_INSIGHTS_LINGER, _INSIGHTS_WANTED = 1.0, 5.0
#: Seconds between two looks at which accounts the organization has.
_MEMBERS_EVERY = 60.0
_SWITCH_SECONDS = 0.0005
#: Seconds until a record that could not be appended is tried again.
_RECORD_AGAIN = 5.0
#: Threads for all that would hold up the loop: what they do is done for the disk or the network.
_THREADS = 16


@dataclass(frozen=True, slots=True)
class _Engines:
    """The engines of a server, and what every feature needs."""

    clock: Clock
    metrics: Metrics
    catalog: ServiceCatalog
    control: SqlControl
    sqlite: SqliteJournal
    store: IpcEventStore
    journal: ArchivedJournal
    identities: Identities
    history: History
    #: Losses of the journal that are not recorded yet.
    losses: asyncio.Queue[LostPositions]
    named: NamedKeys


class Server:
    """One opentrail server."""

    def __init__(
        self,
        settings: Settings,
        remake_buckets: bool = False,
        admin: tuple[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self._admin = admin
        self._remake_buckets = remake_buckets
        self._data = DataDirectory(settings.data_dir)
        self._stop = asyncio.Event()
        self._broken: str | None = None
        self.endpoint_url = self.console_url = ""
        self._sessions = Sessions(SystemClock())

    def console_link(self) -> str:
        """Returns a link that opens the web console once, within ten minutes."""
        return f"{self.console_url}/console/#t={self._sessions.new_link()}"

    async def run(self, when_ready: Callable[[Server], None]) -> None:
        """Serves until it is asked to stop.

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
            settle_memory()
            when_ready(self)
            await self._stop.wait()
            unsettle_memory()
        if self._broken is not None:
            raise StorageFailed(self._broken)

    async def _start(
        self, stack: contextlib.AsyncExitStack, listening: socket.socket, console: socket.socket
    ) -> None:
        engines = await self._open_engines(stack)
        services = await self._start_features(stack, engines)
        await self._serve(stack, engines, services, listening, console)

    async def _open_engines(self, stack: contextlib.AsyncExitStack) -> _Engines:
        """Opens the engines behind the ports."""
        settings, clock = self.settings, SystemClock()
        control = open_control(settings, self._data)
        stack.push_async_callback(control.close)
        named = NamedKeys(control, settings.directory)
        await named.load()
        self.settings = settings = replace(settings, directory=named.all())
        losses: asyncio.Queue[LostPositions] = asyncio.Queue()
        refuse = settings.on_record_failure == "refuse"
        sqlite = SqliteJournal(
            self._data.journal,
            self._fail if refuse else _log_broken,
            known=await known_positions(control, self._data.history),
            on_lost=losses.put_nowait,
        )
        for lost in sqlite.lost:
            losses.put_nowait(lost)
        store = IpcEventStore(
            self._data.history,
            self._data.journal,
            settings.history_seal_records,
            lambda: history.catch_up_to(sqlite.head),
            sqlite.repair,
            await known_imports(control),
        )
        journal = ArchivedJournal(sqlite, store)
        stack.push_async_callback(mark_journal, control, journal)
        stack.push_async_callback(journal.close)
        _run_beside(stack, keep_mark(control, journal))
        identities = Identities(control, directory_identities(settings.directory))
        await identities.load()
        stack.push_async_callback(store.close)
        metrics = Metrics()
        history = History(
            store,
            clock,
            metrics,
            _token_key(self._data.keys),
            timedelta(days=settings.history_retention_days),
            lambda: journal.head,
        )
        catalog = ServiceCatalog()
        catalog.preload(PRELOADED)
        return _Engines(
            clock,
            metrics,
            catalog,
            control,
            sqlite,
            store,
            journal,
            identities,
            history,
            losses,
            named,
        )

    async def _start_features(
        self, stack: contextlib.AsyncExitStack, engines: _Engines
    ) -> Services:
        """Starts the followers of the journal."""
        settings, clock, metrics = self.settings, engines.clock, engines.metrics
        control, journal = engines.control, engines.journal
        signer = RsaSigner(self._data.keys, clock, timedelta(days=settings.signing_key_days))
        objects = S3Objects(store_access(settings))
        trails = TrailRegistry(control, settings.trails_per_region)
        selector = EntrySelector(journal)
        clients = ServiceClients(partial(service_access, settings))
        topics, groups = SnsTopics(clients), CloudWatchLogGroups(clients)
        digest_interval = timedelta(seconds=settings.digest_interval)
        deliveries = TrailDeliveries(
            trails,
            journal,
            control,
            objects,
            LogDelivery(selector, control, objects, clock, metrics),
            DigestChains(control, objects, signer, clock, metrics, digest_interval),
            timedelta(seconds=settings.delivery_interval),
            (
                SnsSink(control, topics, clock, metrics),
                CloudWatchLogsSink(control, groups, clock, metrics, selector.entries_of_note),
            ),
        )
        # What an earlier run learned must be known before the first call is recorded.
        _run_beside(stack, self._follow_history(engines))
        await _catch_up(engines.identities, journal)
        _run_beside(stack, follow(journal, engines.identities, _IDENTITIES_LINGER))
        stack.push_async_callback(deliveries.stop)
        if self._remake_buckets:
            for bucket in await deliveries.remake_lost_buckets():
                log.warning(
                    "trail bucket was gone and has been created again with a new digest chain",
                    extra={"bucket": bucket},
                )
        source = _organizations(settings, clients)
        _run_beside(stack, _follow_members(TrailMembers(trails, source, journal, clock)))
        await deliveries.start()
        if settings.event_bridge == "auto":
            matcher = partial(_matcher, trails)
            sink = EventBridgeFollower(
                control, EventBridgeBus(clients), clock, metrics, matcher, lambda: journal.head
            )
            _run_beside(stack, follow(journal, sink, _BUS_LINGER))
        types = settings.insights_types if settings.insights == "on" else ()
        watch = WatchProcess(self._data.insights, settings.insights_preset, types)
        insights = Insights(
            watch,
            engines.store,
            journal,
            clock,
            engines.history.until_visible,
            partial(sources, trails, settings.insights == "on"),
            ExpectedIncidents(control),
            of_principals=bool(types),
        )
        _run_beside(stack, self._follow_insights(watch, insights, journal, trails))
        housekeeping = Housekeeping(
            engines.sqlite, engines.store, engines.history, engines.identities, deliveries
        )
        _run_beside(stack, housekeeping.run())
        await self._record_gaps(journal, clock)
        _run_beside(stack, _record_losses(journal, engines.losses, clock))
        _run_beside(stack, engines.sqlite.keep_checking())
        enforced = settings.bucket_policy_check == "enforced"
        destinations = Destinations(objects, topics, groups, KmsKeys(clients), enforced)
        return Services(
            engines.history,
            trails,
            deliveries,
            control,
            journal,
            destinations,
            signer,
            clock,
            insights,
            OrganizationAdministration(source, control),
        )

    async def _serve(
        self,
        stack: contextlib.AsyncExitStack,
        engines: _Engines,
        services: Services,
        listening: socket.socket,
        console: socket.socket,
    ) -> None:
        """Listens on both ports."""
        settings, metrics, identities = self.settings, engines.metrics, engines.identities
        journal, store = engines.journal, engines.store
        keys_of_server = server_keys(settings, identities.resolve, self._admin)
        policies = PolicyDirectory(engines.control)
        await policies.load()
        authorizer = await self._authorizer(engines, services, policies, keys_of_server)
        api = CloudTrailApi(services, engines.catalog, SCOPE_KEY, authorizer)
        endpoint: EndpointServer | Recorders
        if settings.recorders > 1:
            proxied_calls = ProxiedCalls(api.app, identities.resolve)
            endpoint = Recorders(settings, journal, identities, proxied_calls, metrics)
        else:
            endpoint = EndpointServer(
                settings, journal, identities, partial(ask, api.app), metrics, engines.catalog
            )
        stack.push_async_callback(endpoint.stop)
        keys = await open_keys(engines.control, self._data)
        await endpoint.know_keys([*keys_of_server.all(), *keys.known().values()])
        await endpoint.start(listening)
        uses_tls = settings.tls_certificate is not None
        self.endpoint_url = settings.listen.url(listening.getsockname()[1], tls=uses_tls)

        async def exposition() -> bytes:
            return metrics.exposition(await endpoint.counted())

        async def key_changed(access_key_id: str) -> None:
            known = keys.known().get(access_key_id)
            await endpoint.know_keys([known] if known else [], [] if known else [access_key_id])

        async def key_named(access_key_id: str) -> None:
            await endpoint.name_key(access_key_id, engines.named.all().get(access_key_id))

        allowed = PolicyAdministration(policies)
        state = Health(journal, store)

        async def health() -> dict[str, Any]:
            counted = [metrics.samples(), *await endpoint.counted()]
            return state.document(settings.on_record_failure, settings.recorders, counted)

        token = secrets.token_urlsafe(32)
        ingest = Ingest(journal, identities.resolve, endpoint.learn, engines.clock)
        imports = Imports(
            self._data.history, self._data.journal, store, partial(mark_imports, engines.control)
        )
        stack.push_async_callback(imports.close)
        port = console.getsockname()[1]
        self.console_url = settings.console_listen.url(port, tls=uses_tls)

        def access() -> S3Access:
            return own_access(settings, self.endpoint_url, keys_of_server.own)

        async def access_of(service: str, user: str | None) -> S3Access:
            key = keys_of_server.own
            if user is not None:
                key = keys_of_server.of_user(user)
                await endpoint.know_keys([key])
            to = own_api_access if service == "cloudtrail" else own_access
            return to(settings, self.endpoint_url, key)

        account = identities.resolve(access().access_key_id).account
        own_endpoint = BotocoreEndpoint(access_of)
        web = WebConsole(
            services,
            self._sessions,
            own_endpoint,
            health,
            state.missing,
            metrics.visible.quantiles,
            partial(verify_trail, settings.data_dir, access),
            EventProvers(access).prove,
            console_settings(settings, port, account),
            ConsoleUsers(engines.control, engines.clock),
            oidc_login(settings, engines.clock),
        )
        command_line = CommandLineApi(
            services,
            exposition,
            health,
            token,
            ingest.take,
            imports.take,
            identities.resolve,
            state.missing,
            self.console_link,
            web.administration,
            {
                "/api/v1/access-keys": KeyAdministration(keys, allowed, key_changed).run,
                "/api/v1/policies": allowed.run,
                "/api/v1/directory": DirectoryAdministration(engines.named, key_named).run,
                "/api/v1/trails": TrailAdministration(services, own_endpoint, account).run,
            },
            self._status(stack, engines, services, health).document,
        )
        tls = tls_of_endpoint(settings)
        await serve_console(stack, web.app(command_line.routes()), console, tls)
        reload = partial(self._reload_certificate, tls, endpoint)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
        stack.push_async_callback(command_line.streams.end)
        stack.callback(web.tail.end)
        self._write_server_file(stack, token)

    def _status(
        self,
        stack: contextlib.AsyncExitStack,
        engines: _Engines,
        services: Services,
        health: Callable[[], Awaitable[dict[str, Any]]],
    ) -> ServerStatus:
        problem = LastProblem()
        logging.getLogger().addHandler(problem)
        stack.callback(logging.getLogger().removeHandler, problem)
        quantiles, started = engines.metrics.visible.quantiles, engines.clock.now()
        return ServerStatus(self.settings, services, health, quantiles, problem, started)

    async def _authorizer(
        self,
        engines: _Engines,
        services: Services,
        policies: PolicyDirectory,
        keys_of_server: ServerKeys,
    ) -> Authorizer | None:
        if self.settings.auth != "enforced":
            return None
        of_resources = ResourcePolicies(engines.control)
        await of_resources.load()
        trails, clock = services.trails, engines.clock
        return Authorizer(policies, of_resources, trails, clock, keys_of_server.is_trusted)

    def _reload_certificate(
        self, tls: ssl.SSLContext | None, endpoint: EndpointServer | Recorders
    ) -> None:
        """Reads certificate and key again for the connections that come to both ports."""
        if tls is None:
            log.info("there is no certificate to read again")
            return
        try:
            load_certificate(tls, self.settings)
            endpoint.reload_certificate()
        except UsageError as error:
            log.error("the former certificate remains", extra={"error": str(error)})
            return
        log.info("the certificate has been read again")

    async def _record_gaps(self, journal: Journal, clock: Clock) -> None:
        """Records what was lost before this start and could not be recorded then."""
        for file, gap in list(kept_gaps(self._data.lost)):
            if gap is not None:
                try:
                    await journal.append([gap_entry(gap, clock.now())])
                except RecordRefused:
                    continue  # the file stays for the next start
            file.unlink()

    async def _follow_history(self, engines: _Engines) -> None:
        """Opens event history and feeds it, while calls are recorded already."""
        try:
            await engines.store.open()
        except StorageFailed as error:
            self._fail(str(error))
            return
        history = engines.history
        history.catch_up_to(engines.journal.head)
        await follow(engines.journal, history, _HISTORY_LINGER, history.hurry)

    async def _follow_insights(
        self, watch: WatchProcess, insights: Insights, journal: Journal, trails: TrailRegistry
    ) -> None:
        """Has unusual activity found, as soon as anybody wants it."""
        while self.settings.insights == "off":
            await asyncio.sleep(_INSIGHTS_WANTED)
            if any(has_insights(each.trail) for each in await trails.all()):
                break
        try:
            await watch.start()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(insights.run())
                tasks.create_task(follow(journal, insights, _INSIGHTS_LINGER))
        finally:
            await watch.stop()

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
        """Ends the server with exit code 74: storage cannot be trusted any more (guarantee D6)."""
        self._broken = reason
        self._stop.set()


def _absolute(file: Path | None) -> str | None:
    return str(file.resolve()) if file else None


def _require_two_ports(listening: socket.socket, console: socket.socket) -> None:
    """Returns if endpoint and console have addresses of their own.

    Raises:
        UsageError: both are the same.
    """
    hosts = {listening.getsockname()[0], console.getsockname()[0]}
    ports = {listening.getsockname()[1], console.getsockname()[1]}
    if len(ports) == 1 and (len(hosts) == 1 or hosts & {"0.0.0.0", "::"}):  # noqa: S104
        raise UsageError(
            f"--listen and --console-listen are both port {ports.pop()}; give them different ports"
        )


def _log_broken(reason: str) -> None:
    """With `allow`, calls go on and their losses are counted; only a restart can help."""
    log.critical("the journal is broken", extra={"reason": reason})


async def _record_losses(
    journal: Journal, losses: asyncio.Queue[LostPositions], clock: Clock
) -> None:
    """Appends a record of each loss, once, whatever ends in between."""
    while True:
        lost = await losses.get()
        entry = lost_entry(lost, clock.now())
        while True:
            try:
                if await journal.find(entry.event_id) is None:
                    await journal.append([entry])
                break
            except (RecordRefused, StorageFailed) as error:
                log.warning("a loss cannot be recorded yet", extra={"error": str(error)})
                await asyncio.sleep(_RECORD_AGAIN)


async def _catch_up(follower: Follower, journal: Journal) -> None:
    """Has a follower process all entries that it missed."""
    cursor = await follower.cursor()
    while entries := await journal.read(cursor, 5_000):
        await follower.process(entries)
        cursor = entries[-1].position


def _run_beside(stack: contextlib.AsyncExitStack, work: Any) -> None:
    task = asyncio.ensure_future(work)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    task.add_done_callback(_complain)
    stack.push_async_callback(end)


def _complain(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("a task ended unexpectedly", exc_info=task.exception())


def _token_key(folder: Path) -> bytes:
    """Returns the key that page tokens are sealed with, made at the first start."""
    file = folder / "page-token.key"
    if not file.exists():
        write_durably(file, secrets.token_bytes(32))
    return file.read_bytes()


def _organizations(settings: Settings, clients: ServiceClients) -> Organizations:
    if settings.organization == "upstream":
        return UpstreamOrganizations(clients)
    described = settings.organization
    return ConfiguredOrganizations(described if isinstance(described, Organization) else None)


async def _follow_members(members: TrailMembers) -> None:
    """Updates the accounts of organization trails, once a minute."""
    while True:
        try:
            await members.update()
        except OpentrailError as error:
            log.warning("the organization is not known", extra={"error": str(error)})
        await asyncio.sleep(_MEMBERS_EVERY)


async def _matcher(trails: TrailRegistry) -> EntryMatcher | None:
    """Returns the matcher of entries that logging trails select."""
    return EntrySelector.matcher_of([stored.trail for stored in await trails.all()])


def serve(
    settings: Settings,
    when_ready: Callable[[Server], None],
    remake_buckets: bool = False,
    admin: tuple[str, str] | None = None,
) -> None:
    """Runs a server in this process until SIGTERM.

    Args:
        settings: its settings.
        when_ready: is called once it listens.
        remake_buckets: whether buckets of trails that are gone are created again.
        admin: id and secret of an access key that may call every operation.

    Raises:
        OpentrailError: it cannot start, or storage failed.
    """
    if not settings.upstream:
        raise UsageError("--upstream URL is needed: where calls go, such as http://127.0.0.1:5000")
    os.umask(0o077)
    # The thread that answers calls must not wait long for those that write and index.
    sys.setswitchinterval(_SWITCH_SECONDS)
    set_up_logging()
    upstreams_of(settings)
    tls_of_endpoint(settings)

    async def main() -> None:
        await Server(settings, remake_buckets, admin).run(when_ready)

    uvloop.run(main())


__all__ = ["Server", "serve"]
