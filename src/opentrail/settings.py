"""Every setting: its default, its flag, the function that reads its value."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from opentrail.core.errors import UsageError
from opentrail.core.organization import Organization
from opentrail.core.selectors.selection import Selection
from opentrail.setting_values import (
    read_collector,
    read_console_url,
    read_database,
    read_file,
    read_headers,
    read_insights_types,
    read_issuer,
    read_networks,
    read_number,
    read_place,
    read_private_networks,
    read_record,
    read_secret,
    read_size,
    read_text,
    read_upstreams,
    read_webhook,
)


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port; port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, name: str) -> Address:
        """Returns the address in `HOST:PORT`.

        Raises:
            UsageError: the string has another form.
        """
        host, colon, port = text.rpartition(":")
        digits = port.isascii() and port.isdigit()
        if not colon or not host or not digits or int(port) > 65535:
            raise UsageError(f"{name} must be HOST:PORT, such as 127.0.0.1:4747, not {text!r}")
        return cls(host.strip("[]"), int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def name_url(self, port: int, tls: bool = False) -> str:
        """Returns the address as a URL that names this machine to others."""
        is_any = self.host in ("0.0.0.0", "::")  # noqa: S104 - only a comparison
        return Address(socket.gethostname() if is_any else self.host, port).url(tls=tls)

    def url(self, port: int | None = None, tls: bool = False) -> str:
        """Returns the address as a URL that this machine can open."""
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        host = f"[{own}]" if ":" in own else own
        return f"http{'s' if tls else ''}://{host}:{self.port if port is None else port}"


@dataclass(frozen=True, slots=True)
class UpstreamAccess:
    """Credentials for a service's upstream, from the file only (`[upstream.SERVICE]`).

    Trails deliver with the credentials of `s3`.
    """

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    #: Region that calls are signed for; default: the caller's Region.
    region: str | None = None
    #: Whether calls to this upstream are re-signed with these credentials.
    resign: bool = False


#: Groups of flags in the help of `serve`.
_ADDRESSES, _CALLERS, _DATA = "addresses and upstreams", "callers and users", "data"
_TRAILS, _ACTIVITY = "trails", "unusual activity"
#: Maximum of `signing_key_days`: a hundred years.
MAX_DAYS = 36_500
#: Key of the metadata of a field.
_SETTING = "setting"


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting's variable `OPENTRAIL_NAME` and flag; every setting is also valid in the file."""

    #: Group of its flag; None: no flag, since other users of the machine see flags.
    group: str | None
    #: Placeholder and help of the flag; the help may have `{d.…}`, a default.
    metavar: str
    help: str
    #: Parses the value from a source, which errors name.
    read: Callable[[Any, str], Any] | None
    #: The valid values, if `read` is None.
    choices: tuple[str, ...]


def _setting(
    default: Any,
    group: str | None = None,
    metavar: str = "",
    help: str = "",  # noqa: A002 - argparse's name
    read: Callable[[Any, str], Any] | None = None,
    choices: tuple[str, ...] = (),
    repr: bool = True,  # noqa: A002 - the name in dataclasses
) -> Any:
    """Declares a field of `Settings` with a default; `Setting` describes the other arguments."""
    metadata = {_SETTING: Setting(group, metavar, help, read, choices)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata, repr=repr)
    return field(default=default, metadata=metadata, repr=repr)


def _read_address(value: Any, source: str) -> Address:
    return Address.parse(str(value), source)


def _read_folder(value: Any, source: str) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise UsageError(f"{source} must name a folder, not {value!r}")
    return Path(value)


def _read_whole(value: Any, source: str) -> int:
    return int(read_number(value, source, is_whole=True))


