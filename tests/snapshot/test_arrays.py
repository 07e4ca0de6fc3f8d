"""numpy arrays keep their memory layout, and go on sharing memory."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy")


def test_views_and_their_base_share_memory_after_a_restart(live):
    live.cell(
        "import numpy as np\na = np.arange(24.0).reshape(4, 6)\nrow = a[1]; col = a[:, 2]; back = a[::-1, ::2]\n"
        "flat = a.ravel(); t = a.T; one = a[2:3, 3:4]; bits = a.view(np.uint8); box = {'v': a[0]}"
    )
    again = live.restart()
    again.run("a[1, 2] = 100; row[0] = 200; t[5, 3] = 300; one[0, 0] = 400; box['v'][0] = 500")
    again.run(
        "assert row[2] == 100 == col[1] == flat[8] == t[2, 1] and a[1, 0] == 200 and a[3, 5] == 300\n"
        "assert a[2, 3] == 400 and a[0, 0] == 500 and back[3, 0] == 500 and np.shares_memory(a, bits)\n"
        "assert back.strides == (-48, 16)"
    )


def test_views_of_an_unnamed_base_share_memory(live):
    live.cell("import numpy as np\nbase = np.arange(10)\na = base[2:6]; b = base[4:8]\ndel base")
    again = live.restart()
    again.run("a[2] = 99; assert b[0] == 99")


def test_a_lone_view_does_not_drag_its_base_along(live):
    delta = live.cell("import numpy as np\nv = np.zeros(10**6)[:4]")
    assert delta.size < 5000
    assert live.restart()["v"].tolist() == [0, 0, 0, 0]


def test_views_that_come_to_share_later(live):
    live.cell("import numpy as np\na = np.arange(5)")
    live.cell("v = a[1:3]")
    live.cell("v[0] = 50")
    again = live.restart()
    assert again["a"].tolist() == [0, 50, 2, 3, 4]
    again.run("a[2] = 7; assert v[1] == 7")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["i4", ">i4"])
def test_order_dtype_and_ownership_stay(live, order, dtype):
    live.cell(
        f"import numpy as np\na = np.ones((3, 4), dtype={dtype!r}, order={order!r}); v = a[1:, 1:]"
    )
    again = live.restart()
    a = again["a"]
    assert a.dtype == dtype
    assert a.flags[f"{order}_CONTIGUOUS"]
    assert a.flags.owndata
    again.run("a[2, 2] = 5; assert v[1, 1] == 5")


def test_read_only_arrays_stay_read_only(live):
    live.cell(
        "import numpy as np\na = np.arange(3); a.flags.writeable = False\nb = np.arange(4); v = b[1:]; v.flags.writeable = False"
    )
    again = live.restart()
    assert not again["a"].flags.writeable
    assert not again["v"].flags.writeable
    assert again["b"].flags.writeable
    again.run("b[1] = 9; assert v[0] == 9")


def test_object_arrays_share_memory_and_objects(live):
    live.cell("import numpy as np\nl = [1]\na = np.array([l, None, 'x'], dtype=object); v = a[:2]")
    again = live.restart()
    assert again["a"][0] is again["l"] is again["v"][0]
    again.run("v[1] = 5; assert a[1] == 5")


def test_structured_arrays_and_fields_share_memory(live):
    live.cell(
        "import numpy as np\na = np.zeros(3, dtype=[('x', 'f8'), ('n', 'i4')]); x = a['x']; r = a[1:]"
    )
    again = live.restart()
    again.run("x[1] = 2.5; assert a[1]['x'] == 2.5 and r[0]['x'] == 2.5")


def test_arrays_over_a_bytearray_share_memory(live):
    live.cell("import numpy as np\nb = bytearray(8)\na = np.frombuffer(b, dtype='u2'); c = a[1:]")
    again = live.restart()
    again.run("a[1] = 0x0101; assert b[2:4] == b'\\x01\\x01' and c[0] == 0x0101")


def test_overlapping_windows_share_memory(live):
    live.cell(
        "import numpy as np\na = np.arange(6)\nw = np.lib.stride_tricks.sliding_window_view(a, 3)"
    )
    again = live.restart()
    again.run("a[2] = 77; assert w[0, 2] == 77 == w[1, 1] == w[2, 0]")


@pytest.mark.parametrize(
    "source",
    [
        "np.float64(1.5)",
        "np.int8(3)",
        "np.dtype('f4')",
        "np.str_('x')",
        "np.datetime64('2020-01-01')",
        "np.ma.array([1, 2], mask=[0, 1])",
        "np.array(5)",
        "np.zeros((0, 3))",
        "np.random.default_rng(3)",
        "np.random.RandomState(2)",
        "np.add",
        "np.nan",
        "np.recarray((2,), dtype=[('x', int)])",
    ],
)
def test_other_kinds_come_back(live, source):
    delta = live.cell(f"import numpy as np\nv = {source}\nw = [v]")
    assert not delta.lost
    again = live.restart()
    assert not again.lost
    assert type(again["v"]) is type(live["v"])
    assert repr(again["v"]).split(" at 0x")[0] == repr(live["v"]).split(" at 0x")[0]


def test_scalars_and_dtypes_join_no_groups(live):
    delta = live.cell(
        "import numpy as np\ns = np.float64(1.5); a = [s]; b = [s]; x = np.arange(3); y = np.arange(3)"
    )
    groups = {frozenset(blob.names) for blob in delta.blobs}
    assert {frozenset("a"), frozenset("b"), frozenset("x"), frozenset("y")} <= groups


@pytest.mark.slow
def test_a_big_array_is_written_only_when_it_was_touched(live):
    live.cell("import numpy as np\na = np.zeros(10**6)")
    assert live.cell("x = 1").size < 1000
    assert live.cell("a[5] = 1").size < 100_000
    assert live.cell("a[5] = 1").size == 0
