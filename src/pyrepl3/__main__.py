"""``python -m pyrepl3``: the same as ``pyrepl3``."""

from pyrepl3.front.cli import run_command

if __name__ == "__main__":
    run_command()
