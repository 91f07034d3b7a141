"""Settings: flag before environment before file before default, and every wrong value named."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from opentrail.core.errors import UsageError
from opentrail.core.insight_types import PRINCIPAL_TYPES
from opentrail.core.organization import Organization
from opentrail.setting_sources import from_environment, load
from opentrail.settings import (
    FORMER_FLAGS,
    FORMER_NAMES,
    SANDBOX_DEFAULTS,
    SETTINGS,
    Address,
    Settings,
    UpstreamAccess,
)

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration file and returns its path."""

    def write_file(text: str) -> Path:
        file = tmp_path / "opentrail.toml"
        file.write_text(text)
        return file

    return write_file


def refused(
    flags: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    config: Path | None = None,
) -> str:
    """Returns the error message about wrong settings."""
    with pytest.raises(UsageError) as wrong:
        load(flags or {}, environment or {}, config)
    return str(wrong.value)


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def variable(name: str) -> str:
    return f"OPENTRAIL_{name.upper()}"


def in_table(name: str) -> str:
    """Returns the key of a setting in the file: `webhook.url`."""
    table = SETTINGS[name].table
    return f"{table}.{name.removeprefix(f'{table}_')}" if table else name


#: setting → (TOML of the file, text of the environment, value of the flag, each with its result).
SOURCES: dict[str, tuple[tuple[str, Any], tuple[str, Any], tuple[Any, Any]]] = {
    "data_dir": (('"/file"', Path("/file")), ("/env", Path("/env")), ("/flag", Path("/flag"))),
    "listen": (
        ('"127.0.0.1:1"', Address("127.0.0.1", 1)),
        ("localhost:2", Address("localhost", 2)),
        ("[::1]:3", Address("::1", 3)),
    ),
    "console_listen": (
        ('"127.0.0.1:1"', Address("127.0.0.1", 1)),
        ("localhost:2", Address("localhost", 2)),
        ("[::1]:3", Address("::1", 3)),
    ),
    "upstream": (
        ('"http://file"', {"": "http://file"}),
        ("http://env", {"": "http://env"}),
        (["http://flag"], {"": "http://flag"}),
    ),
    "delivery_interval": (("1.5", 1.5), ("2.5", 2.5), ("3", 3.0)),
    "digest_interval": (("60", 60.0), ("120", 120.0), ("0.5", 0.5)),
    "upstream_timeout": (("60", 60.0), ("120", 120.0), ("0.5", 0.5)),
    "signing_key_days": (("1", 1), ("2", 2), ("3", 3)),
    "bucket_policy_check": (
        ('"enforced"', "enforced"),
        ("permissive", "permissive"),
        ("enforced", "enforced"),
    ),
    "organization": (('"upstream"', "upstream"), ("off", "off"), ("upstream", "upstream")),
    "event_bridge": (('"off"', "off"), ("auto", "auto"), ("off", "off")),
    "insights": (('"off"', "off"), ("on", "on"), ("off", "off")),
    "upstream_check": (('"off"', "off"), ("on", "on"), ("off", "off")),
    "role": (('"recorder"', "recorder"), ("query", "query"), ("worker", "worker")),
    "insights_preset": (('"strict"', "strict"), ("aws", "aws"), ("balanced", "balanced")),
    "insights_types": (
        ('["new-api", "new-region"]', ("new-api", "new-region")),
        ("access-denied, new-api", ("new-api", "access-denied")),
        ("all", PRINCIPAL_TYPES),
    ),
    "history_retention_days": (("1", 1), ("2", 2), ("3", 3)),
    "data_event_days": (("1", 1), ("2", 2), ("3", 3)),
    "history_size": (('"60MB"', 60_000_000), ("1GB", 10**9), ("50GB", 50 * 10**9)),
    "disk_full_expiry": (('"all"', "all"), ("off", "off"), ("refuse", "refuse")),
    "history_seal_records": (("10", 10), ("20", 20), ("30", 30)),
    "trails_per_region": (("10", 10), ("20", 20), ("30", 30)),
    "record": (('"all"', "all"), ("all", "all"), ("all", "all")),
    "leave_out_management_events": (('"on"', "on"), ("off", "off"), ("on", "on")),
    "on_record_failure": (('"allow"', "allow"), ("refuse", "refuse"), ("allow", "allow")),
    "auth": (
        ('"permissive"', "permissive"),
        ("enforced", "enforced"),
        ("permissive", "permissive"),
    ),
    "control_store": (
        ('"postgresql://u:p@file/d"', "postgresql://u:p@file/d"),
        ("postgresql://u:p@env/d", "postgresql://u:p@env/d"),
        ("postgresql:///d?host=/run", "postgresql:///d?host=/run"),
    ),
    "journal": (
        ('"postgresql://u:p@file/d"', "postgresql://u:p@file/d"),
        ("postgresql://u:p@one:1,two:2/d", "postgresql://u:p@one:1,two:2/d"),
        ("postgresql:///d?host=/run", "postgresql:///d?host=/run"),
    ),
    "oidc_role_claim": (('"groups"', "groups"), ("a", "a"), ("b", "b")),
    "console_url": (
        ('"https://file.example"', "https://file.example"),
        ("https://ENV.example:443/", "https://env.example"),
        ("https://[::1]:8443", "https://[::1]:8443"),
    ),
    "domain": (
        ('"s3.file.example"', ("s3.file.example",)),
        ("s3.env.example,S3.ENV.example", ("s3.env.example", "s3.env.example")),
        (["s3.flag.example"], ("s3.flag.example",)),
    ),
    "trusted_proxies": (
        ('["10.0.0.0/8", "::1"]', ("10.0.0.0/8", "::1")),
        ("10.0.0.1,10.0.0.2", ("10.0.0.1", "10.0.0.2")),
        ("10.0.0.2", ("10.0.0.2",)),
    ),
    "insecure_trusted_networks": (
        ('["10.0.0.0/8"]', ("10.0.0.0/8",)),
        ("172.28.47.0/24,fd00::/8", ("172.28.47.0/24", "fd00::/8")),
        ("192.168.1.0/24", ("192.168.1.0/24",)),
    ),
    "recorders": (("2", 2), ("3", 3), ("4", 4)),
    "upstream_ca": (
        (f'"{__file__}"', Path(__file__)),
        (__file__, Path(__file__)),
        (__file__, Path(__file__)),
    ),
}
#: Settings that are only valid together with others.
PAIRS = {
    "tls_certificate",
    "tls_key",
    "unknown_keys",
    "unsigned",
    "oidc_issuer",
    "oidc_client_id",
    "oidc_client_secret",
    "oidc_accounts_claim",
    "files",
    "history_cache",
    "otlp_endpoint",
    "otlp_headers",
    "otlp_body",
    "webhook_url",
    "webhook_secret",
    "webhook_networks",
    "webhook_form",
    "webhook_routing_key",
    "webhook_insights",
}


