"""Long plain values: the same after a restart, and only what changed of them is stored."""

from __future__ import annotations

import pytest

VALUES = {
    "a str": "x = 'é' * 300_000",
    "a bytes": "x = bytes(range(256)) * 2000",
    "a bytearray": "x = bytearray(range(256)) * 2000",
    "an array.array": "import array; x = array.array('d', range(50_000))",
    "a list": "x = list(range(300_000))",
    "a dict": "x = {str(n): [n] for n in range(30_000)}",
    "a set": "x = set(range(100_000))",
    "a tuple": "x = tuple(range(100_000))",
    "a deque": "import collections; x = collections.deque(range(100_000))",
    "all sorts": "x = [b'a' * 70_000, list(range(50_000)), bytearray(80_000), 'b' * 90_000, {1: b'a' * 70_000}]",
    "instances": "class P:\n    def __init__(self, n): self.n = [n]\nx = [P(n) for n in range(5000)]\ndel P",
}


@pytest.mark.parametrize("source", VALUES.values(), ids=VALUES)
def test_big_values_come_back(live, source):
    live.cell(source)
    again = live.restart()
    assert not again.lost
    if "class P" not in source:
        assert again["x"] == live["x"]
        assert type(again["x"]) is type(live["x"])
    else:
        assert [p.n for p in again["x"]] == [p.n for p in live["x"]]


@pytest.mark.parametrize(
    ("source", "change"),
    [
        ("x = list(range(300_000))", "x[150_000] = 99_999"),
        ("import random; x = bytearray(random.randbytes(2_000_000))", "x[1_000_000] ^= 1"),
        ("x = {n: f'text {n:6}' for n in range(100_000)}", "x[50_000] = 'next  50000'"),
        ("import array; x = array.array('d', range(200_000))", "x[100_000] = 5"),
        (
            "import random; x = [b'a' * 500_000, bytearray(random.randbytes(600_000))]",
            "x[1][300_000] ^= 1",
        ),
    ],
    ids=["list", "bytearray", "dict", "array", "inside"],
)
def test_only_the_changed_part_is_stored(live, source, change):
    whole = live.cell(source).size
    assert whole > 500_000
    assert live.cell(change).size < 150_000
    assert live.cell("len(x)").size == 0
    again = live.restart()
    assert again["x"] == live["x"]
    assert again.cell("len(x)").size < 70_000  # what is known of its chunks came with it


def test_what_is_untouched_is_not_even_looked_at(live):
    live.cell(
        "class Counting(list):\n    n = 0\n    def __reduce_ex__(self, protocol):\n        Counting.n += 1\n        return list, (list(self),)\nx = [Counting(), b'x' * 10**6]"
    )
    before = live["Counting"].n
    live.cell("y = 1")
    assert live["Counting"].n == before


def test_a_bytearray_can_grow_after_each_checkpoint(live):
    live.cell("x = bytearray(200_000)")
    live.cell("x += b'more'")
    live.cell("x.extend(bytes(100_000))")
    assert live.restart()["x"] == live["x"]


def test_other_threads_run_while_a_big_value_is_stored(live):
    """A pickler in C holds the GIL; ours calls Python code every 64 KiB."""
    import sys
    import threading

    live.run("x = [{'id': n, 'name': f'name {n}', 'tags': [n]} for n in range(60_000)]")
    ran, stop = 0, threading.Event()
    before = sys.getswitchinterval()

    def run():
        nonlocal ran
        while not stop.is_set():
            ran += 1
            stop.wait(0.0001)

    thread = threading.Thread(target=run)
    sys.setswitchinterval(0.0005)
    thread.start()
    try:
        for _ in range(
            50
        ):  # where others have the processor it may get no turn; here it has one at last
            begun = ran
            live.snapshotter.delta(None, extra={})
            if ran > begun + 5:
                break
        assert ran > begun + 5
    finally:
        sys.setswitchinterval(before)
        stop.set()
        thread.join()
