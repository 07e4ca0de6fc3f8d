"""A value in, its MIME bundle out; and ``display``, for cells that show more than their last value."""

from __future__ import annotations

from typing import Any

from pyrepl3.records import Display
from pyrepl3.run.output import speaker

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
# Types whose repr is all there is to them: no need to look for nine methods.
_PLAIN = frozenset({int, float, complex, bool, str, bytes, list, tuple, dict, set, frozenset})


def safe_repr(value: object) -> str:
    """``repr(value)``, or a text that says how it failed. Raises only what is no Exception."""
    try:
        return repr(value)
    except Exception as error:  # a broken repr of the user's is to be shown, not to end the cell
        return f"<{type(value).__name__} object: its repr raised {type(error).__name__}: {_text(error)}>"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  see safe_repr
        return "?"


def mime_bundle(value: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """``(data, metadata)`` by MIME type; ``text/plain`` is always there.

    A rich repr that raises or returns None is left out; binary types hold bytes.
    """
    if type(value) in _PLAIN:
        return {"text/plain": safe_repr(value)}, {}
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    if not isinstance(value, type):
        bundle = _call(value, "_repr_mimebundle_", include=None, exclude=None)
        data.update(_take(bundle, metadata, None))
        for method, mime in _METHODS.items():
            if mime not in data:
                data.update(_take(_call(value, method), metadata, mime))
    if "text/plain" not in data:
        data["text/plain"] = safe_repr(value)
    return data, metadata


def _call(value: object, method: str, **options: Any) -> Any:
    # Looked up on the type: objects that answer to every name (mocks, proxies) do not count.
    if not hasattr(type(value), method):
        return None
    try:
        return getattr(value, method)(**options)
    except Exception:  # noqa: BLE001  a rich repr that fails leaves the plain one
        return None


def _take(found: Any, metadata: dict[str, Any], mime: str | None) -> dict[str, Any]:
    """What a rich repr returned, ``x`` or ``(x, metadata)``, as a part of the bundle."""
    if isinstance(found, tuple) and len(found) == 2:
        found, extra = found
        if isinstance(extra, dict) and extra:
            metadata.update(extra if mime is None else {mime: extra})
    if found is None:
        return {}
    if mime is not None:
        return {mime: found}
    return {str(key): part for key, part in found.items()} if isinstance(found, dict) else {}


def display(*values: object, **named: object) -> None:
    """Show values now, each with its rich reprs, as part of the cell that calls this.

    Outside a cell that somebody watches it prints the plain reprs. Any thread or task of a cell.
    """
    if named:
        raise TypeError(f"display() takes values only, not {', '.join(named)}=")
    execution = speaker()
    for value in values:
        if execution is None or execution.sink is None:
            print(safe_repr(value))
        else:
            data, metadata = mime_bundle(value)
            execution.sink.display(
                Display(cell_id=execution.cell.id, data=data, metadata=metadata)
            )
