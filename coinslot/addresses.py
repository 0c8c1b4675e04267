"""Who may call, by address."""

import ipaddress
from functools import lru_cache


def is_allowed(networks: str, remote_address: str) -> bool:
    """Whether an address is in a comma list of CIDR blocks. An empty list is no restriction.

    An address that cannot be read is not allowed; an IPv4 address in its IPv6 form counts as IPv4.
    """
    if not networks:
        return True
    try:
        address = ipaddress.ip_address(remote_address)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in _parsed(networks))


@lru_cache(maxsize=64)
def _parsed(networks: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(block) for block in networks.split(","))
