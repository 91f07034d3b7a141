"""Arguments of the commands that start a server."""

from __future__ import annotations

from typing import Any

from opentrail.cli.shared import add_command, runs


def add_commands(commands: Any) -> None:
    _add_server(commands, "serve", "record calls on their way to an upstream")
    _add_server(commands, "sandbox", "serve, with a built-in moto upstream")


def _add_server(commands: Any, name: str, text: str) -> None:
    serve = add_command(
        commands, name, text, runs("serve", "run" if name == "serve" else "run_sandbox")
    )
    add = serve.add_argument
    add("--data-dir", metavar="DIR", help="folder with all data (./opentrail-data)")
    add("--listen", metavar="HOST:PORT", help="the AWS endpoint (127.0.0.1:4747)")
    add("--console-listen", metavar="HOST:PORT", help="health and API (127.0.0.1:4748)")
    add("--upstream", metavar="[SERVICE=]URL", action="append", help="where calls go; repeatable")
    add("--upstream-timeout", metavar="SECONDS", help="longest silence of an upstream (910)")
    add("--upstream-check", metavar="MODE", help="on (default): say what answers there; or off")
    add("--config", metavar="FILE", help="TOML file with settings")
    logs, digests = ("10", "60") if name == "sandbox" else ("300", "3600")
    add("--delivery-interval", metavar="SECONDS", help=f"between log files ({logs})")
    add("--digest-interval", metavar="SECONDS", help=f"between digest files ({digests})")
    add("--history-retention-days", metavar="N", help="days that event history shows (90)")
    add("--signing-key-days", metavar="N", help="how long a key signs digests (90)")
    add("--trails-per-region", metavar="N", help="maximum trails in a Region (5, as on AWS)")
    add("--bucket-policy-check", metavar="MODE", help="permissive (default) or enforced, as AWS")
    asked = "upstream (default) or off" if name == "sandbox" else "off (default) or upstream"
    add("--organization", metavar="MODE", help=f"accounts of organization trails: {asked}")
    add("--event-bridge", metavar="MODE", help="auto (default): rules get events; or off")
    add("--insights", metavar="MODE", help="on (default): record unusual activity; or off")
    add("--insights-preset", metavar="NAME", help="balanced (default), strict or aws")
    add("--insights-types", metavar="NAMES", help="types about principals to record, or all")
    add("--history-seal-records", metavar="N", help="records in one sealed file (120000)")
    add("--tls-certificate", metavar="FILE", help="PEM certificate: both ports speak TLS")
    add("--tls-key", metavar="FILE", help="PEM key of the certificate")
    add("--upstream-ca", metavar="FILE", help="PEM authorities of https upstreams")
    add("--trusted-proxies", metavar="NETWORKS", help="whose X-Forwarded-For counts: 10.0.0.0/8,…")
    add("--auth", metavar="MODE", help="permissive (default) or enforced: verify signatures")
    add("--unknown-keys", metavar="MODE", help="with enforced: forward (default) or refuse")
    add("--oidc-issuer", metavar="URL", help="provider by which users sign in to the console")
    add("--oidc-client-id", metavar="ID", help="this server's client id at the provider")
    add("--oidc-role-claim", metavar="NAME", help="claim that gives a user's role (roles)")
    add(
        "--control-store", metavar="URL", help="sqlite (default) or postgresql://USER@HOST/DATABASE"
    )
    add("--on-record-failure", metavar="MODE", help="refuse (default) or allow")
    add("--recorders", metavar="N", help="recorder processes (1)")
    if name == "sandbox":
        add(
            "--s3",
            metavar="STORE",
            help="moto (default) or seaweedfs, whose data outlive a restart",
        )
