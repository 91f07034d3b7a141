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
    read_domains,
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
    #: Whether the flag may be given more than once; the variable then has commas.
    is_repeatable: bool
    #: The table of the file that has it, under the rest of its name; "": it is in none.
    table: str
    #: Whether help and reference leave it out: tests and measurements need it.
    is_hidden: bool


def _setting(
    default: Any,
    group: str | None = None,
    metavar: str = "",
    help: str = "",  # noqa: A002 - argparse's name
    read: Callable[[Any, str], Any] | None = None,
    choices: tuple[str, ...] = (),
    repr: bool = True,  # noqa: A002 - the name in dataclasses
    is_repeatable: bool = False,
    table: str = "",
    is_hidden: bool = False,
) -> Any:
    """Declares a field of `Settings` with a default; `Setting` describes the other arguments."""
    setting = Setting(group, metavar, help, read, choices, is_repeatable, table, is_hidden)
    metadata = {_SETTING: setting}
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
    #: Address of the console, `/health`, `/metrics` and the command line's API. A non-loopback
    #: address requires TLS and signatures that are verified (`--auth`).
    console_listen: Address = _setting(
        Address("127.0.0.1", 4748),
        _ADDRESSES,
        "HOST:PORT",
        "health and API ({d.console_listen.host}:{d.console_listen.port})",
        read=_read_address,
    )
    #: Public address of the console behind a proxy that terminates TLS, such as
    #: `https://trail.example.com`. The proxy must pass the `Host` header unchanged. Requests for
    #: this host are treated as TLS requests.
    console_url: str | None = _setting(
        None,
        _ADDRESSES,
        "URL",
        "address of the console behind a TLS proxy: https://HOST",
        read=read_console_url,
    )
    #: URL of the upstream for each service; `""` means all other services.
    upstream: Mapping[str, str] = _setting(
        {},
        _ADDRESSES,
        "[SERVICE=]URL",
        "where calls go; repeatable",
        read=read_upstreams,
        is_repeatable=True,
    )
    #: Names under which the upstream reads `BUCKET.NAME` as a bucket's virtual host: SeaweedFS's
    #: `-s3.domainName`, Ceph's `rgw_dns_name`. Wildcard names in the certificate count as well.
    domain: tuple[str, ...] = _setting(
        (),
        _ADDRESSES,
        "NAME",
        "a name whose virtual hosts BUCKET.NAME the upstream reads; repeatable",
        read=read_domains,
        is_repeatable=True,
    )
    #: Seconds an upstream may be silent before or during a response.
    upstream_timeout: float = _setting(
        910.0,
        _ADDRESSES,
        "SECONDS",
        "timeout of an upstream ({d.upstream_timeout:g})",
        read=read_number,
    )
    #: `on`: at startup, opentrail identifies each upstream with GET requests without credentials;
    #: `off`: upstreams receive only the clients' calls.
    upstream_check: str = _setting(
        "on",
        _ADDRESSES,
        "MODE",
        "on (default): check upstreams at the start; or off",
        choices=("on", "off"),
        is_hidden=True,
    )
    #: PEM file with the certificate authorities trusted for upstreams.
    upstream_ca: Path | None = _setting(
        None, _ADDRESSES, "FILE", "PEM file with the authorities of https upstreams", read=read_file
    )
    #: Networks of trusted proxies. Their `X-Forwarded-For` header determines the caller's address.
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        _ADDRESSES,
        "NETWORKS",
        "proxies whose X-Forwarded-For counts: 10.0.0.0/8,…",
        read=read_networks,
    )
    #: Private networks, such as a container network. Their hosts may connect with `--auth
    #: permissive` and without TLS, and can then impersonate any caller and read other hosts'
    #: traffic. Hosts in other networks can't connect.
    insecure_trusted_networks: tuple[str, ...] = _setting(
        (),
        _ADDRESSES,
        "NETWORKS",
        "private networks that may call without --auth verify and TLS",
        read=read_private_networks,
    )
    #: PEM certificate for the AWS endpoint and the console; both then use TLS. Send SIGHUP to
    #: reload the certificate and the key.
    tls_certificate: Path | None = _setting(
        None, _ADDRESSES, "FILE", "PEM certificate; both ports then use TLS", read=read_file
    )
    #: PEM file with the certificate's key.
    tls_key: Path | None = _setting(
        None, _ADDRESSES, "FILE", "PEM key of the certificate", read=read_file
    )
    #: `permissive`: opentrail doesn't verify signatures; it assumes that the caller owns the
    #: access key id. Only loopback addresses and `--insecure-trusted-networks` can connect.
    #: `verify`: signatures are verified against the key directory (`opentrail keys`), and policies
    #: decide who may call opentrail's own API; the upstream decides on unsigned calls and calls
    #: with other keys. `enforced`: as `verify`, but opentrail rejects those calls.
    auth: str = _setting(
        "permissive",
        _CALLERS,
        "MODE",
        "permissive (default); verify signatures; or enforced: only known callers",
        choices=("permissive", "verify", "enforced"),
    )
    #: How calls with keys that aren't in the key directory are handled: `forward` lets the upstream
    #: decide, `refuse` rejects them. The default follows `--auth`: `refuse` with `enforced`,
    #: `forward` with `verify`.
    unknown_keys: str | None = _setting(
        None,
        _CALLERS,
        "MODE",
        "forward (default with verify) or refuse (default with enforced)",
        choices=("forward", "refuse"),
    )
    #: How unsigned calls are handled, by the same defaults. With `sign-in`, only calls of the
    #: operations that AWS takes unsigned are forwarded, such as `AssumeRoleWithWebIdentity`. CORS
    #: preflight requests to S3 are always forwarded.
    unsigned: str | None = _setting(
        None,
        _CALLERS,
        "MODE",
        "forward (default with verify), refuse (default with enforced) or sign-in",
        choices=("forward", "refuse", "sign-in"),
    )
    #: Issuer (an https URL) of the OpenID Connect provider that users sign in with.
    oidc_issuer: str | None = _setting(None, read=read_issuer, table="oidc")
    #: This server's client ID at the provider.
    oidc_client_id: str | None = _setting(None, read=read_text, table="oidc")
    #: This server's client secret at the provider; public clients have none.
    oidc_client_secret: str | None = _setting(None, read=read_secret, repr=False, table="oidc")
    #: ID token claim that determines a user's role, according to the table `[oidc.roles]` in the
    #: file. Use dots for nested claims: `realm_access.roles`.
    oidc_role_claim: str = _setting("roles", read=read_text, table="oidc")
    #: ID token claim with the ids of the accounts a user may see, or `*` for all accounts. Use dots
    #: for nested claims. If a user's claim contains neither, they can't sign in. None: all users
    #: may see all accounts.
    oidc_accounts_claim: str | None = _setting(None, read=read_text, table="oidc")
    #: Folder for the server's data.
    data_dir: Path = _setting(
        Path("opentrail-data"),
        _DATA,
        "DIR",
        "folder with all data (./{d.data_dir})",
        read=_read_folder,
    )
    #: Database for trails, keys and other state: `sqlite` (in the data directory), or
    #: `postgresql://USER:PASSWORD@HOST/DATABASE`, a database only this server uses. The flag
    #: doesn't accept a password, because other users of the machine could see it.
    control_store: str = _setting(
        "sqlite",
        _DATA,
        "URL",
        "sqlite (default) or postgresql://USER@HOST/DATABASE",
        read=read_database,
        repr=False,
    )
    #: Database for the journal, where each call is stored first: `sqlite` (in the data directory),
    #: or `postgresql://USER:PASSWORD@HOST,HOST/DATABASE`, a database only this server uses. The
    #: flag doesn't accept a password, because other users of the machine could see it.
    journal: str = _setting(
        "sqlite",
        _DATA,
        "URL",
        "sqlite (default) or postgresql://USER@HOST/DATABASE",
        read=read_database,
        repr=False,
    )
    #: Location where several servers share event history files: `s3://BUCKET/PREFIX`, in the same
    #: S3 that trails deliver to. Requires the journal and the control store on PostgreSQL.
    files: str | None = _setting(
        None, _DATA, "s3://…", "history files that several servers share, in S3", read=read_place
    )
    #: Maximum size of this server's local copies of these files, without their indexes, such as
    #: `20GB`. None: no limit. Lookups download the files they need, and the least recently used
    #: ones are deleted.
    history_cache: int | None = _setting(
        None, _DATA, "SIZE", "local cache of these files, such as 20GB (all)", read=read_size
    )
    #: A cluster server's tasks besides answering and recording calls. Servers with the role `all`
    #: or `worker` have event history, and one of them does the cluster's shared work. A `query`
    #: server has only event history. A `recorder` has no other tasks and needs less memory and
    #: disk space.
    role: str = _setting(
        "all",
        _DATA,
        "ROLE",
        "role in a cluster: all, recorder, worker or query",
        choices=("all", "recorder", "worker", "query"),
    )
    #: Number of recorder processes that share the port, if one core is not enough.
    recorders: int = _setting(1, _DATA, "N", "recorder processes ({d.recorders})", read=_read_whole)
    #: `all` records all calls. With advanced event selectors, only matching calls are recorded; the
    #: rest are forwarded and counted, but no other data about them is stored. Set the selectors as
    #: a list in a JSON file, or as `[[record]]` tables in the configuration file.
    record: str | Selection = _setting(
        "all",
        _DATA,
        "SELECTORS",
        "all (default), or a JSON file of event selectors",
        read=read_record,
    )
    #: `off`: `record` must select all management events; `on`: it may leave some out.
    leave_out_management_events: str = _setting(
        "off",
        _DATA,
        "MODE",
        "off (default) or on: --record may leave them out",
        choices=("off", "on"),
    )
    #: `refuse`: clients get an answer only once the call is recorded; `allow`: they get it first,
    #: and lost records are counted.
    on_record_failure: str = _setting(
        "refuse", _DATA, "MODE", "refuse (default) or allow", choices=("refuse", "allow")
    )
    #: Number of days to keep events in event history.
    history_retention_days: int = _setting(
        90,
        _DATA,
        "N",
        "days that event history shows ({d.history_retention_days})",
        read=_read_whole,
    )
    #: Number of days to keep data events and network activity events in event history. The default
    #: and the maximum are `--history-retention-days`.
    data_event_days: int | None = _setting(
        None, _DATA, "N", "the same for data events (--history-retention-days)", read=_read_whole
    )
    #: Maximum size of the journal and event history in the data directory, such as `50GB`. None: no
    #: limit. When it's exceeded, the oldest data events expire first, then the oldest other events.
    history_size: int | None = _setting(
        None, _DATA, "SIZE", "disk space for records, such as 50GB (no limit)", read=read_size
    )
    #: Which events expire while the disk is more than 90 % full: `data`, the oldest data events;
    #: `all`, also the oldest other events once no data events remain; `refuse`, none: when the disk
    #: is full, calls are handled as `--on-record-failure` says. `off` is the old name of `refuse`.
    disk_full_expiry: str = _setting(
        "refuse",
        _DATA,
        "MODE",
        "what expires on a full disk: refuse (default; nothing), data or all",
        choices=("refuse", "data", "all", "off"),
    )
    #: Number of records in each event history file.
    history_seal_records: int = _setting(
        120_000, _DATA, "N", "records per sealed file", read=_read_whole, is_hidden=True
    )
    #: Seconds between deliveries of log files (10 in the sandbox).
    delivery_interval: float = _setting(
        300.0,
        _TRAILS,
        "SECONDS",
        "time between log files ({d.delivery_interval:g})",
        read=read_number,
    )
    #: Seconds between digest files (60 in the sandbox).
    digest_interval: float = _setting(
        3600.0,
        _TRAILS,
        "SECONDS",
        "time between digest files ({d.digest_interval:g})",
        read=read_number,
    )
    #: Number of days a key signs digests before a new key replaces it.
    signing_key_days: int = _setting(
        90, _TRAILS, "N", "lifetime of a signing key ({d.signing_key_days})", read=_read_days
    )
    #: Maximum number of trails per account and Region, including shadow trails. AWS's quota is 5.
    trails_per_region: int = _setting(
        5,
        _TRAILS,
        "N",
        "maximum trails in a Region ({d.trails_per_region}, as on AWS)",
        read=_read_whole,
    )
    #: `permissive`: a trail can use any writable bucket; `enforced`, the default with
    #: `--auth enforced`: the bucket policy must allow CloudTrail to deliver, as on AWS.
    bucket_policy_check: str | None = _setting(
        None,
        _TRAILS,
        "MODE",
        "permissive (default) or enforced (default with --auth enforced)",
        choices=("permissive", "enforced"),
    )
    #: Where the accounts of organization trails come from. `upstream` asks AWS Organizations on the
    #: upstream, as the sandbox does; with `off`, there's no organization. To describe an
    #: organization yourself, add an `[organization]` table with `id`, `management_account` and
    #: `accounts` to the file.
    organization: str | Organization = _setting(
        "off",
        _TRAILS,
        "MODE",
        "accounts of organization trails: {organization}",
        choices=("off", "upstream"),
    )
    #: `auto`: rules on the upstream's event buses receive the events that trails select; `off`:
    #: they receive none.
    event_bridge: str = _setting(
        "auto", _TRAILS, "MODE", "auto (default): rules get events; or off", choices=("auto", "off")
    )
    #: OpenTelemetry collector that receives all events as logs (OTLP/HTTP with JSON), such as
    #: `http://127.0.0.1:4318`. None by default.
    otlp_endpoint: str | None = _setting(
        None,
        _TRAILS,
        "URL",
        "OpenTelemetry collector for all events, as logs",
        read=read_collector,
        table="otlp",
    )
    #: Headers for the collector, such as `Authorization=Bearer TOKEN,X-Scope-OrgID=1`.
    otlp_headers: Mapping[str, str] = _setting({}, read=read_headers, repr=False, table="otlp")
    #: Body of these logs: `record`, the exact record; `ocsf`, an OCSF 1.5 event; `none`, only
    #: attributes.
    otlp_body: str = _setting("record", choices=("record", "ocsf", "none"), table="otlp")
    #: `on`: unusual activity is recorded in event history; `off`: only for trails with insight
    #: selectors.
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
    #: Types of unusual principal activity to record in event history, such as
    #: `new-api,access-denied`, or `all`. None by default.
    insights_types: tuple[str, ...] = _setting(
        (), _ACTIVITY, "NAMES", "types about principals to record, or all", read=read_insights_types
    )
    #: Webhook that receives each detection match, such as `https://alerts.example/opentrail`. None
    #: by default. Its address must be public, or in `networks`.
    webhook_url: str | None = _setting(
        None,
        _ACTIVITY,
        "URL",
        "webhook for matches of detections",
        read=read_webhook,
        repr=False,
        table="webhook",
    )
    #: Key for signing requests to the webhook (HMAC-SHA-256).
    webhook_secret: str | None = _setting(None, read=read_secret, repr=False, table="webhook")
    #: Private networks the webhook may be in, such as `10.0.0.0/8`.
    webhook_networks: tuple[str, ...] = _setting((), read=read_private_networks, table="webhook")
    #: Format of the webhook's messages: `opentrail`, the event of each match; `slack`, `teams`,
    #: `pagerduty` or `alertmanager`, an alert in that service's format, at most one per rule per
    #: minute.
    webhook_form: str = _setting(
        "opentrail",
        choices=("opentrail", "slack", "teams", "pagerduty", "alertmanager"),
        table="webhook",
    )
    #: Integration key of a PagerDuty service, for the form `pagerduty`.
    webhook_routing_key: str | None = _setting(None, read=read_secret, repr=False, table="webhook")
    #: Whether the webhook also receives insights: the beginning and end of unusual activity, and
    #: first uses.
    webhook_insights: str = _setting("off", choices=("on", "off"), table="webhook")
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
    def verifies(self) -> bool:
        """Whether signatures are verified, and policies decide on calls of opentrail's API."""
        return self.auth != "permissive"

    @property
    def of_unknown_keys(self) -> str:
        """What happens to calls of keys that aren't in the key directory."""
        return self.unknown_keys or self._by_default

    @property
    def of_unsigned(self) -> str:
        """What happens to unsigned calls."""
        return self.unsigned or self._by_default

    @property
    def _by_default(self) -> str:
        return "refuse" if self.auth == "enforced" else "forward"

    @property
    def needs_bucket_policy(self) -> bool:
        """Whether a bucket's policy must allow CloudTrail to deliver."""
        return (self.bucket_policy_check or self.auth) == "enforced"

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
#: Former names of settings, as flags, variables and keys of the file, for one more release.
FORMER_NAMES: Mapping[str, str] = {
    "detections_webhook": "webhook_url",
    "detections_webhook_secret": "webhook_secret",
    "detections_webhook_networks": "webhook_networks",
    "detections_webhook_form": "webhook_form",
    "detections_webhook_routing_key": "webhook_routing_key",
    "detections_webhook_insights": "webhook_insights",
}
#: Former flags of settings that are in a table of the file now, for one more release.
FORMER_FLAGS = (
    *("oidc_issuer", "oidc_client_id", "oidc_role_claim", "oidc_accounts_claim", "otlp_body"),
    *("detections_webhook", "detections_webhook_networks", "detections_webhook_form"),
    "detections_webhook_insights",
)
