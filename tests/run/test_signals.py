"""One press of Ctrl-C counts once, whichever thread comes first."""

from __future__ import annotations

import subprocess
import sys

# Handler first: the thread that notes presses gets the interpreter only when the main one is in C code, which
# runs no handler until it ends, as on a machine that gives it no processor for a while.
SCRIPT = """
import hashlib, signal, sys, time
from pyrepl3.run.signals import MainThread

sys.setswitchinterval(60)
seen = []
main = MainThread(
    lambda cell: seen.append(cell) or True, unheard=lambda n: seen.append(n), running=lambda: "c1"
)
main.install()
for n in range(int(sys.argv[1])):
    signal.raise_signal(signal.SIGINT)
assert seen == [None] * int(sys.argv[1]), seen
before = time.monotonic()
while time.monotonic() - before < 0.6:
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000)
main.restore()
print(seen)
"""


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_press_that_was_heard_before_it_was_noted_counts_once():
    assert run("1") == "[None]"


def test_two_such_presses_count_twice_and_no_more():
    assert run("2") == "[None, None]"
