"""The wing of the web console: its pages, sign-in, users and saved views."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from opentrail.access.user_tokens import UserTokens
from opentrail.access.users import ConsoleRole, ConsoleUsers
from opentrail.adapters.keys.sealing import AesGcmSealer
from opentrail.api.console.oidc import OidcLogin
from opentrail.api.console.sessions import Sessions
from opentrail.api.console.web import HOME, ConsoleSettings, WebConsole
from opentrail.api.pages import is_local_name
from opentrail.api.services import Services
from opentrail.app.upstreams import own_region
from opentrail.app.wing import Core, Missing, Wing
from opentrail.core.errors import UsageError
from opentrail.core.version import command_for
from opentrail.ports.clock import Clock
from opentrail.ports.signer import Sealer
from opentrail.settings import Settings

#: Names of this machine for itself.
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def start(core: Core) -> Wing:
    """Authenticates browsers.

    Raises:
        UsageError: a library for OpenID Connect is not installed.
    """
    clock, control = core.engines.clock, core.engines.control
    sessions = Sessions(clock)
    if core.engines.sealer is not None:
        from opentrail.api.console.sessions import StoredSessions

        sessions = StoredSessions(clock, control)

    def console_link() -> str:
        return f"{core.console_url}/console/#t={sessions.new_link()}"

    users = ConsoleUsers(control, clock)
    web = WebConsole(
        core.engines.journal,
        clock,
        sessions,
        console_settings(core.settings, core.console_url, core.account),
        users,
        UserTokens(control, users, clock),
        console_link,
        oidc_login(core.settings, clock, core.engines.sealer),
    )

    def groups(services: Services, _missing: Missing) -> Sequence[object]:
        return web.groups(services)

    return Wing(
        groups=groups,
        pages=web.pages(),
        sessions=web.guard,
        user_tokens=web.user_tokens,
        home=HOME,
        console_link=console_link,
    )


def console_settings(
    settings: Settings, console_url: str, account: Callable[[], str]
) -> ConsoleSettings:
    """Returns the settings of the web console.

    Args:
        settings: the server's settings.
        console_url: the console's address.
        account: returns the account of the console's key for the endpoint.
    """
    return ConsoleSettings(account, own_region(settings), _own_names(settings, console_url))


def _own_names(settings: Settings, console_url: str) -> Callable[[str], bool] | None:
    if settings.tls_certificate is not None:
        return None  # a browser compares the name with the certificate
    port = urlsplit(console_url).port
    known = {f"{name}:{port}" for name in _LOOPBACK}
    if settings.console_url is not None:
        public = urlsplit(settings.console_url).netloc
        known |= {public, f"{public}:443"}
    # With trusted networks, its port may be published under another number.
    accepts_local = bool(settings.insecure_trusted_networks)
    return lambda host: host in known or (accepts_local and is_local_name(host))


def oidc_login(settings: Settings, clock: Clock, sealer: Sealer | None) -> OidcLogin | None:
    """Returns the sign-in by OpenID Connect; None if it is not configured.

    Args:
        settings: the server's settings.
        clock: the time.
        sealer: the sealer that all servers share; None if there is only one server.

    Raises:
        UsageError: a library for it is not installed.
    """
    if settings.oidc_issuer is None or settings.oidc_client_id is None:
        return None
    try:
        from opentrail.adapters.oidc_provider import OidcProvider
    except ImportError as error:
        raise UsageError(f"[oidc] needs joserfc: {command_for('oidc')}") from error
    provider = OidcProvider(
        settings.oidc_issuer, settings.oidc_client_id, settings.oidc_client_secret, clock
    )
    roles = {text: ConsoleRole.parse(role) for text, role in settings.oidc_roles.items()}
    own = sealer or AesGcmSealer(secrets.token_bytes(32))
    return OidcLogin(provider, settings.oidc_role_claim, roles, own, settings.oidc_accounts_claim)