# Sources of a value


def test_every_setting_is_tested() -> None:
    assert set(SOURCES) | PAIRS == set(SETTINGS)


def test_certificate_and_key_belong_together() -> None:
    both = {"tls_certificate": __file__, "tls_key": __file__}
    found = load(both, {})
    assert (found.tls_certificate, found.tls_key) == (Path(__file__), Path(__file__))
    for name in both:
        with pytest.raises(UsageError, match="belong together"):
            load({name: __file__}, {})
        with pytest.raises(UsageError, match="must name a file"):
            load({**both, name: "/nowhere/at/all"}, {})


def test_a_collector_has_a_url_and_headers(write: Write) -> None:
    url = "http://127.0.0.1:4318"
    assert load({"otlp_endpoint": url, "otlp_body": "ocsf"}, {}).otlp_body == "ocsf"
    with pytest.raises(UsageError, match=r"\[otlp\] needs an endpoint"):
        load({"otlp_body": "none"}, {})
    headers = {variable("otlp_headers"): "Authorization=Bearer s3cret=, X-Scope-OrgID=1"}
    found = load({"otlp_endpoint": url}, headers)
    assert found.otlp_endpoint == url
    assert found.otlp_headers == {"Authorization": "Bearer s3cret=", "X-Scope-OrgID": "1"}
    assert "s3cret" not in repr(found)
    file = write(f'[otlp]\nendpoint = "{url}"\nheaders.Authorization = "Bearer s3cret"\n')
    assert load({}, {}, file).otlp_headers == {"Authorization": "Bearer s3cret"}


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        ({"otlp_endpoint": "127.0.0.1:4318"}, {}, "--otlp-endpoint must be a URL such as http"),
        ({"otlp_endpoint": "ftp://collector"}, {}, "--otlp-endpoint must be a URL such as http"),
        ({"otlp_endpoint": "http://me:s3cret@c"}, {}, "a URL without user, query and fragment"),
        ({"otlp_headers": "A=s3cret"}, {}, "seen by other users"),
        ({}, {"OPENTRAIL_OTLP_HEADERS": "s3cret"}, "OPENTRAIL_OTLP_HEADERS must be headers"),
        ({}, {"OPENTRAIL_OTLP_HEADERS": "A=s3cret\r\nB: c"}, "OTLP_HEADERS must be headers"),
    ],
)
def test_collector_problems_are_named(
    flags: dict[str, str], environment: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        load(flags, environment)
    assert "s3cret" not in str(refused.value)


WEBHOOK = "https://alerts.example/hook?token=s3cret"


def test_webhook_has_a_url_a_secret_and_networks(write: Write) -> None:
    environment = {variable("webhook_secret"): "s3cret"}
    file = write(f'[webhook]\nurl = "{WEBHOOK}"\nnetworks = ["10.0.0.0/8", "::1"]\n')
    found = load({}, environment, file)
    assert found.webhook_url == WEBHOOK
    assert found.webhook_secret == "s3cret"
    assert found.webhook_networks == ("10.0.0.0/8", "::1")
    assert "s3cret" not in repr(found)


def test_a_webhook_has_a_form(write: Write) -> None:
    assert Settings().webhook_form == "opentrail"
    assert Settings().webhook_insights == "off"
    file = write(f'[webhook]\nurl = "{WEBHOOK}"\nform = "teams"\n')
    assert load({}, {}, file).webhook_form == "teams"
    environment = {variable("webhook_form"): "alertmanager"}
    assert load({}, environment, file).webhook_form == "alertmanager"
    key = "0123456789abcdef0123456789abcdef"
    environment = {variable("webhook_routing_key"): key, variable("webhook_form"): "pagerduty"}
    found = load({"webhook_url": "https://flag.example"}, environment, file)
    assert (found.webhook_url, found.webhook_form) == ("https://flag.example", "pagerduty")
    assert found.webhook_routing_key == key
    assert key not in repr(found)


#: Former flag, variable and key of the file → the setting, and a value of the file.
FORMER = {
    "detections_webhook": ("webhook_url", f'"{WEBHOOK}"'),
    "detections_webhook_form": ("webhook_form", '"teams"'),
    "detections_webhook_networks": ("webhook_networks", '"10.0.0.0/8"'),
    "detections_webhook_insights": ("webhook_insights", '"on"'),
    "detections_webhook_secret": ("webhook_secret", '"s3cret"'),
    "detections_webhook_routing_key": ("webhook_routing_key", f'"{"0" * 32}"'),
    "oidc_issuer": ("oidc_issuer", '"https://id.example"'),
    "oidc_client_id": ("oidc_client_id", '"opentrail"'),
    "oidc_role_claim": ("oidc_role_claim", '"groups"'),
    "oidc_accounts_claim": ("oidc_accounts_claim", '"accounts"'),
    "otlp_body": ("otlp_body", '"ocsf"'),
}
#: What makes each of them valid.
CONTEXT = f"""
[webhook]
url = "{WEBHOOK}"
[otlp]
endpoint = "http://127.0.0.1:4318"
[oidc]
issuer = "https://id.example"
client_id = "opentrail"
roles.staff = "viewer"
"""


@pytest.mark.parametrize("former", FORMER)
def test_former_names_are_accepted_with_the_new_one(
    former: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    name, value = FORMER[former]
    pager = '\n[webhook]\nform = "pagerduty"\nurl = "https://a.example"\n'
    context = pager if former.endswith("routing_key") else CONTEXT
    expected = load({}, {variable(name): value.strip('"')}, write(context))
    assert capsys.readouterr().err == ""
    found = [load({}, {}, write(f"{former} = {value}\n{context}"))]
    if name != former:
        found.append(load({}, {variable(former): value.strip('"')}, write(context)))
    if former in FORMER_FLAGS:
        found.append(load({former: value.strip('"')}, {}, write(context)))
    assert found == [expected] * len(found)
    table = SETTINGS[name].table
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(found)
    assert f"[{table}] {name.removeprefix(f'{table}_')}" in told[0]
    assert all(line.startswith("opentrail: ") and " is now " in line for line in told)


def test_every_former_name_is_tested() -> None:
    assert {*FORMER_FLAGS, *FORMER_NAMES} == {*FORMER}


@pytest.mark.parametrize("table", ["webhook", "oidc", "otlp"])
def test_tables_name_unknown_keys(table: str, write: Write) -> None:
    keys = [name.removeprefix(f"{table}_") for name in SETTINGS if name.startswith(f"{table}_")]
    message = refused({}, {}, write(f"[{table}]\ncolour = 1\n"))
    assert "unknown key 'colour'" in message
    assert all(key in message for key in keys)
    assert f"{table} in " in refused({}, {}, write(f"{table} = 1\n"))
    assert f"[{table}]" in refused({}, {}, write(f"[{table}]\n{keys[0]} = 1\n"))


def test_there_are_few_settings() -> None:
    shown = {setting.table or name for name, setting in SETTINGS.items() if not setting.is_hidden}
    assert len(shown) <= 42


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        ({"webhook_url": "alerts/s3cret"}, {}, "--webhook-url must be a URL such as"),
        ({"webhook_url": "file:///s3cret"}, {}, "--webhook-url must be a URL such"),
        ({"webhook_url": "http://a:s3cret@c"}, {}, "without user, spaces and fragment"),
        ({"webhook_url": "http://c/s3cret x"}, {}, "without user, spaces and fragment"),
        ({"webhook_url": "http://c/s3cret\r\nA: b"}, {}, "must be a URL such as"),
        ({"webhook_secret": "s3cret"}, {}, "set OPENTRAIL_WEBHOOK_SECRET"),
        ({}, {"OPENTRAIL_WEBHOOK_SECRET": "s3cret"}, r"\[webhook\] needs a url"),
        ({}, {"OPENTRAIL_WEBHOOK_FORM": "slack"}, r"\[webhook\] needs a url"),
        ({}, {"OPENTRAIL_WEBHOOK_INSIGHTS": "on"}, r"\[webhook\] needs a url"),
        ({}, {"OPENTRAIL_WEBHOOK_FORM": "irc"}, "must be one of opentrail, slack, teams, "),
        ({"webhook_routing_key": "s3cret"}, {}, "seen by other users"),
        ({"webhook_url": WEBHOOK}, {"OPENTRAIL_WEBHOOK_FORM": "pagerduty"}, "belong together"),
        (
            {"webhook_url": WEBHOOK},
            {"OPENTRAIL_WEBHOOK_ROUTING_KEY": "s3cret"},
            "belong together",
        ),
        (
            {"webhook_url": WEBHOOK},
            {
                "OPENTRAIL_WEBHOOK_ROUTING_KEY": "s3cret",
                "OPENTRAIL_WEBHOOK_FORM": "pagerduty",
            },
            "must have 32 characters, not 6",
        ),
        (
            {"webhook_url": WEBHOOK},
            {"OPENTRAIL_WEBHOOK_NETWORKS": "0.0.0.0/0"},
            "must be private networks",
        ),
    ],
)
def test_webhook_problems_are_named(
    flags: dict[str, str], environment: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        load(flags, environment)
    assert "s3cret" not in str(refused.value)


ISSUER = {"oidc_issuer": "https://id.example", "oidc_client_id": "opentrail"}


def test_a_provider_needs_client_and_roles(write: Write) -> None:
    file = write('[oidc.roles]\nstaff = "viewer"\n"Domain Admins" = "admin"\n')
    secret = {variable("oidc_client_secret"): "s3cret"}
    found = load(ISSUER, secret, file)
    assert (found.oidc_issuer, found.oidc_client_id) == ("https://id.example", "opentrail")
    assert found.oidc_roles == {"staff": "viewer", "Domain Admins": "admin"}
    assert found.oidc_client_secret == "s3cret"
    assert "s3cret" not in repr(found)
    for name in ISSUER:
        with pytest.raises(UsageError, match="belong together"):
            load({name: ISSUER[name]}, {}, file)
    with pytest.raises(UsageError, match=r"\[oidc.roles\]"):
        load(ISSUER, {})


def test_accounts_claim_needs_a_provider(write: Write) -> None:
    file = write('[oidc]\naccounts_claim = "accounts"\nroles.staff = "viewer"\n')
    assert load(ISSUER, {}, file).oidc_accounts_claim == "accounts"
    environment = {variable("oidc_accounts_claim"): "b"}
    assert load(ISSUER, environment, file).oidc_accounts_claim == "b"
    flags = {**ISSUER, "oidc_accounts_claim": "c"}
    assert load(flags, environment, file).oidc_accounts_claim == "c"
    assert "[oidc]: accounts_claim needs issuer" in refused({}, environment)


@pytest.mark.parametrize(
    "url",
    [
        *("", "trail.example.com", "http://trail.example.com", "https://", "https://a b"),
        *("https://a/console", "https://a?b", "https://a#b", "https://u@a", "https://a:x"),
        *("https://a:99999", "https://[", "https://a\\b", "https://\u00fc.example", 7),
    ],
)
def test_console_url_must_be_an_origin(url: Any) -> None:
    assert "--console-url must be https://HOST" in refused({"console_url": url})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"oidc_issuer": "http://id.example"}, "--oidc-issuer must be an https URL"),
        ({"oidc_issuer": ""}, "--oidc-issuer must be an https URL"),
        ({"oidc_client_id": ""}, "--oidc-client-id must be a non-empty string"),
        ({"oidc_role_claim": ""}, "--oidc-role-claim must be a non-empty string"),
        ({"oidc_client_secret": "s3cret"}, "seen by other users"),
    ],
)
def test_provider_problems_are_named(flags: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        load(flags, {})
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("table", ["oidc.roles = 1", '[oidc.roles]\na = "root"'])
def test_invalid_roles_in_the_file_are_named(table: str, write: Write) -> None:
    with pytest.raises(UsageError, match=r"oidc.roles\] in .* viewer, auditor, operator, admin"):
        load(ISSUER, {}, write(table))


def test_insights_types_are_off_by_default() -> None:
    assert Settings().insights_types == ()
    assert load({"insights_types": ""}, {variable("insights_types"): "all"}).insights_types == ()


def test_error_for_an_unknown_insights_type_names_all() -> None:
    message = refused({"insights_types": "new-city"})
    assert all(name in message for name in PRINCIPAL_TYPES)


def test_without_anything_the_defaults_hold() -> None:
    assert load({}, {}) == Settings()
    assert Settings().data_dir == Path("opentrail-data")
    assert Settings().listen == Address("127.0.0.1", 4747)
    assert Settings().console_listen == Address("127.0.0.1", 4748)
    assert Settings().delivery_interval == 300
    assert Settings().digest_interval == 3600
    assert Settings().history_retention_days == 90
    assert Settings().auth == "permissive"
    assert Settings().on_record_failure == "refuse"
    assert Settings().recorders == 1


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_flag_precedes_the_environment_and_the_file(name: str, write: Write) -> None:
    (in_file, filed), (in_environment, exported), (given_flag, flagged) = SOURCES[name]
    file = write(f"{in_table(name)} = {in_file}\n")
    environment = {variable(name): in_environment}
    assert getattr(load({}, {}, file), name) == filed
    assert getattr(load({}, environment, file), name) == exported
    assert getattr(load({name: given_flag}, environment, file), name) == flagged
    assert getattr(load({name: given_flag}, {}), name) == flagged


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_missing_flag_or_empty_variable_changes_nothing(name: str, write: Write) -> None:
    (in_file, filed), _, _ = SOURCES[name]
    file = write(f"{in_table(name)} = {in_file}\n")
    assert getattr(load({name: None}, {variable(name): ""}, file), name) == filed


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_file_keys_may_have_the_flags_spelling(name: str, write: Write) -> None:
    (in_file, filed), _, _ = SOURCES[name]
    file = write(f"{in_table(name).replace('_', '-')} = {in_file}\n")
    assert getattr(load({}, {}, file), name) == filed


def test_the_environment_may_name_the_file(write: Write) -> None:
    file = write("delivery_interval = 7")
    assert load({}, {"OPENTRAIL_CONFIG": str(file)}).delivery_interval == 7


def test_the_file_in_the_flag_precedes_the_environments(write: Write, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("delivery_interval = 8")
    found = load({}, {"OPENTRAIL_CONFIG": str(write("delivery_interval = 7"))}, other)
    assert found.delivery_interval == 8


def test_the_process_reads_its_environment(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(variable(name), raising=False)
    monkeypatch.delenv("OPENTRAIL_CONFIG", raising=False)
    monkeypatch.setenv("OPENTRAIL_DIGEST_INTERVAL", "9")
    found = from_environment({"recorders": None, "other": 1}, str(write("delivery_interval = 7")))
    assert (found.delivery_interval, found.digest_interval) == (7, 9)


# The control store


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://ann:very-secret@db/state",
        "postgresql://db/state?password=very-secret",
        "postgresql://ann:very-secret@db:port/state",
        "postgres://ann:very-secret@db/state",
        "mysql://ann:very-secret@db/state",
        "very-secret://db",
        "very-secret",
        "",
    ],
)
def test_control_store_in_a_flag_has_no_password(text: str) -> None:
    with pytest.raises(UsageError, match="--control-store must") as caught:
        load({"control_store": text}, {})
    shown = str(caught.value)
    assert "ann" not in shown
    assert "very-secret" not in shown


def test_a_journal_in_a_flag_has_no_password() -> None:
    for text in ("postgresql://ann:very-secret@db/d", "postgresql://db/d?password=very-secret"):
        with pytest.raises(UsageError, match=r"--journal must .*OPENTRAIL_JOURNAL") as refused:
            load({"journal": text}, {})
        assert "very-secret" not in str(refused.value)
    for text in ("mysql://db/d", "postgresql://db:x/d", "postgresql://one:1,two:x/d"):
        with pytest.raises(UsageError, match="--journal must"):
            load({"journal": text}, {})
    assert "very-secret" not in repr(
        load({}, {variable("journal"): "postgresql://a:very-secret@d/d"})
    )


def test_the_error_for_another_database_names_its_scheme() -> None:
    with pytest.raises(UsageError, match=r"OPENTRAIL_CONTROL_STORE must be sqlite or .* not mysql"):
        load({}, {variable("control_store"): "mysql://ann:very-secret@db/state"})


def test_settings_do_not_show_the_control_stores_password() -> None:
    found = load({}, {variable("control_store"): "postgresql://ann:very-secret@db/state"})
    assert found.control_store.endswith("very-secret@db/state")
    assert "very-secret" not in repr(found)


# Upstreams


def test_upstreams_are_for_all_services_or_for_one() -> None:
    found = load({"upstream": ["http://all:1", "s3=https://seaweed:2/", "sqs=http://q"]}, {})
    assert found.upstream == {"": "http://all:1", "s3": "https://seaweed:2/", "sqs": "http://q"}


def test_upstreams_in_the_environment_are_separated_by_commas() -> None:
    found = load({}, {"OPENTRAIL_UPSTREAM": "http://all, s3=http://seaweed"})
    assert found.upstream == {"": "http://all", "s3": "http://seaweed"}


def test_an_upstreams_query_may_contain_an_equals_sign() -> None:
    assert load({"upstream": ["http://x/?a=b"]}, {}).upstream == {"": "http://x/?a=b"}


def test_upstreams_of_several_sources_are_put_together(write: Write) -> None:
    file = write('[upstream]\ndefault = "http://file"\ns3 = "http://file-s3"\n')
    found = load({"upstream": ["s3=http://flag-s3"]}, {"OPENTRAIL_UPSTREAM": "sqs=http://e"}, file)
    assert found.upstream == {"": "http://file", "s3": "http://flag-s3", "sqs": "http://e"}


def test_an_upstream_may_be_a_table_with_credentials(write: Write) -> None:
    file = write(
        '[upstream.s3]\nurl = "http://seaweed"\naccess_key_id = "AKIA"\n'
        'secret_access_key = "secret"\nregion = "eu-west-1"\n'
    )
    found = load({}, {}, file)
    assert found.upstream == {"s3": "http://seaweed"}
    assert found.access == {"s3": UpstreamAccess("AKIA", "secret", region="eu-west-1")}


def test_any_upstream_may_have_re_signed_calls(write: Write) -> None:
    file = write(
        '[upstream.default]\nurl = "https://{service}.{region}.amazonaws.com"\nresign = true\n'
        'access_key_id = "ASIA"\nsecret_access_key = "secret"\nsession_token = "token"\n'
    )
    assert load({}, {}, file).access == {"": UpstreamAccess("ASIA", "secret", "token", None, True)}


def test_the_default_upstreams_table_covers_every_service(write: Write) -> None:
    file = write('[upstream.default]\nurl = "http://all"\n')
    assert load({}, {}, file).upstream == {"": "http://all"}


def test_vpc_endpoints_are_tables_of_networks(write: Write) -> None:
    file = write('[vpc_endpoints.vpce-1]\nnetworks = ["10.0.0.0/8"]\naccount = "210987654321"\n')
    given = {"networks": ("10.0.0.0/8",), "account": "210987654321"}
    assert load({}, {}, file).vpc_endpoints == {"vpce-1": given}
    file = write('[vpc_endpoints.vpce-1]\nnetworks = "10.0.0.0/8, ::1"\n')
    assert load({}, {}, file).vpc_endpoints["vpce-1"]["networks"] == ("10.0.0.0/8", "::1")


def test_organization_is_a_table_that_a_flag_replaces(write: Write) -> None:
    file = write(
        '[organization]\nid = "o-abcdefghij"\nmanagement_account = "111111111111"\n'
        'accounts = ["222222222222"]'
    )
    accounts = frozenset({"111111111111", "222222222222"})
    described = Organization("o-abcdefghij", "111111111111", accounts)
    assert load({}, {}, file).organization == described
    assert load({"organization": "upstream"}, {}, file).organization == "upstream"
    assert (Settings().organization, SANDBOX_DEFAULTS.organization) == ("off", "upstream")


def test_re_signing_needs_a_url(write: Write) -> None:
    file = write('[upstream.s3]\naccess_key_id = "A"\nsecret_access_key = "b"\nresign = true\n')
    with pytest.raises(UsageError, match=r"upstream\.s3.*url"):
        load({"upstream": ["http://other"]}, {}, file)
    assert load({"upstream": ["s3=http://store"]}, {}, file).access["s3"].resign


# The directory


def test_directory_of_keys_has_two_places(write: Write, tmp_path: Path) -> None:
    inside = write('[directory.AKIA]\nuser = "John"\n[directory.ROOT]\nroot = true\n')
    keys = {"AKIA": {"user": "John"}, "ROOT": {"root": True}}
    assert load({}, {}, inside).directory == keys
    (tmp_path / "keys.toml").write_text('[AKIA]\nuser = "John"\n[ROOT]\nroot = true\n')
    assert load({}, {}, write('directory = "keys.toml"')).directory == keys


def test_only_the_file_holds_secrets() -> None:
    environment = {
        "OPENTRAIL_DIRECTORY": "x",
        "OPENTRAIL_ACCESS": "x",
    }
    flags = {"directory": {"AKIA": {"user": "John"}}, "access": "x"}
    assert load(flags, environment) == Settings()


# Wrong values

#: setting → strings that are wrong as flag and variable.
WRONG_TEXTS = {
    "listen": ["4747", "localhost", ":4747", "localhost:http", "localhost:70000", "localhost:-1"],
    "console_listen": ["4748", "localhost:", "localhost:\u00b2"],
    "delivery_interval": ["0", "-1", "soon", "nan", "inf", "1e9", ""],
    "digest_interval": ["0", "1h", "-0.1"],
    "upstream_timeout": ["0", "never", "-1"],
    "history_retention_days": ["0", "1.5", "ninety", "-90"],
    "history_seal_records": ["0", "1.5", "many"],
    "data_event_days": ["0", "1.5"],
    "history_size": ["0", "50", "9MB", "large"],
    "disk_full_expiry": ["on", "management"],
    "signing_key_days": ["0", "1.5", "long", "36501"],
    "bucket_policy_check": ["strict", "Enforced"],
    "event_bridge": ["on", "yes"],
    "otlp_body": ["OCSF", "off"],
    "insights": ["auto", "yes"],
    "upstream_check": ["auto", "yes"],
    "role": ["any", "recorder,query"],
    "insights_preset": ["relaxed", "AWS"],
    "insights_types": ["new-apis", "all,new-api", "OpenTrail.NewApi", "new-api access-denied"],
    "domain": ["", "10.0.0.1", "s3.example.org:4747", "http://s3.example.org", "*.s3.example.org"],
    "trusted_proxies": ["10.0.0.0/33", "proxy", "10.0.0.1/8", ""],
    "insecure_trusted_networks": ["0.0.0.0/0", "::/0", "8.8.8.0/24", "10.0.0.0/7", "containers"],
    "recorders": ["0", "1.5", "x"],
    "auth": ["open", "PERMISSIVE", "none"],
    "on_record_failure": ["ignore", "Refuse"],
    "upstream": ["localhost:5000", "ftp://x", "s3=", "s3=localhost", "="],
}
WRONG = [(name, text) for name, texts in WRONG_TEXTS.items() for text in texts]


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_a_wrong_flag_is_named(name: str, text: str) -> None:
    given_flag = [text] if name == "upstream" else text
    assert flag(name) in refused({name: given_flag})


@pytest.mark.parametrize("text", ["0", "1000000000"])
def test_error_for_a_wrong_number_has_both_limits(text: str) -> None:
    message = refused({"history_seal_records": text})
    assert f"a whole number greater than 0 and less than 10^9, not '{text}'" in message


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, text in WRONG if text])
def test_a_wrong_variable_is_named(name: str, text: str) -> None:
    assert variable(name) in refused({}, {variable(name): text})


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        ("listen = 4747", "listen"),
        ('listen = "here"', "listen"),
        ('listen = ["127.0.0.1:1"]', "listen"),
        ("console-listen = true", "console-listen"),
        ('delivery_interval = "soon"', "delivery_interval"),
        ("delivery_interval = 0", "delivery_interval"),
        ("delivery_interval = [1]", "delivery_interval"),
        ("delivery_interval = true", "delivery_interval"),
        ("history_retention_days = 1.5", "history_retention_days"),
        ("history_retention_days = true", "history_retention_days"),
        ("recorders = false", "recorders"),
        ('auth = "open"', "auth"),
        ("auth = true", "auth"),
        ('auth = ["permissive"]', "auth"),
        ("on_record_failure = {}", "on_record_failure"),
        ("upstream = 5", "upstream"),
        ("upstream = true", "upstream"),
        ("upstream = [5]", "upstream"),
        ('upstream = ["localhost"]', "upstream"),
        ('[upstream]\ns3 = "localhost"', "upstream.s3"),
        ('[upstream]\ns3 = "ftp://x"', "upstream.s3"),
        ("[upstream]\ns3 = 5", "upstream.s3"),
        ('[upstream.s3]\nurl = "ftp://x"', "upstream.s3"),
        ("[upstream.s3]\nurl = 5", "upstream.s3"),
        ('[upstream.s3]\naccess_key_id = "AKIA"', "upstream.s3"),
        ("data_dir = 5", "data_dir"),
        ('data_dir = ""', "data_dir"),
        ("directory = 5", "directory"),
        ('directory = "nowhere.toml"', "nowhere.toml"),
        ("[directory]\nAKIA = 5", "AKIA"),
        ("[directory.AKIA]\n", "AKIA"),
        ('[directory.AKIA]\nuser = ""', "AKIA"),
        ("[directory.AKIA]\nuser = 5", "AKIA"),
        ('organization = "mine"', "organization"),
        ("organization = 5", "organization"),
        ("[organization]", "organization in"),
        ('[organization]\nid = "o-abcdefghij"', "management_account"),
        ("nonsense = 1", "nonsense"),
        ("access = 1", "access"),
        ("vpc_endpoints = 1", "vpc_endpoints"),
        ("[vpc_endpoints.vpce-1]", "vpce-1"),
        ('[vpc_endpoints.vpce-1]\nnetworks = ["x"]', "networks"),
        ('[vpc_endpoints.vpce-1]\nnetworks = ["::1"]\naccount = "1"', "account"),
        ('[vpc_endpoints.vpce-1]\nnetworks = ["::1"]\nowner = "1"', "vpce-1"),
        ('[upstream.s3]\nurl = "http://h"\npassword = "x"', "password"),
        ('[upstream.s3]\naccess_key_id = "A"\nsecret_access_key = "b"\nresign = "yes"', "resign"),
        ('[upstream.s3]\naccess_key_id = "A"\nsecret_access_key = "b"\nregion = 5', "region"),
        ("[serve]\nlisten = 1", "serve"),
    ],
)
def test_files_wrong_value_is_named_with_the_file(toml: str, key: str, write: Write) -> None:
    said = refused(config=write(toml))
    assert key in said
    assert "AKIA" in said or ".toml" in said


