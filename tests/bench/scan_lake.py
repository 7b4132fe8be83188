"""DuckDB scans Iceberg tables in turn: scan_lake.py SCANS SQL METADATA METADATA

Run by the interpreter of tests/servers/lake_readers.sh. SQL has {table} where a table stands; each must give the same rows,
else exit code 1. One scan of each first, whose time does not count: then the files are in the kernel's cache. Each scan has a
connection of its own, so that nothing of the one before is kept, and its time includes the reading of the metadata. The order
alternates. Prints a line of seconds a round, in the order of the arguments. Thread: main."""

import glob
import os
import sys
import time

import duckdb
import duckdb_extension_iceberg


def scan(sql, metadata):
    """(seconds, rows)"""
    site = os.path.dirname(os.path.dirname(duckdb_extension_iceberg.__file__))
    connection = duckdb.connect()
    for name in ("avro", "httpfs", "iceberg"):
        found = glob.glob("%s/duckdb_extension_%s/extensions/v*/%s.duckdb_extension" % (site, name, name))
        connection.execute("load '%s'" % found[0])
    began = time.monotonic()
    rows = connection.execute(sql.replace("{table}", "iceberg_scan('%s')" % metadata)).fetchall()
    seconds = time.monotonic() - began
    connection.close()
    return seconds, rows


def main(scans, sql, *tables):
    answers = [scan(sql, table)[1] for table in tables]
    if any(rows != answers[0] for rows in answers):
        print("the tables differ: %s" % answers, file=sys.stderr)
        return 1
    print("# DuckDB %s, %d threads, %s rows" % (duckdb.__version__, os.cpu_count(), answers[0][0][0]))
    for number in range(int(scans)):
        order = tables if number % 2 == 0 else tuple(reversed(tables))
        took = {table: scan(sql, table)[0] for table in order}
        print(*("%.6f" % took[table] for table in tables), flush=True)
    return 0


sys.exit(main(*sys.argv[1:]))
