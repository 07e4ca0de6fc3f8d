"""A value in, its MIME bundle out; and ``display``, for cells that show more than their last value."""

from __future__ import annotations

from typing import Any

from pyrepl3.records import Display
from pyrepl3.run.speaker import speaker
from pyrepl3.run.text import bounded, printable

# The rich reprs that notebooks have settled on; https://ipython.readthedocs.io/en/stable/config/integrating.html
_METHODS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
    "_repr_pdf_": "application/pdf",
    "_repr_latex_": "text/latex",
    "_repr_json_": "application/json",
    "_repr_javascript_": "application/javascript",
}
# Types whose repr is all there is to them: no need to look for ten methods.
_PLAIN = frozenset({int, float, complex, bool, str, bytes, list, tuple, dict, set, frozenset})


def safe_repr(value: object) -> str:
    """``repr(value)``, or a text that says how it failed; bounded, and valid Unicode.

    Raises only what is no Exception.
    """
    try:
        return bounded(repr(value))
    except Exception as error:  # noqa: BLE001  a broken repr is to be shown, not to end the cell
        name = type(value).__name__
        return bounded(f"<{name} object: its repr raised {type(error).__name__}: {_text(error)}>")


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  see safe_repr
        return "?"


def mime_bundle(value: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """``(data, metadata)`` by MIME type; ``text/plain`` is always there.

    Text is str, binary data bytes (or the base64 text that the object gave), and what stands under a
    JSON type is a plain JSON value of its own. A rich repr that raises, or returns None or something
    else, is left out.
    """
    if type(value) in _PLAIN:
        return {"text/plain": safe_repr(value)}, {}
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    if not isinstance(value, type):
        found, extra = _call(value, "_repr_mimebundle_", include=None, exclude=None)
        if isinstance(found, dict):
            for mime, part in found.items():
                _add(data, str(mime), part)
            metadata.update(_json(extra) or {})
        for method, mime in _METHODS.items():
            if mime not in data:
                found, extra = _call(value, method)
                if _add(data, mime, found) and extra:
                    metadata[mime] = _json(extra)
    if "text/plain" not in data:
        data["text/plain"] = safe_repr(value)
    return data, metadata


def _call(value: object, method: str, **options: Any) -> tuple[Any, Any]:
    """What a rich repr returned, ``x`` or ``(x, metadata)``, as a pair; ``(None, {})`` for none."""
    try:
        # Looked up on the type: objects that answer to every name (mocks, proxies) do not count.
        if not hasattr(type(value), method):
            return None, {}
        found = getattr(value, method)(**options)
    except Exception:  # noqa: BLE001  a rich repr that fails leaves the plain one
        return None, {}
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict):
        return found
    return found, {}


def _add(data: dict[str, Any], mime: str, part: Any) -> bool:
    """Put a part into the bundle, if it is of a kind that fits its type. Whether it was."""
    if mime == "application/json" or mime.endswith("+json"):
        part = None if part is None else _json(part)
    elif isinstance(part, str):
        part = bounded(part) if mime == "text/plain" else printable(part)
    elif isinstance(part, bytes | bytearray | memoryview):
        part = bytes(part)
    else:
        part = None
    if part is not None:
        data[mime] = part
    return part is not None


def _json(value: Any) -> Any:
    """A copy of ``value`` of plain JSON types; None where it cannot be one."""
    import json  # noqa: PLC0415  few values have any

    try:
        return json.loads(printable(json.dumps(value, ensure_ascii=False)))
    except Exception:  # noqa: BLE001  a user's object may raise anything
        return None


def display(*values: object, **named: object) -> None:
    """Show values now, each with its rich reprs, as part of the cell that calls this.

    Outside a cell that somebody watches it prints the plain reprs. Any thread or task of a cell.
    """
    if named:
        raise TypeError(f"display() takes values only, not {', '.join(named)}=")
    execution = speaker()
    for value in values:
        if execution is None or execution.sink is None:
            print(safe_repr(value))  # noqa: T201  that is what it is for
        else:
            data, metadata = mime_bundle(value)
            execution.sink.display(Display(cell_id=execution.cell.id, data=data, metadata=metadata))
