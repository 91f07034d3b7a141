"""The client address (guarantee N4) and the VPC endpoint of a call."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class VpcEndpoint:
    """A VPC endpoint; calls from its networks count as calls through it."""

    id: str
    networks: tuple[Network, ...]
    #: Owner of the endpoint; None is the caller's own account.
    account: str | None = None


class Networks:
    """Trusted proxies and VPC endpoints. Forwarded headers count only if a trusted proxy sent them.

    Args:
        trusted: networks of proxies that may name their clients.
        endpoints: VPC endpoints; the first that matches counts.
    """

    def __init__(
        self, trusted: Iterable[Network] = (), endpoints: Iterable[VpcEndpoint] = ()
    ) -> None:
        self._trusted = tuple(trusted)
        self._endpoints = tuple(endpoints)

    def client_of(self, peer: str, headers: Mapping[str, str]) -> str:
        """Returns the caller's address: the peer's, or as reported by trusted proxies.

        That is the last address of `X-Forwarded-For` that is not itself a trusted proxy, because
        the caller may have forged everything before it.
        """
        if not self.trusts(peer):
            return peer
        client = peer
        for text in reversed(headers.get("x-forwarded-for", "").split(",")):
            address = _address(text)
            if address is None:
                break
            client = address
            if not self.trusts(address):
                break
        return client

    def endpoint_of(self, client: str) -> VpcEndpoint | None:
        """Returns the VPC endpoint of a call from this address."""
        for endpoint in self._endpoints:
            if _is_in(client, endpoint.networks):
                return endpoint
        return None

    def trusts(self, text: str) -> bool:
        """Returns whether an address is a trusted proxy's."""
        return _is_in(text, self._trusted)


def network(text: str) -> Network:
    """Parses a network such as `10.0.0.0/8`, or a single address.

    Raises:
        ValueError: it is neither.
    """
    return ipaddress.ip_network(text.strip())


def _address(text: str) -> str | None:
    """Returns the address in an entry of `X-Forwarded-For`, with or without a port."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def _is_in(text: str, networks: tuple[Network, ...]) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return any(mapped in block for block in networks)