@pytest.mark.parametrize("text", ["listen =", "= 1", "[a", "a = 1\na = 2"])
def test_an_invalid_toml_file_is_named(text: str, write: Write) -> None:
    assert "opentrail.toml" in refused(config=write(text))


def test_a_file_of_other_bytes_is_named(write: Write, tmp_path: Path) -> None:
    file = write("")
    file.write_bytes(b"\xff\xfe\x00")
    assert "opentrail.toml" in refused(config=file)
    (tmp_path / "keys.toml").write_bytes(b"\xff\xfe\x00")
    assert "keys.toml" in refused(config=write('directory = "keys.toml"'))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "gone.toml" in refused(config=tmp_path / "gone.toml")
    assert "gone.toml" in refused({}, {"OPENTRAIL_CONFIG": str(tmp_path / "gone.toml")})
    assert str(tmp_path) in refused(config=tmp_path)


# Conflicting settings


@pytest.mark.parametrize("name", ["listen", "console_listen"])
@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "192.0.2.1", "example.com", "[::]", "127.0.0.1.nip.io"],  # noqa: S104
)
def test_other_addresses_require_verified_callers(name: str, host: str) -> None:
    said = refused({name: f"{host}:4747"})
    assert flag(name) in said
    assert "loopback" in said


def test_trusted_networks_allow_both_ports_any_address() -> None:
    anywhere = {"listen": "0.0.0.0:4747", "console_listen": "0.0.0.0:4748"}
    found = load({**anywhere, "insecure_trusted_networks": "172.28.47.0/24"}, {})
    assert (found.listen.port, found.console_listen.port, found.auth) == (4747, 4748, "permissive")


