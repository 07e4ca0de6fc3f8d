"""A host and a port as a person writes them in, checked and in one form out."""

from __future__ import annotations

import re

from pyrepl3.records.cells import Record

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MOST_NAME = 253
_FORMS = "'example.org:443', '*.example.org:443', '192.0.2.7:443' or '[2001:db8::7]:443'"


class Endpoint(Record, frozen=True, kw_only=True):
    """Where code may connect to: a name in lower case, all names below one (``below``), or an address."""

    host: str
    port: int
    below: bool = False
    address: bool = False


def is_name(host: str) -> bool:
    """Whether ``host`` may be a name of DNS, in lower case: no address in any of its old forms either."""
    last = host.rpartition(".")[2]
    return (
        len(host) <= _MOST_NAME
        and _NAME.fullmatch(host) is not None
        and not last.isdigit()
        and not last.startswith("0x")
    )


def read_endpoint(text: str) -> Endpoint:
    """The endpoint that ``text`` names. Raises ValueError, which says what to write instead."""
    host, colon, digits = text.rpartition(":")
    if "/" in text:
        raise ValueError(f"{text!r} is no host and port: leave out the scheme and the path")
    if not colon or (":" in host and not (host[0] == "[" and host[-1] == "]")):
        raise ValueError(f"{text!r} has no port, or no brackets around an IPv6 address: {_FORMS}")
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 65536):
        raise ValueError(f"{text!r} has no port from 1 to 65535 at its end: {_FORMS}")
    port = int(digits)
    name = host.lower()
    if name.startswith("["):
        return Endpoint(host=_read_address(text, name[1:-1]), port=port, address=True)
    if name == "localhost" or name.endswith(".localhost"):
        raise ValueError(f"{text!r}: write the address that is meant, '127.0.0.1:{port}'")
    below = name.startswith("*.")
    name = name.removeprefix("*.")
    if not below and name.replace(".", "").isdigit():
        return Endpoint(host=_read_address(text, name), port=port, address=True)
    if not is_name(name):
        cure = "other letters go as xn--…" if not name.isascii() else f"write {_FORMS}"
        raise ValueError(f"{text!r} names no host: {cure}")
    return Endpoint(host=name, port=port, below=below)


def _read_address(text: str, address: str) -> str:
    import ipaddress  # noqa: PLC0415  only for those who list one

    try:
        found = ipaddress.ip_address(address)
    except ValueError as error:
        raise ValueError(f"{text!r} has no address that is one: {error}") from None
    mapped = getattr(found, "ipv4_mapped", None) or found
    if mapped.is_unspecified or mapped.is_multicast or getattr(found, "scope_id", None):
        raise ValueError(f"{text!r}: nobody can be reached at this address; write that of a host")
    return str(mapped)
