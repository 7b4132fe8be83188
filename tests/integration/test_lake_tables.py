"""Small Iceberg tables of lake_table.c, without a server: tests/lake/judge.py under the readers' own Python."""

import os
import subprocess

from harness import tailrace_binary
from harness.tailrace import ROOT
from lake_readers import INSTALL, readers

FAST = False


def case_readers_agree_on_what_was_written(t):
    judged(t, [], 200)


if os.environ.get("TAILRACE_LAKE_MORE"):

    def case_more_readers_agree(t):
        judged(t, ["--more"], 100)

    case_more_readers_agree.timeout = 900


def judged(t, options, least):
    """judge.py with these options; `least`: lines it prints at least."""
    if not readers():
        t.skip("lake tables", "no Python with PyIceberg and DuckDB (tests/servers/lake_readers.sh says why)")
        return
    folder = os.environ.get("TAILRACE_LAKE_READERS") or subprocess.run(
        [INSTALL, "--where"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout.decode().strip()
    program = os.path.join(os.path.dirname(os.path.abspath(tailrace_binary())), "tests", "lake", "lake_table")
    judge = os.path.join(ROOT, "tests", "lake", "judge.py")
    done = subprocess.run([os.path.join(folder, "venv", "bin", "python"), judge, *options, program],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    lines = done.stdout.decode().splitlines()
    for line in lines[:-1]:
        if line.startswith("# "):
            t.note(line[2:])
            continue
        word = next(w for w in ("ok ", "not ok ", "skip ") if line.startswith(w))
        if word == "ok ":
            t.check("tables " + line[3:], True)
            continue
        name, _, why = line[len(word):].partition(": ")
        if word == "skip ":
            t.skip("tables " + name, why)
        else:
            t.check("tables " + name, False, why)
    t.check("tables: the judge ran to its end", done.returncode == 0 and len(lines) > least and " 0 failed" in lines[-1],
            (lines[-1:], done.stderr.decode()[-600:]))


case_readers_agree_on_what_was_written.timeout = 600