def test_enforced_refuses_unverifiable_callers_by_default() -> None:
    for auth, default in (("permissive", "forward"), ("verify", "forward"), ("enforced", "refuse")):
        found = load({"auth": auth}, {})
        assert (found.of_unknown_keys, found.of_unsigned) == (default, default)
    environment = {"OPENTRAIL_UNKNOWN_KEYS": "refuse", "OPENTRAIL_UNSIGNED": "sign-in"}
    found = load({"auth": "verify"}, environment)
    assert (found.of_unknown_keys, found.of_unsigned) == ("refuse", "sign-in")


def test_enforced_callers_need_bucket_policies() -> None:
    assert load({"auth": "enforced"}, {}).needs_bucket_policy
    assert not load({"auth": "verify"}, {}).needs_bucket_policy
    assert not load(
        {"auth": "enforced", "bucket_policy_check": "permissive"}, {}
    ).needs_bucket_policy
    assert load({"bucket_policy_check": "enforced"}, {}).needs_bucket_policy


def test_s3_files_may_use_both_postgresql_stores() -> None:
    shared = {f"OPENTRAIL_{name}": "postgresql://h/d" for name in ("JOURNAL", "CONTROL_STORE")}
    for place in ("s3://history", "s3://history.x/a/b"):
        assert load({}, {**shared, "OPENTRAIL_FILES": place}).files == place


