"""Reads the settings of a server: flag before environment before file before default."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from opentrail.core.errors import UsageError
from opentrail.core.organization import read_organization
from opentrail.core.selectors.selection import Selection, records_all_management
from opentrail.setting_values import read_networks
from opentrail.settings import (
    FORMER_FLAGS,
    FORMER_NAMES,
    ROLES,
    SETTINGS,
    Settings,
    UpstreamAccess,
)

#: Maximum of `recorders`, to catch typos.
MAX_RECORDERS = 256
#: Characters of an integration key of PagerDuty.
_ROUTING_KEY_SIZE = 32
#: Minimum of `history_size`, because the journal needs space until events are in a file.
MIN_HISTORY_BYTES = 50 * 10**6


def load(
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    config: Path | None = None,
    defaults: Settings | None = None,
) -> Settings:
    """Returns the settings: flag before environment before file before default.

    Raises:
        UsageError: a value is invalid; the message names the setting and the expected form.
    """
    config = config or _path(environment.get("OPENTRAIL_CONFIG"))
    settings = defaults or Settings()
    if config is not None:
        settings = _from_file(settings, config)
    for given in (*FORMER_NAMES, *SETTINGS):
        variable, name = _variable(given), FORMER_NAMES.get(given, given)
        if environment.get(variable):
            raw: Any = environment[variable]
            parsed = raw.split(",") if SETTINGS[name].is_repeatable else raw
            settings = _with(settings, name, parsed, variable)
            if name != given:
                _report_new_name(variable, _variable(name))
    for given, value in flags.items():
        name, flag = FORMER_NAMES.get(given, given), f"--{given.replace('_', '-')}"
        if value is not None and name in SETTINGS:
            settings = _with(settings, name, value, flag)
            if given in FORMER_FLAGS:
                _report_new_name(flag, f"{_place(name)} of the file, or {_variable(name)}")
    _check(settings)
    return settings


def _variable(name: str) -> str:
    return f"OPENTRAIL_{name.upper()}"


def _place(name: str) -> str:
    """Returns the key in a table of the file: `[webhook] url`."""
    table = SETTINGS[name].table
    return f"[{table}] {name.removeprefix(f'{table}_')}"


def _report_new_name(given: str, new: str) -> None:
    sys.stderr.write(f"opentrail: {given} is now {new}\n")


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _from_file(settings: Settings, file: Path) -> Settings:
    try:
        document = tomllib.loads(file.read_text())
    except OSError as error:
        raise UsageError(f"config file {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"config file {file} is not TOML: {error}") from error
    for key, value in document.items():
        settings = _with_key(settings, key, value, file)
    return settings


def _with_key(settings: Settings, key: str, value: Any, file: Path) -> Settings:
    name = key.replace("-", "_")
    if name in _READERS:
        settings = replace(settings, **{name: _READERS[name](value, file)})
        if name == "oidc_roles":
            _report_new_name(f"[oidc_roles] in {file}", "[oidc.roles]")
    elif name in _TABLES:
        settings = _of_table(settings, name, value, file)
    elif name == "upstream" and isinstance(value, dict):
        settings = _upstream_table(settings, value, file)
    elif name == "organization" and isinstance(value, dict):
        settings = replace(settings, organization=read_organization(value, f"{key} in {file}"))
    elif (new := FORMER_NAMES.get(name, name)) in SETTINGS:
        settings = _with(settings, new, value, f"{key} in {file}")
        if SETTINGS[new].table:
            _report_new_name(f"{key} in {file}", _place(new))
    else:
        raise UsageError(f"config file {file} has an unknown key {key!r}")
    return settings


#: The tables of the file that have settings.
_TABLES = frozenset(setting.table for setting in SETTINGS.values() if setting.table)


def _of_table(settings: Settings, table: str, value: Any, file: Path) -> Settings:
    """Reads a table of settings, such as `[webhook]`."""
    start = f"{table}_"
    keys = [name.removeprefix(start) for name in SETTINGS if name.startswith(start)]
    keys += ["roles"] if table == "oidc" else []
    if not isinstance(value, dict):
        raise UsageError(f"{table} in {file} must be a table with {', '.join(keys)}")
    for given, each in value.items():
        key = given.replace("-", "_")
        if key not in keys:
            raise UsageError(
                f"[{table}] in {file} has an unknown key {given!r}; it takes {', '.join(keys)}"
            )
        if key == "roles":
            settings = replace(settings, oidc_roles=_oidc_roles(each, file))
        else:
            settings = _with(settings, f"{table}_{key}", each, f"{given} of [{table}] in {file}")
    return settings


def _directory(value: Any, file: Path) -> dict[str, Any]:
    if isinstance(value, str):
        other = file.parent / value
        try:
            value = tomllib.loads(other.read_text())
        except (OSError, ValueError) as error:
            raise UsageError(f"directory file {other} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"directory in {file} must be a table or the name of a file")
    for key_id, entry in value.items():
        has_user = isinstance(entry, dict) and isinstance(entry.get("user"), str) and entry["user"]
        if not has_user and not (isinstance(entry, dict) and entry.get("root") is True):
            raise UsageError(
                f"directory entry {key_id!r} in {file} needs user = NAME or root = true"
            )
    return value


def _vpc_endpoints(value: Any, file: Path) -> dict[str, Any]:
    """Reads `[vpc_endpoints.vpce-…]` tables: `networks`, and perhaps `account`."""
    if not isinstance(value, dict):
        raise UsageError(f"vpc_endpoints in {file} must be a table")
    endpoints = {}
    for name, entry in value.items():
        source = f"vpc_endpoints.{name} in {file}"
        if not isinstance(entry, dict) or entry.keys() - {"networks", "account"}:
            raise UsageError(f"{source} must be a table with networks and, optionally, account")
        networks = read_networks(entry.get("networks", []), f"{source}: networks")
        account = entry.get("account", "0" * 12)
        if not isinstance(account, str) or len(account) != 12 or not account.isdigit():
            raise UsageError(f"{source}: account must be a string of 12 digits, not {account!r}")
        endpoints[name] = {**entry, "networks": networks}
    return endpoints


def _oidc_roles(value: Any, file: Path) -> dict[str, str]:
    if not isinstance(value, dict) or not set(map(str, value.values())) <= set(ROLES):
        raise UsageError(f"[oidc.roles] in {file} must map strings to {', '.join(ROLES)}")
    return value


def _upstream_table(settings: Settings, table: dict[str, Any], file: Path) -> Settings:
    """Reads `[upstream]`: a URL or a table with `url` for each service, `default` for the rest."""
    for service, value in table.items():
        source = f"upstream.{service} in {file}"
        entry = value if isinstance(value, dict) else {"url": value}
        unknown = entry.keys() - _UPSTREAM_KEYS
        if unknown:
            raise UsageError(f"{source} has an unknown key {sorted(unknown)[0]!r}")
        name = "" if service == "default" else service
        url = entry.get("url")
        if url is not None:
            if not isinstance(url, str) or not url.startswith(("http://", "https://")):
                raise UsageError(f"{source} must be a URL, not {url!r}")
            settings = replace(settings, upstream={**settings.upstream, name: url})
        if entry.keys() - {"url"}:
            access = _upstream_access(entry, source)
            settings = replace(settings, access={**settings.access, name: access})
    return settings


#: Tables of the file that become a value as a whole.
_READERS: Mapping[str, Callable[[Any, Path], Any]] = {
    "directory": _directory,
    "vpc_endpoints": _vpc_endpoints,
    "oidc_roles": _oidc_roles,
}
_UPSTREAM_KEYS = frozenset(
    {"url", "access_key_id", "secret_access_key", "session_token", "region", "resign"}
)


def _upstream_access(table: dict[str, Any], source: str) -> UpstreamAccess:
    for name in ("access_key_id", "secret_access_key"):
        if not isinstance(table.get(name), str) or not table[name]:
            raise UsageError(f"{source} needs a string {name}")
    for name in ("session_token", "region"):
        if not isinstance(table.get(name, ""), str):
            raise UsageError(f"{source}: {name} must be a string, not {table[name]!r}")
    if not isinstance(table.get("resign", False), bool):
        raise UsageError(f"{source}: resign must be true or false, not {table['resign']!r}")
    return UpstreamAccess(**{name: value for name, value in table.items() if name != "url"})


def _with(settings: Settings, name: str, value: Any, source: str) -> Settings:
    setting = SETTINGS[name]
    if setting.read is not None:
        value = setting.read(value, source)
    elif value not in setting.choices:
        raise UsageError(f"{source} must be one of {', '.join(setting.choices)}, not {value!r}")
    if name == "upstream":
        value = {**settings.upstream, **value}
    return replace(settings, **{name: value})


def _check(settings: Settings) -> None:
    if settings.recorders > MAX_RECORDERS:
        raise UsageError(f"--recorders must be at most {MAX_RECORDERS}, not {settings.recorders}")
    for service, access in settings.access.items():
        if access.resign and service not in settings.upstream:
            name = service or "default"
            raise UsageError(f"upstream.{name}: resign needs a url in the same table")
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise UsageError("--tls-certificate and --tls-key belong together")
    for name in ("unknown_keys", "unsigned"):
        if not settings.verifies and getattr(settings, name) not in (None, "forward"):
            flag = f"--{name.replace('_', '-')} {getattr(settings, name)}"
            raise UsageError(f"{flag} needs --auth verify or enforced")
    _check_files(settings)
    _check_record(settings)
    _check_oidc(settings)
    _check_webhook(settings)
    if settings.otlp_endpoint is None and (settings.otlp_headers or settings.otlp_body != "record"):
        raise UsageError("[otlp] needs an endpoint for its headers or body")
    if not settings.insecure_trusted_networks:
        _check_addresses(settings)


def _check_webhook(settings: Settings) -> None:
    form, key = settings.webhook_form, settings.webhook_routing_key
    if (form == "pagerduty") != (key is not None):
        raise UsageError("[webhook]: form pagerduty and routing_key belong together")
    if key is not None and len(key) != _ROUTING_KEY_SIZE:  # PagerDuty would refuse every alert
        raise UsageError(f"[webhook]: routing_key must have 32 characters, not {len(key)}")
    if settings.webhook_url is None and (
        form != "opentrail"
        or settings.webhook_secret
        or settings.webhook_networks
        or settings.webhook_insights == "on"
    ):
        raise UsageError("[webhook] needs a url for its other keys")


def _check_oidc(settings: Settings) -> None:
    if (settings.oidc_issuer is None) != (settings.oidc_client_id is None):
        raise UsageError("[oidc]: issuer and client_id belong together")
    if settings.oidc_issuer is not None and not settings.oidc_roles:
        raise UsageError("[oidc]: issuer needs a table [oidc.roles] in the file given by --config")
    if settings.oidc_issuer is None and settings.oidc_accounts_claim is not None:
        raise UsageError("[oidc]: accounts_claim needs issuer")


def _check_files(settings: Settings) -> None:
    if settings.files is not None and "sqlite" in (settings.journal, settings.control_store):
        raise UsageError("--files needs --journal and --control-store on PostgreSQL")
    if settings.history_cache is not None and settings.files is None:
        raise UsageError("--history-cache needs --files")
    if settings.days_of_data > settings.history_retention_days:
        raise UsageError("--data-event-days must be at most --history-retention-days")
    if settings.history_size is not None and settings.history_size < MIN_HISTORY_BYTES:
        raise UsageError("--history-size must be at least 50MB")


def _check_record(settings: Settings) -> None:
    if settings.record == "all" or settings.leave_out_management_events == "on":
        return
    if isinstance(settings.record, Selection) and not records_all_management(settings.record):
        raise UsageError(
            "record leaves out management events: add a selector whose only field is "
            '{ Field = "eventCategory", Equals = ["Management"] }, or set '
            '--leave-out-management-events on (leave_out_management_events = "on")'
        )


def _check_addresses(settings: Settings) -> None:
    if not settings.listen.is_loopback and not settings.verifies:
        raise UsageError(
            f"--listen {settings.listen.host} is not a loopback address: with --auth permissive "
            "anyone who can connect could claim any identity; use 127.0.0.1, --auth enforced, or, "
            "between containers, --insecure-trusted-networks"
        )
    is_open = settings.tls_certificate is not None and settings.verifies
    if not settings.console_listen.is_loopback and not is_open:
        raise UsageError(
            f"--console-listen {settings.console_listen.host} is not a loopback address: it needs "
            "--tls-certificate, --tls-key and --auth enforced, or, between containers, "
            "--insecure-trusted-networks"
        )


def from_environment(
    flags: Mapping[str, Any], config: str | None, defaults: Settings | None = None
) -> Settings:
    """Returns the settings of this process."""
    return load(flags, os.environ, Path(config) if config else None, defaults)
