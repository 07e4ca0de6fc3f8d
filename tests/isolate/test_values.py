"""Values cross from a worker as they are, large ones without copies; nothing runs in the host unless trusted."""

import array
import asyncio
import datetime as dt

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import pyrepl3
from pyrepl3.errors import NamespaceError
from pyrepl3.isolate.values import pack_value, pickle_value, unpack_value, unpickle_value


def across(value, pack=pack_value, unpack=unpack_value):
    """The value after a journey, as one frame would carry it."""
    data, parts = pack(value, "x")
    return unpack(data, memoryview(b"".join(parts)))


class Cell:
    """Something that has no codec."""

    def __eq__(self, other):
        return type(other) is Cell

    __hash__ = None


@pytest.mark.parametrize(
    "value",
    [
        None,
        -(10**40),
        1.5,
        2j,
        "text",
        b"x" * 10_000,
        bytearray(b"y" * 5000),
        [1, (2, {3}), frozenset({4})],
        {"a": {1: 2}},
    ],
    ids=repr,
)
def test_plain_values_come_as_they_are(value):
    found = across(value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "array_",
    [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(3.5),
        np.zeros((0, 4)),
        np.arange(3, dtype="c16"),
        np.array(["2026-11-23"], dtype="M8[D]"),
        np.array(["ab", "c"]),
        np.arange(10)[::3],
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays_come_with_their_type_and_shape_and_can_be_written(array_):
    found = across(array_)
    assert found.dtype == array_.dtype
    np.testing.assert_array_equal(found, array_)
    assert found.flags.writeable


FRAME = pd.DataFrame(
    {"n": [1, 2], "t": ["a", None], "at": pd.to_datetime(["2026-11-23", "2026-11-24"])},
    index=[7, 9],
)


def test_tables_come_back_into_the_library_they_came_from():
    pd.testing.assert_frame_equal(across(FRAME), FRAME)
    pd.testing.assert_series_equal(across(FRAME["n"]), FRAME["n"])
    unnamed = pd.Series([1.5, 2.5])
    pd.testing.assert_series_equal(across(unnamed), unnamed)
    polars = pl.DataFrame({"a": [1, 2], "b": ["x", None]})
    assert across(polars).equals(polars)
    assert across(polars["b"]).equals(polars["b"])
    table = pa.table({"a": [1, 2], "b": [dt.date(2026, 1, 1), None]})
    assert across(table).equals(table)
    batch = pa.record_batch({"a": [1, 2]})
    assert across(batch).equals(batch)
    assert across({"in": [table]})["in"][0].equals(table)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (pd.DataFrame({"a": [1, "x"]}), "Arrow cannot hold it"),
        (pd.Series([1], name=("a", 1)), "no text"),
        (Cell(), "trusted=True"),
        (np.array([object()]), "numpy.ndarray"),
        (array.array("i"), "array.array"),
    ],
    ids=["mixed", "name", "object", "objects", "array"],
)
def test_what_cannot_cross_is_refused_with_what_to_do(value, reason):
    with pytest.raises(NamespaceError, match=reason):
        pack_value(value, "x")


def test_a_class_that_calls_itself_a_table_is_none():
    lie = type("DataFrame", (), {"__module__": "pandas"})
    with pytest.raises(NamespaceError, match="does not cross"):
        pack_value(lie(), "x")


def test_a_pickle_is_read_only_by_who_trusts_it():
    assert across(Cell(), pickle_value, unpickle_value) == Cell()
    numbers = np.arange(1000)
    np.testing.assert_array_equal(across(numbers, pickle_value, unpickle_value), numbers)
    with pytest.raises(NamespaceError, match="cannot be fetched"):
        pickle_value(lambda: None, "x")


@pytest.mark.parametrize(
    "hostile",
    [
        msgspec.msgpack.Ext(34, msgspec.msgpack.encode(["|O", [1], [0, 8]])),
        msgspec.msgpack.Ext(34, msgspec.msgpack.encode(["<i8", [1], [0, 800]])),
        msgspec.msgpack.Ext(34, msgspec.msgpack.encode(["<i8", [1], [-8, 8]])),
        msgspec.msgpack.Ext(32, msgspec.msgpack.encode([[0, 1 << 60]])),
        msgspec.msgpack.Ext(35, msgspec.msgpack.encode(["os.system", [0, 8]])),
        msgspec.msgpack.Ext(35, msgspec.msgpack.encode(["pyarrow.Table", [0, 8]])),
        msgspec.msgpack.Ext(99, b"\x90"),
        msgspec.msgpack.Ext(1, b"\x01"),
    ],
    ids=["objects", "long", "negative", "huge", "kind", "stream", "code", "no list"],
)
def test_what_is_no_value_is_an_error_and_nothing_else(hostile):
    with pytest.raises((ValueError, TypeError, OSError)):
        unpack_value(msgspec.msgpack.encode(hostile), memoryview(bytes(64)))


@pytest.mark.slow
async def test_much_crosses_from_a_worker():
    async with pyrepl3.open_session(isolation="process") as session:
        outcome = await session.run(
            "import numpy as np, pandas as pd\n"
            "big = np.arange(12_000_000, dtype=float)\n"
            "frame = pd.DataFrame({'a': big[:100_000]})\n"
            "class Own: pass\n"
            "own, when = Own(), __import__('decimal').Decimal('1.5')"
        )
        assert outcome.ok, outcome.traceback
        big = await session.fetch("big")  # more than a message may hold
        assert big.nbytes == 96_000_000
        assert big[-1] == 11_999_999
        big[0] = 5.0
        assert (await session.run("big[0]")).text == "np.float64(0.0)"
        assert (await session.fetch("frame"))["a"].sum() == sum(range(100_000))
        assert str(await session.fetch("when", trusted=True)) == "1.5"
        with pytest.raises(NamespaceError, match="trusted=True"):
            await session.fetch("when")
        with pytest.raises(NamespaceError, match=r"no value for .own."):
            await session.fetch("own", trusted=True)
        assert await asyncio.wait_for(session.fetch("frame"), 30) is not None
