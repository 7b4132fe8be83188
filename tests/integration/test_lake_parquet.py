"""Parquet files alone, without a server: tests/lake/check_parquet.py's small cases under the readers' own Python. Its
large ones (two files of 45,000 rows and more of 190 columns) are for work on the writer."""

import os
import subprocess

from harness import tailrace_binary
from harness.tailrace import ROOT
from lake_readers import INSTALL, readers

FAST = False


def case_pyarrow_and_duckdb_read_what_was_written(t):
    if not readers():
        t.skip("parquet files", "no Python with pyarrow and DuckDB (tests/servers/lake_readers.sh says why)")
        return
    folder = os.environ.get("TAILRACE_LAKE_READERS") or subprocess.run(
        [INSTALL, "--where"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout.decode().strip()
    program = os.path.join(os.path.dirname(os.path.abspath(tailrace_binary())), "tests", "lake", "parquet_make")
    done = subprocess.run([os.path.join(folder, "venv", "bin", "python"), os.path.join(ROOT, "tests", "lake", "check_parquet.py"),
                           program, "--quick"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=False)
    lines = done.stdout.decode().splitlines()
    for line in lines[:-1]:
        good = line.startswith("ok ")
        name, _, why = line[3 if good else 7:].partition(": ")
        t.check("parquet " + name, good, why)
    t.check("parquet checks ran to their end", done.returncode == 0 and len(lines) > 15 and lines[-1].endswith(" 0 failed"),
            (lines[-1:], done.stderr.decode()[-600:]))


case_pyarrow_and_duckdb_read_what_was_written.timeout = 600
