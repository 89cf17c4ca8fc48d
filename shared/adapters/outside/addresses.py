"""Which addresses lie outside: on the public internet, and not in anybody's cluster."""

import socket
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)

Address = IPv4Address | IPv6Address

_NOT_PUBLIC_4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network; on Linux 0.0.0.0 is this machine
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared between carrier and customer; metadata in some clouds
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # Azure's host, on a number that looks public
            "169.254.0.0/16",  # link-local, and where clouds keep metadata and credentials
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; metadata in some clouds
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays from IPv6 to anywhere
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
_PUBLIC_6 = IPv6Network("2000::/3")
"""All that is given out; loopback, unique-local, link-local, multicast lie elsewhere."""
_NOT_PUBLIC_6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments, among them Teredo, which holds an IPv4 address
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which holds an IPv4 address
            "3fff::/20",  # documentation
        ),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Say whether an address is on the public internet.

    A table of our own (IANA's special-purpose registries, and what clouds hide under public
    numbers): `is_global` of the standard library gives another answer in every Python release.
    """
    match address:
        case IPv4Address():
            return not any(address in network for network in _NOT_PUBLIC_4)
        case IPv6Address(ipv4_mapped=IPv4Address() as inner):
            return is_public(inner)
        case _ if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
        case _:
            return address in _PUBLIC_6 and not any(address in net for net in _NOT_PUBLIC_6)


def literal(host: str) -> Address | None:
    """Return the address that a host is by itself, or None for a name.

    Includes the odd forms that resolvers take for IPv4: `127.1`, `2130706433`, `0x7f.1`, `0177.1`.
    """
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None
