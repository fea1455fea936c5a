"""Where webhooks may go: https to the public internet, and nowhere else (SSRF).

The address that is connected to is the one that is checked: names are resolved by us, and sockets are made only for
addresses that passed. The table follows the IANA special-purpose address registries (RFC 6890); in IPv6 only global
unicast is let through, and of that nothing that embeds or tunnels IPv4.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from pipeline.settings import Settings, listed

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL: Final = 2_048

_REFUSED_V4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private (RFC 1918)
            "100.64.0.0/10",  # shared address space, CGNAT (RFC 6598)
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local, and the clouds' metadata services
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # IETF protocol assignments
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # 6to4 relay anycast, deprecated
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarking
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""All else is loopback, mapped (::ffff:0:0/96), translated (64:ff9b::/96), unique local, link-local, multicast, or
nobody's.
"""
_REFUSED_V6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # IETF protocol assignments: Teredo, ORCHID, benchmarking
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: embeds an IPv4 address
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)
_URL: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:\[(?P<v6>[0-9a-f.]{0,45}:[0-9a-f:.]{1,45})\]|(?P<host>[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?))"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>/[!-\"$-\[\]-~]*)?",
    re.ASCII | re.IGNORECASE,
)
"""Printable ASCII: no user information, no fragment, no backslash, nothing that two parsers read differently."""
_NUMERIC: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Guard:
    """What may be called. `allow_http` and `allowed` (networks that are open besides) are for local receivers."""

    allow_http: bool = False
    allowed: Sequence[Network] = ()

    @classmethod
    def of(cls, settings: Settings) -> Guard:
        """The guard that the settings describe. Raises ValueError for what is no network."""
        networks = tuple(map(ipaddress.ip_network, listed(settings.webhook_allowed_networks)))
        return cls(settings.webhook_allow_http, networks)

    def objection(self, url: str) -> str | None:
        """What keeps a URL from being called, in words that quote nothing of it; None if nothing does. A name is not
        resolved here.
        """
        match = _URL.fullmatch(url)
        if match is None or len(url) > MAX_URL:
            return "an absolute URL without user information and fragment, in printable ASCII"
        if match["scheme"].lower() != "https" and not self.allow_http:
            return "https only"
        if match["port"] and int(match["port"]) > 65_535:
            return "a port is at most 65535"
        return self._objection_to_host(match["v6"] or match["host"])

    def _objection_to_host(self, host: str) -> str | None:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            no_name = ":" in host or _NUMERIC.fullmatch(host) or ".." in host
            return "a host name, or an address in its usual form" if no_name else None
        return None if self.admits(address) else "an address of the public internet"

    def admits(self, address: Address) -> bool:
        """Whether an address may be connected to."""
        return is_public(address) or any(address in network for network in self.allowed)


@lru_cache(maxsize=4_096)
def is_public(address: Address) -> bool:
    """Whether an address is an ordinary one of the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    return address in _GLOBAL_UNICAST and not any(address in network for network in _REFUSED_V6)
