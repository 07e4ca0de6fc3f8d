"""Receipts in, bytes out: whatever a cell printed or displayed, the receipt can be written.

Text with lone surrogates, integers beyond 64 bits and foreign objects in a MIME bundle are not
encodable; they are replaced by what they look like. A receipt never stops a commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pyrepl3.records import Receipt

_encode = msgspec.msgpack.Encoder().encode


def encode_receipt(receipt: Receipt) -> bytes:
    """The receipt as MessagePack; what cannot be encoded is replaced by its text."""
    try:
        return _encode(receipt)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return _encode(_plain(receipt, 0))


def plain_text(text: str) -> str:
    """``text`` with lone surrogates written as escapes, so that it is valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, msgspec.Struct):
        fields = value.__struct_fields__
        return type(value)(**{name: _plain(getattr(value, name), depth + 1) for name in fields})
    if isinstance(value, str):
        return plain_text(str(value))
    if value is None or isinstance(value, (bool, float, bytes)):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return int(value)
    if depth < 64 and isinstance(value, Mapping):
        return {plain_text(str(key)): _plain(item, depth + 1) for key, item in value.items()}
    if depth < 64 and isinstance(value, (list, tuple)):
        return tuple(_plain(item, depth + 1) for item in value)
    try:
        return plain_text(repr(value))[:1000]
    except Exception:  # noqa: BLE001 - a user's repr; the type's name still tells what it was
        return f"<{type(value).__name__}>"
