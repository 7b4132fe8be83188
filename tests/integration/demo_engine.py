"""An engine that is not ours and reads a lake: DuckDB with its Iceberg extension or, where that is missing, PyIceberg. Run by
the interpreter that tests/servers/lake_readers.sh installs; ./demo talks to it, and people may:

    demo_engine.py LAKE "select count(*), sum(balance) from public.accounts"     needs DuckDB

Without words it answers JSON lines. The first says who it is: {"engine": "DuckDB 1.5.5"}. Each request names the metadata file of
a table and a snapshot (null = the newest): {"metadata": URL, "snapshot": ID, "sum": COLUMN} -> {"answer": text} or
{"metadata": URL, "snapshot": ID, "columns": [..]} -> {"answer": [[text or null, ..], ..]}; what fails is {"error": text}.
Timestamps are told as microseconds since 1970. Shares no code with the product. Thread: main."""

import glob
import json
import os
import sqlite3
import sys

import pyarrow as pa
import pyarrow.compute


def texts(column):
    """The cells of an Arrow column as text."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return [None if value is None else str(value) for value in column.to_pylist()]


class DuckDB:
    """At its own default settings."""

    def __init__(self):
        import duckdb
        import duckdb_extension_iceberg
        site = os.path.dirname(os.path.dirname(duckdb_extension_iceberg.__file__))
        self.name = "DuckDB " + duckdb.__version__
        self.connection = duckdb.connect()
        for name in ("avro", "httpfs", "iceberg"):  # the wheels hold the extensions: nothing is fetched
            found = glob.glob("%s/duckdb_extension_%s/extensions/v*/%s.duckdb_extension" % (site, name, name))
            self.connection.execute("load '%s'" % found[0])
        self.connection.execute("set timezone = 'UTC'")

    def query(self, sql):
        return self.connection.execute(sql).to_arrow_table()

    def scan(self, metadata, snapshot, columns):
        at = ", snapshot_from_id = %d" % snapshot if snapshot else ""
        return self.query("select %s from iceberg_scan('%s'%s)" % (
            ", ".join('"%s"' % c for c in columns), metadata.replace("'", "''"), at))

    def total(self, metadata, snapshot, column):
        at = ", snapshot_from_id = %d" % snapshot if snapshot else ""
        sql = "select coalesce(sum(\"%s\"), 0) from iceberg_scan('%s'%s)" % (column, metadata.replace("'", "''"), at)
        return self.query(sql).column(0)[0].as_py()


class PyIceberg:
    def __init__(self):
        import pyiceberg
        from pyiceberg.table import StaticTable
        self.name = "PyIceberg " + pyiceberg.__version__
        self.open = StaticTable.from_metadata

    def scan(self, metadata, snapshot, columns):
        return self.open(metadata).scan(snapshot_id=snapshot, selected_fields=tuple(columns)).to_arrow().select(columns)

    def total(self, metadata, snapshot, column):
        return pyarrow.compute.sum(self.scan(metadata, snapshot, [column]).column(0)).as_py() or 0


def engine():
    try:
        return DuckDB()
    except (ImportError, IndexError):
        return PyIceberg()


def answer(reader, metadata, snapshot, columns=None, **more):
    if columns is None:
        return str(reader.total(metadata, snapshot, more["sum"]))
    table = reader.scan(metadata, snapshot, columns)
    return [list(row) for row in zip(*(texts(table.column(i)) for i in range(len(columns))))]


def show(lake, sql):
    """What people ask: each table of the catalogue is a view of its name."""
    reader = DuckDB()
    catalog = sqlite3.connect("file:%s/catalog.db?mode=ro" % lake, uri=True)
    for space, name, url in catalog.execute("select table_namespace, table_name, metadata_location from iceberg_tables"):
        space, name, url = space.replace('"', '""'), name.replace('"', '""'), url.replace("'", "''")
        reader.connection.execute('create schema if not exists "%s"' % space)
        reader.connection.execute('create view "%s"."%s" as select * from iceberg_scan(\'%s\')' % (space, name, url))
    print(reader.connection.sql(sql))


def main(words):
    if len(words) == 2:
        return show(*words)
    if words:
        print(__doc__, file=sys.stderr)
        return 2
    reader = engine()
    print(json.dumps({"engine": reader.name}), flush=True)
    for line in sys.stdin:
        try:
            said = {"answer": answer(reader, **json.loads(line))}
        except Exception as error:  # whatever a reader says is the answer
            said = {"error": "%s: %s" % (type(error).__name__, str(error)[:2000])}
        print(json.dumps(said), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
