"""Tables of pandas, polars and pyarrow to Arrow's stream format, and back into the library they came from.

The format holds no code: what a hostile worker writes can be wrong, and no more (with pyarrow 14.0.1 and
later, which loads no extension types from pickles). What Arrow cannot hold is refused, with the reason.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import NamespaceError

if TYPE_CHECKING:
    from pyrepl3.isolate.channel import Part

_KINDS = {
    ("pandas", "DataFrame"): "pandas.DataFrame",
    ("pandas", "Series"): "pandas.Series",
    ("polars", "DataFrame"): "polars.DataFrame",
    ("polars", "Series"): "polars.Series",
    ("pyarrow", "Table"): "pyarrow.Table",
    ("pyarrow", "RecordBatch"): "pyarrow.RecordBatch",
}
_ONE = "value"  # the column of a Series


def pack(value: Any, name: str) -> tuple[str, Part] | None:
    """Which kind of table it is, and its stream; None for what is none. Raises NamespaceError."""
    found = _kind_of(value)
    if found is None:
        return None
    arrow = _import("pyarrow", f"{name!r} cannot be fetched")
    try:
        table = _to_arrow(arrow, found, value)
        sink = arrow.BufferOutputStream()
        with arrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    except Exception as error:
        raise NamespaceError(
            f"{name!r} cannot be fetched: Arrow cannot hold it: {error}"
        ) from error
    return found, memoryview(sink.getvalue())


def unpack(kind: str, data: memoryview) -> Any:
    """The table. Raises NamespaceError where a library is missing here, ValueError for no table."""
    if kind not in _KINDS.values():
        raise ValueError(f"a table of unknown kind {kind!r}")
    library, _, form = kind.partition(".")
    arrow = _import("pyarrow", f"a {kind} cannot be fetched")
    module = _import(library, f"a {kind} cannot be fetched")
    table = arrow.ipc.open_stream(arrow.py_buffer(data)).read_all()
    if library == "pyarrow":
        return table if form == "Table" else table.combine_chunks().to_batches()[0]
    if library == "polars":
        frame = module.from_arrow(table)
        return frame if form == "DataFrame" else frame.to_series()
    frame = table.to_pandas()
    if form == "DataFrame":
        return frame
    series = frame[_ONE]
    named = (table.schema.metadata or {}).get(b"pyrepl3.name")
    return series.rename(None if named is None else named.decode())


def _kind_of(value: Any) -> str | None:
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    found = _KINDS.get((library, kind.__qualname__))
    # A class of a cell may call itself anything.
    return found if found and kind is getattr(sys.modules.get(library), kind.__qualname__) else None


def _to_arrow(arrow: Any, kind: str, value: Any) -> Any:
    match kind:
        case "pandas.DataFrame":
            return arrow.Table.from_pandas(value)
        case "pandas.Series":
            table = arrow.Table.from_pandas(value.to_frame(_ONE))
            if value.name is None:
                return table
            if not isinstance(value.name, str):
                raise TypeError(f"the name of a Series is no text: {value.name!r}")
            named = {**(table.schema.metadata or {}), b"pyrepl3.name": value.name.encode()}
            return table.replace_schema_metadata(named)
        case "polars.DataFrame":
            return value.to_arrow()
        case "polars.Series":
            return value.to_frame().to_arrow()
        case "pyarrow.RecordBatch":
            return arrow.Table.from_batches([value])
        case _:
            return value


def _import(name: str, what: str) -> Any:
    from importlib import import_module  # noqa: PLC0415

    try:
        return import_module(name)
    except ImportError as error:
        raise NamespaceError(
            f"{what} without {name}: pip install 'pyrepl3[arrow]' brings pyarrow, which both the "
            "session's environment and the caller's need"
        ) from error
