"""Who may call, by address. An IPv4 address in its IPv6 form, ``::ffff:203.0.113.9``, is IPv4 everywhere."""

import ipaddress
import re
from functools import lru_cache

UNKNOWN = "unknown"  # an address that cannot be read: on no allowlist, and one caller for a throttle

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
# What proxies write: an address, an IPv6 address in brackets, each with or without a port.
_WRITTEN = re.compile(r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]{2,45})\]|(?P<ipv4>[0-9.]{7,15}))(?::[0-9]{1,5})?")


def is_allowed(networks: str, remote_address: str) -> bool:
    """Whether an address is in a comma list of CIDR blocks. An empty list allows all; else an address that cannot be
    read is not allowed.
    """
    if not networks:
        return True
    try:
        address = parsed(remote_address)
    except ValueError:
        return False
    return any(address in network for network in _parsed(networks))


@lru_cache(maxsize=1024)  # partners call from few addresses
def parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address in a text. Raises ValueError, also for an IPv6 zone, which has a meaning on one machine only."""
    if "%" in text:
        raise ValueError("an address without a zone is needed")
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """The CIDR block in a text. Raises ValueError."""
    block = ipaddress.ip_network(text)
    if isinstance(block, ipaddress.IPv6Network) and block.subnet_of(_MAPPED):
        return ipaddress.IPv4Network((int(block.network_address) & 0xFFFF_FFFF, block.prefixlen - _MAPPED.prefixlen))
    return block


def forwarded(header: str, proxies: int) -> str:
    """The address that the first of our ``proxies`` saw, from ``X-Forwarded-For``; :data:`UNKNOWN` where there is none.

    Our own proxies wrote the entry of that number from the right; a caller may invent all entries left of it.
    """
    entries = header.rsplit(",", proxies)
    entry = entries[-proxies].strip(" \t") if len(entries) >= proxies else ""
    found = _WRITTEN.fullmatch(entry)
    try:
        return str(parsed(entry if found is None else found["bracketed"] or found["ipv4"]))
    except ValueError:
        return UNKNOWN


@lru_cache(maxsize=64)
def _parsed(networks: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(network(block) for block in networks.split(","))
