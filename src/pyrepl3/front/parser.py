"""What argparse does with bad usage and narrow terminals in, what we do out: the parsers of all commands.

argparse ends the process by itself: with 0 after ``--help``, with 2 after bad usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

USAGE = 2


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Takes the width itself: argparse asks shutil, which loads every compressor there is."""

    def __init__(self, prog: str) -> None:
        try:
            width = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
        except (OSError, ValueError):
            width = 80
        super().__init__(prog, width=min(width, 100) - 2)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line of ours, after the usage."""

    def error(self, message: str) -> NoReturn:
        """End the process with status 2."""
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"pyrepl3: {message}\n")