def _read_days(value: Any, source: str) -> int:
    number = _read_whole(value, source)
    if number > MAX_DAYS:
        raise UsageError(f"{source} must be at most {MAX_DAYS}, not {number}")
    return number


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a server; `--config` names their file."""

    #: Address of the AWS endpoint.
    listen: Address = _setting(
        Address("127.0.0.1", 4747),
        _ADDRESSES,
        "HOST:PORT",
        "the AWS endpoint ({d.listen.host}:{d.listen.port})",
        read=_read_address,
    )
    #: Address of console, health, metrics and the command line's API; an address other than
    #: loopback needs TLS and `--auth enforced`.
    console_listen: Address = _setting(
        Address("127.0.0.1", 4748),
        _ADDRESSES,
        "HOST:PORT",
        "health and API ({d.console_listen.host}:{d.console_listen.port})",
        read=_read_address,
    )
    #: Address of the console at a proxy that ends TLS, such as `https://trail.example.com`; the
    #: proxy passes the header `Host`. Requests for this host count as requests over TLS.
    console_url: str | None = _setting(
        None,
        _ADDRESSES,
        "URL",
        "address of the console behind a TLS proxy: https://HOST",
        read=read_console_url,
    )
    #: Where calls are forwarded: service name → URL; `""` is every other service.
    upstream: Mapping[str, str] = _setting(
        {}, _ADDRESSES, "[SERVICE=]URL", "where calls go; repeatable", read=read_upstreams
    )
    #: Seconds for which an upstream may be silent before or within an answer.
    upstream_timeout: float = _setting(
        910.0,
        _ADDRESSES,
        "SECONDS",
        "timeout of an upstream ({d.upstream_timeout:g})",
        read=read_number,
    )
    #: `on`: at the start, opentrail identifies each upstream with GET requests without credentials;
    #: `off`: it sends nothing to an upstream but the calls of clients.
    upstream_check: str = _setting(
        "on",
        _ADDRESSES,
        "MODE",
        "on (default): check upstreams at the start; or off",
        choices=("on", "off"),
    )
    #: PEM file with the certificate authorities to trust for upstreams.
    upstream_ca: Path | None = _setting(
        None, _ADDRESSES, "FILE", "PEM file with the authorities of https upstreams", read=read_file
    )
    #: Networks of trusted proxies, whose `X-Forwarded-For` gives the caller's address.
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        _ADDRESSES,
        "NETWORKS",
        "proxies whose X-Forwarded-For counts: 10.0.0.0/8,…",
        read=read_networks,
    )
    #: Private networks, such as a container network, whose hosts may call with `--auth permissive`
    #: and without TLS: they can call as any user, and read other hosts' traffic. Hosts in other
    #: networks cannot connect.
    insecure_trusted_networks: tuple[str, ...] = _setting(
        (),
        _ADDRESSES,
        "NETWORKS",
        "private networks that may call without --auth enforced and TLS",
        read=read_private_networks,
    )
    #: PEM file with the certificate of the AWS endpoint and the console, which then speak TLS.
    #: SIGHUP reloads it and the key.
    tls_certificate: Path | None = _setting(
        None, _ADDRESSES, "FILE", "PEM certificate; both ports then use TLS", read=read_file
    )
    #: PEM file with the certificate's key.
    tls_key: Path | None = _setting(
        None, _ADDRESSES, "FILE", "PEM key of the certificate", read=read_file
    )
    #: `permissive`: the caller is the owner of the access key id, unverified; loopback and
    #: `--insecure-trusted-networks` only.
    #: `enforced`: signatures are verified with the key directory (`opentrail keys`), and policies
    #: decide who may call opentrail's own API.
    auth: str = _setting(
        "permissive",
        _CALLERS,
        "MODE",
        "permissive (default) or enforced: verify signatures",
        choices=("permissive", "enforced"),
    )
    #: With `--auth enforced`, the handling of calls with keys that are not in the key directory:
    #: `forward` leaves them to the upstream, `refuse` refuses them.
    unknown_keys: str = _setting(
        "forward",
        _CALLERS,
        "MODE",
        "with enforced: forward (default) or refuse",
        choices=("forward", "refuse"),
    )
    #: Provider of OpenID Connect by which users sign in to the console: its issuer, an https URL.
    oidc_issuer: str | None = _setting(
        None, _CALLERS, "URL", "OpenID Connect provider for the console's users", read=read_issuer
    )
    #: This server's client id at the provider.
    oidc_client_id: str | None = _setting(
        None, _CALLERS, "ID", "this server's client id at the provider", read=read_text
    )
    #: This server's client secret at the provider; refused in the flag, where other users of the
    #: machine could see it. A public client has none.
    oidc_client_secret: str | None = _setting(None, read=read_secret, repr=False)
    #: Claim of the id token that gives a user's role, by the table `[oidc_roles]` of the file. With
    #: dots it may be a path into objects: `realm_access.roles`.
    oidc_role_claim: str = _setting(
        "roles",
        _CALLERS,
        "NAME",
        "claim that gives a user's role ({d.oidc_role_claim})",
        read=read_text,
    )
    #: Claim of the id token, or path into its objects, with the ids of the accounts that a user may
    #: see, or `*` for all; opentrail refuses users without either. None: all users may see all
    #: accounts.
    oidc_accounts_claim: str | None = _setting(
        None, _CALLERS, "NAME", "claim with the accounts that a user may see", read=read_text
    )
    #: Folder with all data of the server.
    data_dir: Path = _setting(
        Path("opentrail-data"),
        _DATA,
        "DIR",
        "folder with all data (./{d.data_dir})",
        read=_read_folder,
    )
    #: Database with trails, keys and other state: `sqlite` (in the data directory), or
    #: `postgresql://USER:PASSWORD@HOST/DATABASE`, a database for this server alone. A password is
    #: refused in the flag, where other users of the machine could see it.
    control_store: str = _setting(
        "sqlite",
        _DATA,
        "URL",
        "sqlite (default) or postgresql://USER@HOST/DATABASE",
        read=read_database,
        repr=False,
    )
    #: The first store of call records: `sqlite` (in the data directory), or
    #: `postgresql://USER:PASSWORD@HOST,HOST/DATABASE`, for this server alone. A password is refused
    #: in the flag, where other users of the machine could see it.
    journal: str = _setting(
        "sqlite",
        _DATA,
        "URL",
        "sqlite (default) or postgresql://USER@HOST/DATABASE",
        read=read_database,
        repr=False,
    )
    #: Shared place of several servers for the files of event history: `s3://BUCKET/PREFIX`, in the
    #: S3 that trails deliver to. It needs journal and control store on PostgreSQL.
    files: str | None = _setting(
        None, _DATA, "s3://…", "history files that several servers share, in S3", read=read_place
    )
    #: Maximum size of this server's local copies of these files, without their indexes, with a
    #: unit: `20GB`; None: no limit. Lookups download the files that they need; the least recently
    #: used files are deleted.
    history_cache: int | None = _setting(
        None, _DATA, "SIZE", "local cache of these files, such as 20GB (all)", read=read_size
    )
    #: Tasks of a server in a cluster besides answering and recording calls. `all` and `worker`
    #: have event history, and one such server works for all servers; `query` has event history
    #: only; `recorder` has no other task, and needs less memory and disk.
    role: str = _setting(
        "all",
        _DATA,
        "ROLE",
        "role in a cluster: all, recorder, worker or query",
        choices=("all", "recorder", "worker", "query"),
    )
    #: Recorder processes that share the port, for more calls than one core can record.
    recorders: int = _setting(1, _DATA, "N", "recorder processes ({d.recorders})", read=_read_whole)
    #: `all` records all calls. Advanced event selectors, as a JSON file with a list or as
    #: `[[record]]` tables in the file, record only matching calls; opentrail forwards and counts
    #: the others, and stores nothing else about them.
    record: str | Selection = _setting(
        "all",
        _DATA,
        "SELECTORS",
        "all (default), or a JSON file of event selectors",
        read=read_record,
    )
    #: `off`: `record` must match all management events; `on`: it may leave some out.
    leave_out_management_events: str = _setting(
        "off",
        _DATA,
        "MODE",
        "off (default) or on: --record may leave them out",
        choices=("off", "on"),
    )
    #: `refuse`: no answer without its record; `allow`: answer first, count lost records.
    on_record_failure: str = _setting(
        "refuse", _DATA, "MODE", "refuse (default) or allow", choices=("refuse", "allow")
    )
    #: Days that event history shows.
    history_retention_days: int = _setting(
        90,
        _DATA,
        "N",
        "days that event history shows ({d.history_retention_days})",
        read=_read_whole,
    )
    #: Days that event history shows data and network activity events; default and maximum are
    #: `--history-retention-days`.
    data_event_days: int | None = _setting(
        None, _DATA, "N", "the same for data events (--history-retention-days)", read=_read_whole
    )
    #: Bytes that the journal and event history may take in the data directory, such as `50GB`;
    #: None: no limit. Beyond it the oldest data events expire, then the oldest other events.
    history_size: int | None = _setting(
        None, _DATA, "SIZE", "disk space for records, such as 50GB (no limit)", read=read_size
    )
    #: Events that expire while the disk is more than 90 % full: `data`, the oldest data events;
    #: `all`, also the oldest other events when no data event is left; `off`, nothing.
    disk_full_expiry: str = _setting(
        "data",
        _DATA,
        "MODE",
        "what expires on a full disk: data (default), all or off",
        choices=("data", "all", "off"),
    )
    #: Records per file of event history.
    history_seal_records: int = _setting(
        120_000, _DATA, "N", "records per sealed file ({d.history_seal_records})", read=_read_whole
    )
    #: Seconds between deliveries of log files; in the sandbox 10.
    delivery_interval: float = _setting(
        300.0,
        _TRAILS,
        "SECONDS",
        "time between log files ({d.delivery_interval:g})",
        read=read_number,
    )
    #: Seconds between digest files; in the sandbox 60.
    digest_interval: float = _setting(
        3600.0,
        _TRAILS,
        "SECONDS",
        "time between digest files ({d.digest_interval:g})",
        read=read_number,
    )
    #: Days for which a key signs digests before a new one replaces it.
    signing_key_days: int = _setting(
        90, _TRAILS, "N", "lifetime of a signing key ({d.signing_key_days})", read=_read_days
    )
    #: Maximum trails of an account in a Region, shadow trails counted; AWS's quota is 5.
    trails_per_region: int = _setting(
        5,
        _TRAILS,
        "N",
        "maximum trails in a Region ({d.trails_per_region}, as on AWS)",
        read=_read_whole,
    )
    #: `permissive`: a trail may use any writable bucket; `enforced`: the bucket policy must allow
    #: CloudTrail to deliver, as AWS demands.
    bucket_policy_check: str = _setting(
        "permissive",
        _TRAILS,
        "MODE",
        "permissive (default) or enforced, as AWS",
        choices=("permissive", "enforced"),
    )
    #: Source of the accounts of organization trails: `upstream` asks AWS Organizations there (the
    #: sandbox does); `off`: there is no organization. An `[organization]` table in the file
    #: describes it by `id`, `management_account` and `accounts`.
    organization: str | Organization = _setting(
        "off",
        _TRAILS,
        "MODE",
        "accounts of organization trails: {organization}",
        choices=("off", "upstream"),
    )
    #: `auto`: rules of the upstream's event buses get the events that trails select; `off`: none.
    event_bridge: str = _setting(
        "auto", _TRAILS, "MODE", "auto (default): rules get events; or off", choices=("auto", "off")
    )
    #: OpenTelemetry collector that gets all events as logs (OTLP/HTTP with JSON), such as
    #: `http://127.0.0.1:4318`; none by default.
    otlp_endpoint: str | None = _setting(
        None, _TRAILS, "URL", "OpenTelemetry collector for all events, as logs", read=read_collector
    )
    #: Headers for it, such as `Authorization=Bearer TOKEN,X-Scope-OrgID=1`; refused in the flag,
    #: where other users of the machine could see them.
    otlp_headers: Mapping[str, str] = _setting({}, read=read_headers, repr=False)
    #: Body of these logs: `record`, the exact record; `ocsf`, the event in the form of OCSF 1.5;
    #: `none`, only the attributes.
    otlp_body: str = _setting(
        "record",
        _TRAILS,
        "FORM",
        "body of these logs: record (default), ocsf or none",
        choices=("record", "ocsf", "none"),
    )
    #: `on`: opentrail records unusual activity for event history; `off`: only for trails with
    #: Insights.
    insights: str = _setting(
        "on",
        _ACTIVITY,
        "MODE",
        "on (default): record unusual activity; or off",
        choices=("on", "off"),
    )
    #: Threshold for unusual activity: `balanced`, `strict` (fewer alarms) or `aws` (more).
    insights_preset: str = _setting(
        "balanced",
        _ACTIVITY,
        "NAME",
        "balanced (default), strict or aws",
        choices=("balanced", "strict", "aws"),
    )
    #: Types of unusual activity of principals to record in event history, such as
    #: `new-api,access-denied`, or `all`; none by default.
    insights_types: tuple[str, ...] = _setting(
        (), _ACTIVITY, "NAMES", "types about principals to record, or all", read=read_insights_types
    )
    #: Webhook that gets each match of a detection, such as `https://alerts.example/opentrail`; none
    #: by default. Its address must be on the internet or in `--detections-webhook-networks`.
    detections_webhook: str | None = _setting(
        None, _ACTIVITY, "URL", "webhook for matches of detections", read=read_webhook, repr=False
    )
    #: Key that signs requests to the webhook (HMAC-SHA-256); refused in the flag, where other users
    #: of the machine could see it.
    detections_webhook_secret: str | None = _setting(None, read=read_secret, repr=False)
    #: Private networks, such as `10.0.0.0/8`, that the webhook may be in.
    detections_webhook_networks: tuple[str, ...] = _setting(
        (),
        _ACTIVITY,
        "NETWORKS",
        "private networks that the webhook may be in",
        read=read_private_networks,
    )
    #: Form of the webhook's messages: `opentrail`, the event of each match; `slack`, `teams`,
    #: `pagerduty` or `alertmanager`, an alert in the form of that service, at most one per rule and
    #: minute.
    detections_webhook_form: str = _setting(
        "opentrail",
        _ACTIVITY,
        "FORM",
        "opentrail (default), slack, teams, pagerduty or alertmanager",
        choices=("opentrail", "slack", "teams", "pagerduty", "alertmanager"),
    )
    #: Integration key of a PagerDuty service, for the form `pagerduty`; refused in the flag, where
    #: other users of the machine could see it.
    detections_webhook_routing_key: str | None = _setting(None, read=read_secret, repr=False)
    #: Whether the webhook also gets insights: beginning or ending unusual activity, and first uses.
    detections_webhook_insights: str = _setting(
        "off", _ACTIVITY, "MODE", "off (default); on: it also gets insights", choices=("on", "off")
    )
    #: Roles of the console: string in the claim → viewer, auditor, operator or admin.
    oidc_roles: Mapping[str, str] = field(default_factory=dict)
    #: Known keys: access key id → identity (`[directory.KEY-ID]`).
    directory: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: VPC endpoints: id → networks behind it, and optionally its owner's account.
    vpc_endpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Credentials for upstreams: service name → access; `""` is every other service.
    access: Mapping[str, UpstreamAccess] = field(default_factory=dict)

    @property
    def days_of_data(self) -> int:
        """Days that event history shows data events."""
        return self.data_event_days or self.history_retention_days

    @property
    def has_history(self) -> bool:
        """Whether the server keeps event history."""
        return self.role != "recorder"


#: Defaults of the sandbox, where log files should appear soon.
SANDBOX_DEFAULTS = Settings(delivery_interval=10.0, digest_interval=60.0, organization="upstream")
ROLES = ("viewer", "auditor", "operator", "admin")
#: Settings that may be given by flag and environment, by name.
SETTINGS: Mapping[str, Setting] = {
    each.name: each.metadata[_SETTING] for each in fields(Settings) if each.metadata
}
