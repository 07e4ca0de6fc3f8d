"""What a zygote says to its host: packed by the one, unpacked by the other. Pure."""

from __future__ import annotations

import struct

REPORT = struct.Struct(">cii")
"""One report: a kind, a pid, and for EXITED the wait status."""
READY = b"R"
FORKED = b"F"
"""A worker; pid 0: there are no more processes."""
EXITED = b"X"
