"""Which hosts and addresses a list of endpoints allows: names, addresses and ports in, yes or no out.

Both sides of the pipe have one: the host's decides, the worker's explains.
"""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING

from pyrepl3.records.endpoints import is_name, read_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrepl3.ports import Clock

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_COUNTS = 600.0  # seconds that an address counts as its name's
_MOST = 1024  # addresses that are remembered, those that were last named
_NAMES = 16  # names of one of them

_V4 = ipaddress.IPv4Network
_V6 = ipaddress.IPv6Network

# Not what ``is_global`` says: it differs between versions of Python, and lets multicast pass.
# IANA's registries of special addresses, and two of clouds whose services trust whoever asks.
_PRIVATE_4 = tuple(
    map(
        _V4,
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 "
        "192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 "
        "224.0.0.0/3 168.63.129.16/32".split(),
    )
)
_PUBLIC_6 = _V6("2000::/3")
_PRIVATE_6 = tuple(map(_V6, "2001::/23 2001:db8::/32 2002::/16 3fff::/20".split()))
_NAT64 = _V6("64:ff9b::/96")


def read_address(text: str) -> Address | None:
    """The address that ``text`` is, in its strict form; None for what is none, and for one of a link."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id is not None:
            return None
        return found.ipv4_mapped or found
    return found


def is_public(address: Address) -> bool:
    """Whether it belongs to the public network: not to a machine, a link, a company or a cloud's inside."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _PRIVATE_4)
    if address in _NAT64:  # the last 32 bits are where it leads
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _PUBLIC_6 and not any(address in network for network in _PRIVATE_6)


class Book:
    """What a list of endpoints allows, and which addresses its names have had of late.

    For one thread at a time. ``clock`` in seconds.
    """

    def __init__(self, network: Iterable[str], clock: Clock = time.monotonic) -> None:
        self._listed = [read_endpoint(text) for text in network]
        self._addresses = {(e.host, e.port) for e in self._listed if e.address}
        self._clock = clock
        self._noted: dict[Address, dict[str, float]] = {}

    def lists(self, host: str, port: int | None = None) -> bool:
        """Whether a name is listed with this port, or with any."""
        return is_name(host) and any(
            not listed.address
            and port in (None, listed.port)
            and (host.endswith("." + listed.host) if listed.below else host == listed.host)
            for listed in self._listed
        )

    def local(self) -> tuple[str, ...]:
        """Addresses of this machine that are listed: what "localhost" is."""
        found = dict.fromkeys(e.host for e in self._listed if e.address)
        return tuple(host for host in found if ipaddress.ip_address(host).is_loopback)

    def note(self, host: str, addresses: Iterable[str]) -> tuple[str, ...]:
        """``addresses`` are those of the listed name ``host`` now. Returns those that may be connected to."""
        now = self._clock()
        allowed: dict[str, None] = {}
        for text in addresses:
            address = read_address(text)
            if address is None:
                continue
            if is_public(address):
                names = {**self._noted.pop(address, {}), host: now + _COUNTS}
                while len(names) > _NAMES:
                    del names[next(iter(names))]
                self._noted[address] = names  # the last one of the dict now
            elif not any(str(address) == listed for listed, _ in self._addresses):
                continue
            allowed[str(address)] = None
        while len(self._noted) > _MOST:
            del self._noted[next(iter(self._noted))]
        return tuple(allowed)

    def grants(self, address: Address, port: int) -> bool:
        """Whether ``address`` is listed itself, or is that of a name that is, and public."""
        if (str(address), port) in self._addresses:
            return True
        now = self._clock()
        return is_public(address) and any(
            now < until and self.lists(host, port)
            for host, until in self._noted.get(address, {}).items()
        )


def refusal(host: str, port: int | None) -> str:
    """What to say of something that is not listed."""
    text = f"[{host}]" if ":" in host else host
    text = f"{text}:{443 if port is None else port}"
    return (
        f"this session is confined, and its policy does not list {text!r}: "
        f"open_session(policy=Policy(network=({text!r},))) allows it"
    )