@pytest.mark.parametrize(
    ("size", "read"),
    [("20GB", 20 * 10**9), ("1.5TB", 15 * 10**11), ("10mb", 10**7), ("0.25 GB", 25 * 10**7)],
)
def test_cache_of_files_in_s3_has_a_size(size: str, read: int) -> None:
    shared = {f"OPENTRAIL_{name}": "postgresql://h/d" for name in ("JOURNAL", "CONTROL_STORE")}
    found = load({"files": "s3://history", "history_cache": size}, shared)
    assert found.history_cache == read


def test_verified_signatures_allow_the_endpoint_any_address() -> None:
    found = load({"listen": "192.0.2.1:4747", "auth": "enforced"}, {})
    assert found.listen == Address("192.0.2.1", 4747)


def test_tls_and_signatures_allow_the_console_any_address() -> None:
    tls = {"tls_certificate": __file__, "tls_key": __file__}
    open_to_all = {"console_listen": "192.0.2.1:4748"}
    found = load({**open_to_all, **tls, "auth": "enforced"}, {})
    assert found.console_listen == Address("192.0.2.1", 4748)
    for lacking in ({**open_to_all, **tls}, {**open_to_all, "auth": "enforced"}):
        assert "console-listen" in refused(lacking)


@pytest.mark.parametrize(
    ("flags", "named", "why"),
    [
        ({"unknown_keys": "refuse"}, "unknown-keys", "needs --auth verify or enforced"),
        ({"unsigned": "sign-in"}, "unsigned", "needs --auth verify or enforced"),
        ({"recorders": "257"}, "recorders", "at most 256"),
        ({"files": "s3://history"}, "files", "needs --journal and --control-store on PostgreSQL"),
        ({"history_cache": "1GB"}, "history-cache", "needs --files"),
        (
            {"history_cache": "20"},
            "history-cache",
            "a size of at least 10MB, such as 20GB, not '20'",
        ),
        ({"history_cache": "9MB"}, "history-cache", "a size of at least 10MB"),
        ({"history_cache": "999999TB"}, "history-cache", "a size of at least 10MB"),
        ({"files": "history"}, "files", "must be s3://BUCKET or s3://BUCKET/PREFIX"),
        ({"files": "s3://Logs/x"}, "files", "must be s3://BUCKET or s3://BUCKET/PREFIX"),
    ],
)
def test_contradictory_or_excessive_values_are_refused(
    flags: dict[str, str], named: str, why: str
) -> None:
    said = refused(flags)
    assert named in said
    assert why in said


