"""Dropped pages come back when they are wanted: the code in them still runs."""

import subprocess
import sys

CODE = """
import sqlite3, streams.triton.memory
assert streams.triton.memory.drop_library_pages(("libpython", "sqlite3")) > 0
assert sqlite3.connect(":memory:").execute("select 6 * 7").fetchone() == (42,)
print("alive")
"""


def test_code_whose_pages_were_dropped_still_runs() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "alive", done.stderr
