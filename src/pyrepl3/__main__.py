"""``python -m pyrepl3``: the same as ``pyrepl3``."""

import sys

from pyrepl3.front.cli import main

if __name__ == "__main__":
    sys.exit(main())
