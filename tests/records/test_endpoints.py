"""Hosts and ports as people write them."""

from __future__ import annotations

import pytest

from pyrepl3 import Policy
from pyrepl3.records.endpoints import Endpoint, is_name, read_endpoint


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("example.org:443", Endpoint(host="example.org", port=443)),
        ("EXAMPLE.org:1", Endpoint(host="example.org", port=1)),
        ("*.example.org:443", Endpoint(host="example.org", port=443, below=True)),
        ("db:5432", Endpoint(host="db", port=5432)),
        ("xn--bcher-kva.example:80", Endpoint(host="xn--bcher-kva.example", port=80)),
        ("127.0.0.1:8080", Endpoint(host="127.0.0.1", port=8080, address=True)),
        ("[2001:DB8:0::7]:65535", Endpoint(host="2001:db8::7", port=65535, address=True)),
        ("[::ffff:10.0.0.1]:80", Endpoint(host="10.0.0.1", port=80, address=True)),
    ],
)
def test_one_form_comes_of_what_is_written(text, endpoint):
    assert read_endpoint(text) == endpoint


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("example.org", "has no port"),
        ("example.org:", "from 1 to 65535"),
        ("example.org:https", "from 1 to 65535"),
        ("example.org:0", "from 1 to 65535"),
        ("example.org:65536", "from 1 to 65535"),
        ("example.org:\uff14\uff14", "from 1 to 65535"),
        ("https://example.org:443", "leave out the scheme"),
        ("example.org:443/path", "leave out the scheme"),
        ("10.0.0.0/8:443", "leave out the scheme"),
        ("::1:8080", "brackets"),
        ("[::1:8080", "brackets"),
        ("::1]:8080", "brackets"),
        ("[]:8080", "has no address"),
        ("[example.org]:8080", "has no address"),
        ("localhost:80", "'127.0.0.1:80'"),
        ("app.localhost:80", "'127.0.0.1:80'"),
        ("*:443", "names no host"),
        ("*.*.org:443", "names no host"),
        ("a.*.org:443", "names no host"),
        ("*.1.2.3:443", "names no host"),
        ("-a.org:443", "names no host"),
        (".org:443", "names no host"),
        ("example.org.:443", "names no host"),
        ("bücher.example:443", "xn--"),
        ("exa mple.org:443", "names no host"),
        ("127.1:80", "has no address"),
        ("2130706433:80", "has no address"),
        ("0x7f000001:80", "names no host"),
        ("010.0.0.1:80", "has no address"),
        ("0.0.0.0:80", "nobody can be reached"),
        ("224.0.0.1:80", "nobody can be reached"),
        ("[::]:80", "nobody can be reached"),
        ("[fe80::1%eth0]:80", "nobody can be reached"),
        ("a" * 64 + ".org:443", "names no host"),
        (".".join(["a" * 60] * 5) + ":443", "names no host"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(text, cure):
    with pytest.raises(ValueError, match=r"Policy\.network") as refused:
        Policy(network=(text,))
    assert cure in str(refused.value)


@pytest.mark.parametrize("host", ["1.2.3.4", "127.1", "0x7f.0x1", "a_b..c", "", "A.org", "a.org\n"])
def test_an_address_in_an_old_form_is_no_name(host):
    assert not is_name(host)


def test_a_policy_takes_any_collection_and_no_single_text():
    assert Policy(network=["b.org:1", "a.org:1"]).network == ("b.org:1", "a.org:1")
    with pytest.raises(TypeError, match="takes several"):
        Policy(network="example.org:443")
    with pytest.raises(ValueError, match="traffic must be positive"):
        Policy(traffic=0)
