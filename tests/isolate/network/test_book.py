"""What a list of hosts and ports allows."""

from __future__ import annotations

import pytest

from pyrepl3.isolate.network.book import Book, is_public, read_address

OUTSIDE = "93.184.216.34"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def address(text):
    found = read_address(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "text",
    """
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.169.254
    172.16.0.1 172.31.255.255 192.0.0.192 192.168.0.1 198.18.0.1 168.63.129.16 224.0.0.1 239.1.1.1
    240.0.0.1 255.255.255.255 :: ::1 fe80::1 fc00::1 fd00:ec2::254 fd20:ce::254 ff02::1 ::ffff:10.0.0.1
    ::ffff:127.0.0.1 ::ffff:0:127.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1
    2002:7f00:1::1 2001::1 2001:db8::1 100::1 3fff::1 5f00::1 fec0::1
    """.split(),
)
def test_what_is_inside_is_not_public(text):
    assert not is_public(address(text))


@pytest.mark.parametrize(
    "text",
    [OUTSIDE, "1.1.1.1", "172.32.0.1", "2606:2800:21f::1", "::ffff:1.1.1.1", "64:ff9b::101:101"],
)
def test_what_is_outside_is_public(text):
    assert is_public(address(text))


@pytest.mark.parametrize(
    "text",
    [
        "127.1",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "fe80::1%eth0",
        "a.org",
        "",
        " 1.1.1.1",
        "1.1.1.1\n",
    ],
)
def test_an_address_has_one_form(text):
    assert read_address(text) is None


def test_names_and_names_below_them():
    book = Book(["a.org:443", "*.b.org:80", "10.0.0.1:5"])
    assert book.lists("a.org", 443)
    assert book.lists("a.org")
    assert book.lists("x.b.org", 80)
    assert book.lists("x.y.b.org", 80)
    for host, port in (
        ("a.org", 80),
        ("x.a.org", 443),
        ("b.org", 80),
        ("xb.org", 80),
        ("x.b.org", 443),
        ("10.0.0.1", 5),
        ("A.org", 443),
        ("evil.org", None),
        ("a.org.evil.org", 443),
    ):
        assert not book.lists(host, port)


def test_an_address_counts_for_the_ports_of_its_names_and_for_a_while():
    clock = Clock()
    book = Book(["a.org:443", "*.b.org:80"], clock)
    assert not book.grants(address(OUTSIDE), 443)
    assert book.note("a.org", [OUTSIDE]) == (OUTSIDE,)
    assert book.grants(address(OUTSIDE), 443)
    assert not book.grants(address(OUTSIDE), 80)
    book.note("x.b.org", [OUTSIDE])
    assert book.grants(address(OUTSIDE), 80)
    assert book.grants(address(OUTSIDE), 443)
    clock.now = 601.0
    assert not book.grants(address(OUTSIDE), 443)


def test_a_name_that_points_inward_gives_nothing():
    book = Book(["a.org:443"])
    inward = ["127.0.0.1", "10.0.0.1", "::1", "::ffff:169.254.169.254", "fe80::1%1", "junk"]
    assert book.note("a.org", inward) == ()
    for text in ("127.0.0.1", "10.0.0.1", "::1", "169.254.169.254"):
        assert not book.grants(address(text), 443)


def test_an_address_inside_counts_where_it_is_listed_itself_with_its_port():
    book = Book(["a.org:443", "10.0.0.1:443", "127.0.0.1:80", "[::1]:80"])
    assert book.note("a.org", ["10.0.0.1", "10.0.0.2"]) == ("10.0.0.1",)
    assert book.grants(address("10.0.0.1"), 443)
    assert book.grants(address("::ffff:10.0.0.1"), 443)
    assert not book.grants(address("10.0.0.1"), 80)
    assert not book.grants(address("10.0.0.2"), 443)
    assert book.local() == ("127.0.0.1", "::1")


def test_what_is_remembered_is_bounded():
    book = Book(["*.a.org:443"])
    for n in range(3000):
        book.note(f"x{n}.a.org", [OUTSIDE, str(address("1.0.0.0") + n)])
    assert len(book._noted) <= 1024
    assert all(len(names) <= 16 for names in book._noted.values())
    assert book.grants(address("1.0.0.0") + 2999, 443)
    assert not book.grants(address("1.0.0.0"), 443)
