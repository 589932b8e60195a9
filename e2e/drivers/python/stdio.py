"""What the loops in Python have in common: see doc.go."""

import json
import os
import sys
import threading

NAME = os.environ["CROSSFADE_LOOP"]
MODE = os.environ["CROSSFADE_MODE"]

# The rows of the table reference, the tenants and their rows.
FEELINGS = ["sad", "ok", "happy"]
REFERENCE = {
    1: ("sad", ["sad", "happy"], "light", [1, 2, 3], (1, "one", "sad"), 10),
    2: ("ok", [], "medium", [], (2, "two", "ok"), 20),
    3: ("happy", ["happy", "ok", "sad"], "dark", [-1, 0, 2147483647], (3, "three", "happy"), 30),
}
TENANTS = {"north": [1, 2], "south": [10, 20, 30]}

# The one row of the table late, and what asks for the side that the loop is at.
LATE = ("autumn", ["autumn", "spring"], ("spring", 7))
HOME = os.environ["PGDATABASE"]
WHERE = "SELECT current_database()"

stopped = threading.Event()
operations = 0


def say(**message):
    print(json.dumps(message), flush=True)


def same(what, got, want):
    """Counts an operation and checks its result."""
    global operations
    operations += 1
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def watch():
    """Notices the end of the standard input."""

    def read():
        sys.stdin.read()
        stopped.set()

    threading.Thread(target=read, daemon=True).start()


def failed(error):
    say(error=f"{type(error).__name__}: {error}")
    raise SystemExit(1)
