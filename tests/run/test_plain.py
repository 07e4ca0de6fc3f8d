"""Plain values: whole, or refused; and bytes that somebody made to do harm."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrepl3.run.plain import NotPlainError, pack_value, unpack_value

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
)
KEYS = ATOMS | st.tuples(ATOMS) | st.frozensets(ATOMS, max_size=3)
VALUES = st.recursive(
    ATOMS | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(KEYS, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


def types(value):
    """The value with its types, so that True is not 1."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [types(item) for item in value]
    if kind in (set, frozenset):
        return kind, {(type(item), item) for item in value}
    if kind is dict:
        return kind, [(types(key), types(item)) for key, item in value.items()]
    return kind, value


@given(VALUES)
def test_a_value_comes_back_equal_and_of_its_type(value):
    assert types(unpack_value(pack_value(value))) == types(value)


@pytest.mark.parametrize(
    "value", [object(), print, ValueError(1), range(3), type("L", (list,), {})()]
)
def test_what_would_lose_something_is_refused(value):
    with pytest.raises(NotPlainError):
        pack_value([value])


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_become_a_value_or_an_error(data):
    try:
        found = unpack_value(data)
    except (ValueError, TypeError, RecursionError, msgspec.DecodeError):
        return
    assert type(found).__module__ in ("builtins", "numpy")


def test_numbers_with_one_hash_are_refused_before_a_set_is_made_of_them():
    """Two hundred thousand of them would keep the host for minutes."""
    modulus = (1 << 61) - 1
    alike = [n * modulus for n in range(5000)]
    for code, members in ((2, alike), (3, alike), (7, [part for n in alike for part in (n, 0)])):
        content = [
            msgspec.msgpack.Ext(4, n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True))
            for n in members
        ]
        data = msgspec.msgpack.encode(msgspec.msgpack.Ext(code, msgspec.msgpack.encode(content)))
        with pytest.raises(ValueError, match="same hash"):
            unpack_value(data)
    many = set(range(100_000))
    assert unpack_value(pack_value(many)) == many
