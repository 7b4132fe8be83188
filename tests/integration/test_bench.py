"""The bench itself, at sizes that measure nothing: every figure comes out, and the limit's client reads every row."""

import os
import re
import subprocess

from harness import tailrace_binary
from harness.tailrace import ROOT
from lake_readers import readers

FAST = False
SERVERS = False
FIGURES = ["pg_snapshot_1.ratio", "pg_snapshot_2.ratio", "pg_decode.ns_cell", "pg_stream.ratio", "pg_stream.cpu_us_row",
           "jsonl.rows_per_cpu_s", "pg_big_tx.rss_mib"]
LAKE = ["lake_pg.cpu_us_row", "lake_pg_1.ratio", "lake_pg_2.ratio", "parquet.us_row", "parquet.bytes_row", "index.probes_per_s",
        "index.bytes_key", "index.us_change", "index.us_insert", "upsert.rows_per_cpu_s", "lake.rss_mib", "lake_query.ratio"]


def bench(*words):
    done = subprocess.run([os.path.join(ROOT, "tests", "bench", "run"), *words], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def limit_pg(t, database, table, connections, chunk_rows):
    program = os.path.join(os.path.dirname(os.path.abspath(tailrace_binary())), "tests", "bench", "limit_pg")
    done = subprocess.run([program, t.server.conninfo(database) + " sslmode=disable", table, connections, chunk_rows],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    found = re.match(r"rows=(\d+) bytes=\d+ seconds=\d+\.\d+\n$", done.stdout.decode())
    return int(found.group(1)) if found and done.returncode == 0 else done.stderr.decode()


def case_quick(t):
    code, out, err = bench("--quick")
    t.equal("bench quick ends well", (code, "" if code == 0 else err[-2000:]), (0, ""))
    lines = [line.split(" ") for line in out.splitlines() if not line.startswith("# ")]
    t.equal("bench quick prints one line a figure", [line[0] for line in lines], FIGURES)
    t.check("bench quick measured each", all(len(line) == 2 and float(line[1]) > 0 for line in lines), out)


def case_quick_lake(t):
    parts, wanted = ["parquet", "index", "load_1", "load_2", "upsert"], list(LAKE)
    found = readers()
    if found is not None and not found.missing:
        parts.append("query")
    else:
        t.skip("bench quick lake, the part query", "it needs DuckDB and Iceberg's Java library (tests/servers/lake_readers.sh)")
        wanted.remove("lake_query.ratio")
    code, out, err = bench("--quick", "--only", ",".join(parts), "lake")
    t.equal("bench quick lake ends well", (code, "" if code == 0 else err[-2000:]), (0, ""))
    lines = [line.split(" ") for line in out.splitlines() if not line.startswith("# ")]
    t.equal("bench quick lake prints one line a figure", [line[0] for line in lines], wanted)
    t.check("bench quick lake measured each", all(len(line) == 2 and float(line[1]) > 0 for line in lines), out)


case_quick_lake.timeout = 600


def case_unknown_part(t):
    code, out, _err = bench("--quick", "--only", "snapshot_3")
    t.equal("bench refuses a part that is not there", (code, out), (2, ""))


def case_limit_reads_every_row(t):
    database = t.database("create table pair (a bigint, b int, t text, primary key (a, b));"
                          "insert into pair select i / 3, i % 3, repeat('x', i % 50) from generate_series(1, 1500) i;"
                          "create table turned (t text, k int primary key);"
                          "insert into turned select repeat('y', i % 90), i * 7 - 4000 from generate_series(1, 1500) i;"
                          "create table empty (k smallint primary key)")
    for connections in ("1", "3"):
        for chunk_rows in ("1", "7", "100000"):
            what = "%s connections, chunks of %s" % (connections, chunk_rows)
            t.equal("limit_pg composite key, " + what, limit_pg(t, database, "public.pair", connections, chunk_rows), 1500)
            t.equal("limit_pg int key, " + what, limit_pg(t, database, "public.turned", connections, chunk_rows), 1500)
    t.equal("limit_pg empty table", limit_pg(t, database, "public.empty", "2", "5"), 0)
    t.check("limit_pg no such table", "no table" in str(limit_pg(t, database, "public.nowhere", "1", "5")))
