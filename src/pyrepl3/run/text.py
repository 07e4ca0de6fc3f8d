"""Text of the user's in, text that can be stored, sent and shown out: valid Unicode, of bounded length."""

from __future__ import annotations

LONGEST = 1024 * 1024
"""Characters of one repr or one error's text at most; what is beyond is cut out of its middle."""


def printable(text: str) -> str:
    """``text``, with lone surrogates written as escapes: such text has no UTF-8."""
    if type(text) is not str:  # a subclass may answer anything
        text = str.__str__(text)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def bounded(text: str) -> str:
    """``printable(text)``, at most about ``LONGEST`` characters: both ends, and how much is left out."""
    if type(text) is not str:
        text = str.__str__(text)
    if len(text) > LONGEST:
        half = LONGEST // 2
        text = f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"
    return printable(text)