# Addresses


@pytest.mark.parametrize(
    ("text", "host", "port", "url", "loopback"),
    [
        ("127.0.0.1:4747", "127.0.0.1", 4747, "http://127.0.0.1:4747", True),
        ("127.9.9.9:0", "127.9.9.9", 0, "http://127.9.9.9:0", True),
        ("localhost:80", "localhost", 80, "http://localhost:80", True),
        ("[::1]:65535", "::1", 65535, "http://[::1]:65535", True),
        ("::1:80", "::1", 80, "http://[::1]:80", True),
        # A wildcard is no address to connect to.
        ("0.0.0.0:80", "0.0.0.0", 80, "http://127.0.0.1:80", False),  # noqa: S104
        ("[::]:80", "::", 80, "http://[::1]:80", False),
        ("example.org:80", "example.org", 80, "http://example.org:80", False),
    ],
)
def test_an_address_has_host_port_and_url(
    text: str, host: str, port: int, url: str, loopback: bool
) -> None:
    address = Address.parse(text, "--listen")
    assert (address.host, address.port, address.url()) == (host, port, url)
    assert address.is_loopback is loopback
    assert address.url(1).endswith(":1")


@pytest.mark.hypothesis
@hypothesis_settings(deadline=None)
@given(st.text(max_size=20) | st.text(max_size=8).map(lambda port: f"localhost:{port}"))
def test_any_text_is_an_address_or_wrong_use(text: str) -> None:
    try:
        address = Address.parse(text, "--listen")
    except UsageError:
        return
    assert address.host
    assert 0 <= address.port <= 65535


