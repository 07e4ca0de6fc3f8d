"""A bit that flipped on the disk costs the names that it is in, said by name; never a wrong value in silence."""

from __future__ import annotations

import sys

import pytest

import pyrepl3
from pyrepl3.records import Notice
from pyrepl3.store import buffers
from pyrepl3.testing.fakes import Seen

pytest.importorskip("numpy")
pytestmark = pytest.mark.slow


async def make(store):
    async with pyrepl3.open_session("demo", store=store) as session:
        await session.run("import numpy as np\nn = 1\nother = np.arange(50_000)")
        await session.run("a = np.arange(1_000_000)")


def flip(store):
    """One bit in the midst of the array."""
    pack = store / "demo" / "pack-000001"
    data = bytearray(pack.read_bytes())
    data[
        data.index((500_000).to_bytes(8, sys.byteorder) + (500_001).to_bytes(8, sys.byteorder))
    ] ^= 1
    pack.write_bytes(data)


async def test_a_bit_that_flipped_in_an_array_loses_its_name_and_no_other(tmp_path):
    await make(tmp_path)
    flip(tmp_path)
    async with pyrepl3.open_session("demo", store=tmp_path) as session:
        assert session.lost.keys() == {"a"}
        assert "cannot be read back as written" in session.lost["a"]
        outcome = await session.run("n += 1; (n, int(other.sum()))")
        assert outcome.value == (2, 1249975000)
        assert outcome.epoch
        assert "'a'" in str((await session.run("a")).error)


@pytest.mark.skipif(sys.platform != "linux", reason="mapped on Linux only")
async def test_one_that_is_found_later_is_told_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(buffers, "CHECK_FIRST", 0)
    await make(tmp_path)
    flip(tmp_path)
    seen = Seen()
    async with pyrepl3.open_session("demo", store=tmp_path, observe=seen) as session:
        told = await seen.until(lambda event: isinstance(event, Notice) and event.kind == "corrupt")
        assert "the value of 'a' cannot be read back as written" in told.text
        assert (await session.run("n")).value == 1
        await session.restore(1)
        assert (await session.run("int(other.sum())")).value == 1249975000


async def test_a_session_can_be_closed_while_it_is_still_comparing(tmp_path, monkeypatch):
    monkeypatch.setattr(buffers, "CHECK_FIRST", 0)
    monkeypatch.setattr(buffers, "SLICE", 1)
    await make(tmp_path)
    async with pyrepl3.open_session("demo", store=tmp_path) as session:
        await session.restore(2)
        assert (await session.run("int(a[-1])")).value == 999_999
