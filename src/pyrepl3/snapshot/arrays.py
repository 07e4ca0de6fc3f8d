"""A numpy array in, what pickle is to write for it out, so that arrays which share memory still do.

Alone, an array is its bytes. Where two arrays of one blob use the same memory, they become views of
its owner: the array, bytearray or array.array that holds it. numpy loads only if the user did.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pyrepl3.snapshot import rebuild_values
from pyrepl3.snapshot.commons import Pickling


def reduce_array(pickler: Pickling, array: Any) -> Any:
    """For exact ``ndarray``; subclasses are pickled in their own way, without sharing."""
    owner, base = _find_buffer(array)
    pickler.buffers.setdefault(id(owner), set()).add(id(array))
    pickler.keep += (owner, array)
    writeable = array.flags.writeable
    if id(owner) in pickler.shared_buffers and array is not owner:
        address = array.__array_interface__["data"][0]
        offset = address - base.__array_interface__["data"][0]
        if _fits(array, base, offset):
            view = (owner, array.dtype, array.shape, array.strides, offset)
            return _reduction(rebuild_values.make_array_view, view, writeable)
    if array.dtype.hasobject or array.dtype.itemsize == 0:
        reduced = array.__reduce__()
        if not writeable:
            return (*reduced[:3], None, None, rebuild_values.set_frozen_array)
        return reduced
    # Not __reduce_ex__(5): an array restored by it does not own its memory, and cannot be resized.
    order = "C" if array.flags.c_contiguous or not array.flags.f_contiguous else "F"
    whole = _bytes_of(array.T if order == "F" else array)
    made = (whole, array.dtype, array.shape, order)
    return _reduction(rebuild_values.make_array, made, writeable)


def reduce_dtype(pickler: Pickling, dtype: Any) -> Any:
    """One of numpy's own number types by its name: numpy has one object of each, and so has a restore.

    By numpy's own way an array would come back with one that is only equal, beside that of its scalars.
    """
    import numpy as np

    if dtype.kind in "?biufc" and np.dtype(dtype.str) is dtype:
        return np.dtype, (dtype.str,)
    return NotImplemented


def find_shared(values: Mapping[str, object]) -> frozenset[int]:
    """The ids of the owners of memory that more than one of these arrays uses.

    A pickler finds them too, but after the first pickle, which is then written once more.
    """
    owners = _count_owners(values)
    return frozenset(owner for owner, count in owners.items() if count > 1)


def use_one_memory(values: Mapping[str, object]) -> bool:
    """Whether all of these are arrays, and parts of one."""
    return list(_count_owners(values).values()) == [len(values)]


def _count_owners(values: Mapping[str, object]) -> Counter[int]:
    arrays = [value for value in values.values() if _is_array(type(value))]
    if len(arrays) < 2:
        return Counter()
    return Counter(id(_find_buffer(array)[0]) for array in arrays)


def _is_array(kind: type[Any]) -> bool:
    return kind.__name__ == "ndarray" and kind.__module__ == "numpy"


def _reduction(function: Any, args: tuple[Any, ...], writeable: object) -> Any:
    if writeable:
        return function, args
    return function, args, (None,), None, None, rebuild_values.freeze_array


def _bytes_of(array: Any) -> pickle.PickleBuffer:
    import numpy as np

    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if not flat.flags.writeable:
        # Restored, the memory is writable in any case: whether its array is comes later.
        flat = np.asarray(_Place(flat))
    return pickle.PickleBuffer(flat)


class _Place:
    """The memory of an array, writable: numpy asks for this attribute."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.__array_interface__ = {
            **array.__array_interface__,
            "data": (array.__array_interface__["data"][0], False),
        }


def _find_buffer(array: Any) -> tuple[Any, Any]:
    """Whose memory an array uses, and an array at the start of that memory."""
    import array as arrays

    import numpy as np

    base, root = array, array.base
    while True:
        if type(root) is np.ndarray:
            base, root = root, root.base
        elif type(root).__name__ == "DummyArray":  # what as_strided puts between
            root = root.base
        else:
            break
    if type(root) is memoryview:
        root = root.obj
    if type(root) in (bytearray, arrays.array):
        return root, np.frombuffer(root, np.uint8)
    return base, base


def _fits(array: Any, base: Any, offset: int) -> bool:
    """Whether the array lies in the memory of ``base`` in such a way that it can be made again."""
    if not (base.flags.c_contiguous or base.flags.f_contiguous) or 0 in array.shape:
        return False
    if array.dtype.hasobject and array.dtype != base.dtype:
        return False
    low = high = offset
    for length, stride in zip(array.shape, array.strides, strict=True):
        low += min(0, (length - 1) * stride)
        high += max(0, (length - 1) * stride)
    return low >= 0 and high + array.dtype.itemsize <= int(base.nbytes)