@pytest.mark.hypothesis
@hypothesis_settings(deadline=None)
@given(
    name=st.sampled_from(sorted(SETTINGS)),
    text=st.text(st.characters(exclude_characters="\x00"), min_size=1, max_size=10)
    | st.sampled_from(["1e400", "0x10", "1_000", "٣", "True"]),
)
def test_any_text_is_a_setting_or_wrong_use(name: str, text: str) -> None:
    try:
        found = load({}, {variable(name): text})
    except UsageError:
        return
    assert isinstance(found, Settings)


@pytest.mark.parametrize(
    ("flags", "environment", "text", "expected"),
    [
        ({}, {}, "", (10.0, 60.0)),
        ({"delivery_interval": "300"}, {}, "", (300.0, 60.0)),
        ({}, {"OPENTRAIL_DIGEST_INTERVAL": "3600"}, "", (10.0, 3600.0)),
        ({}, {}, "delivery_interval = 300", (300.0, 60.0)),
    ],
)
def test_the_sandbox_delivers_soon_by_default(
    flags: dict[str, str],
    environment: dict[str, str],
    text: str,
    expected: tuple[float, float],
    write: Write,
) -> None:
    settings = load(flags, environment, write(text), SANDBOX_DEFAULTS)
    assert (settings.delivery_interval, settings.digest_interval) == expected


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - the tested values
def test_address_for_others_names_this_machine(host: str) -> None:
    assert Address(host, 0).name_url(4747) == f"http://{socket.gethostname()}:4747"
    assert Address("10.0.0.7", 0).name_url(4747, tls=True) == "https://10.0.0.7:4747"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"data_event_days": 91}, "--data-event-days must be at most --history-retention-days"),
        ({"history_size": "49MB"}, "--history-size must be at least 50MB"),
    ],
)
def test_limits_of_event_history_must_make_sense(flags: dict[str, Any], problem: str) -> None:
    assert refused(flags, {}) == problem
