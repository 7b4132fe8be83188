"""One of the readers that run in a Python of their own: reader_worker.py clickhouse|spark|polars|duckdb

Run by the interpreter of the venv that tests/servers/lake_readers.sh --more makes for it; readers.py has the other side. Reads
one JSON request a line and answers one JSON line, {"rows": [{column: text}]} or {"error": "..."}:

    {"metadata": URL, "how": HOW, "snapshot": ID or null, "where": filter or null}

HOW: which way the reader finds the table: "metadata", by that file; "folder", by the table's folder, in its own way of
finding out what is current there; "catalog", through catalog.db of the warehouse; "pyiceberg" and "native", of Polars, by
that file. Every reader is at its own default settings: what is set here is only where it finds its own parts, how much memory
and which local address it takes, and the time zone in which it shows instants. Cells are told by the types that the metadata
says, in the forms of readers.py, since some readers have fewer types than Iceberg. Thread: main."""

import glob
import json
import os
import sqlite3
import struct
import sys
import uuid
from urllib.parse import unquote

import pyarrow as pa


# ---- what the metadata says ----------------------------------------------------------------------------------------------

def path_of(url):
    return unquote(url[len("file://"):]) if url.startswith("file:///") else url


def kinds_of(metadata, snapshot):
    """{column: Iceberg's type}, lists as ["list", type]. Of the snapshot's schema first, then of the present one."""
    with open(path_of(metadata), encoding="utf-8") as file:
        table = json.load(file)
    wanted = [table["current-schema-id"]]
    wanted += [s["schema-id"] for s in table["snapshots"] if s["snapshot-id"] == snapshot and "schema-id" in s]
    kinds = {}
    for schema in wanted:
        for field in next(s for s in table["schemas"] if s["schema-id"] == schema)["fields"]:
            kind = field["type"]
            kinds[field["name"]] = ["list", kind["element"]] if isinstance(kind, dict) else kind
    return kinds


# ---- cells as text -------------------------------------------------------------------------------------------------------

def micros(array):
    """A time or an instant as microseconds; ClickHouse has times as plain integers already."""
    per, whole = {"s": (1000000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}[getattr(array.type, "unit", "us")]
    width = pa.int32() if pa.types.is_time32(array.type) else pa.int64()
    return [None if v is None else v * per // whole for v in array.cast(width).to_pylist()]


def texts(array, kind):
    """The cells of an Arrow array as text."""
    if isinstance(array, pa.ChunkedArray):
        return [text for chunk in array.chunks for text in texts(chunk, kind)]
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(kind, list):
        cells, at, out = texts(array.flatten(), kind[1]), 0, []
        for length in array.value_lengths().to_pylist():
            out.append("null" if length is None else "[%s]" % ",".join(cells[at:at + length]))
            at += length or 0
        return out
    if kind in ("time", "timestamp", "timestamptz"):
        mark = {"time": "t:%d", "timestamp": "ts:%d", "timestamptz": "tz:%d"}[kind]
        return ["null" if v is None else mark % v for v in micros(array)]
    if kind == "string" and not pa.types.is_string(array.type) and not pa.types.is_large_string(array.type):
        array = array.cast(pa.binary())  # of a reader that has bytes only
    return ["null" if v is None else TEXTS.get(kind.split("(")[0], str)(v) for v in array.to_pylist()]


def uuid_text(v):
    return str(uuid.UUID(bytes=bytes(v)) if isinstance(v, (bytes, bytearray)) else uuid.UUID(str(v)))


TEXTS = {
    "boolean": lambda v: "true" if v else "false",
    "float": lambda v: "f:7fc00000" if v != v else "f:" + struct.pack(">f", v).hex(),
    "double": lambda v: "d:7ff8000000000000" if v != v else "d:" + struct.pack(">d", v).hex(),
    "decimal": lambda v: format(v, "f"),
    "string": lambda v: "s:" + (v.encode() if isinstance(v, str) else bytes(v)).hex(),
    "binary": lambda v: "x:" + bytes(v).hex(),
    "uuid": uuid_text,
}


def rows_of(table, kinds):
    """The rows of an Arrow table."""
    names = table.schema.names
    columns = [texts(table.column(i), kinds[name]) for i, name in enumerate(names)]
    return [dict(zip(names, row)) for row in zip(*columns)]


# ---- the readers ---------------------------------------------------------------------------------------------------------

def quoted(text):
    return "'%s'" % text.replace("\\", "\\\\").replace("'", "\\'")


def folder_of(metadata):
    return os.path.dirname(os.path.dirname(path_of(metadata)))


class ClickHouse:
    """Embedded. Its only way to a local table is by folder: it takes the metadata file with the highest number."""

    def __init__(self):
        from chdb import session
        os.chdir("/")  # it reads local files below the folder that it is started in
        self.open, self.session = session.Session, None

    def table(self, metadata, how, snapshot, where):
        if how != "folder":
            raise ValueError("ClickHouse reads a local table by its folder")
        sql = "select * from icebergLocal(%s)" % quoted(folder_of(metadata))
        # How rows come out of it, not how they are read: texts that need not be UTF-8 as bytes.
        settings = ["output_format_arrow_string_as_string = 0"]
        settings += ["iceberg_snapshot_id = %d" % snapshot] if snapshot else []
        sql += (" where " + where if where else "") + " settings " + ", ".join(settings)
        self.session = self.session or self.open()
        try:
            answer = self.session.query(sql, "ArrowStream").bytes()
        except Exception:
            # chdb 4.4.0 puts what a failed query had given before the next one's answer (seen with throwIf() and numbers()).
            self.session.close()
            self.session = None
            raise
        return pa.ipc.open_stream(answer).read_all() if answer else pa.table({})


class Spark:
    """With Iceberg's own runtime; the jars lie beside its venv."""

    def __init__(self):
        from pyspark.sql import SparkSession
        jars = ":".join(sorted(glob.glob(os.path.join(os.path.dirname(sys.prefix), "spark", "*.jar"))))
        builder = SparkSession.builder
        for key, value in {
            "spark.master": "local[1]", "spark.driver.memory": "1g", "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": "1", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1",
            "spark.driver.extraClassPath": jars, "spark.sql.session.timeZone": "UTC", "spark.log.level": "OFF",
        }.items():
            builder = builder.config(key, value)
        self.spark = builder.getOrCreate()

    def table(self, metadata, how, snapshot, where):
        if how == "catalog":
            # A session each, since a catalog is one warehouse and keeps a table for half a minute.
            session, warehouse = self.spark.newSession(), os.path.dirname(os.path.dirname(folder_of(metadata)))
            for key, value in {
                "": "org.apache.iceberg.spark.SparkCatalog", ".type": "jdbc", ".warehouse": "file://" + warehouse,
                ".uri": "jdbc:sqlite:%s/catalog.db" % warehouse, ".jdbc.schema-version": "V1",
            }.items():
                session.conf.set("spark.sql.catalog.tailrace" + key, value)
            reader = session.read
            name = ".".join("`%s`" % part.replace("`", "``") for part in self.name_of(warehouse, metadata))
            rows = (reader.option("versionAsOf", str(snapshot)) if snapshot else reader).table("tailrace." + name)
        else:
            reader = self.spark.read.format("iceberg")
            rows = (reader.option("versionAsOf", str(snapshot)) if snapshot else reader).load(
                metadata if how == "metadata" else "file://" + folder_of(metadata))
        return (rows.where(where) if where else rows).toArrow()

    @staticmethod
    def name_of(warehouse, metadata):
        catalog = sqlite3.connect("file:%s/catalog.db?mode=ro" % warehouse, uri=True, timeout=20)
        try:
            return catalog.execute("select table_namespace, table_name from iceberg_tables where metadata_location = ?",
                                   (metadata,)).fetchone()
        finally:
            catalog.close()


class Polars:
    """pyiceberg: planned by PyIceberg, as where the package polars-iceberg is missing; native: so, and read by itself only."""

    def table(self, metadata, how, snapshot, where):
        import polars
        if where:
            raise ValueError("Polars takes no filter here")
        os.environ.pop("POLARS_ICEBERG_PLANNER", None)
        if how != "metadata":
            os.environ["POLARS_ICEBERG_PLANNER"] = "pyiceberg"
        override = {"reader_override": "native"} if how == "native" else {}
        return polars.scan_iceberg(metadata, snapshot_id=snapshot, **override).collect().to_arrow()


class DuckDB:
    def __init__(self):
        import duckdb
        self.connection = duckdb.connect()
        for name in ("avro", "httpfs", "iceberg"):
            found = "%s/lib/python3*/site-packages/duckdb_extension_%s/extensions/v*/%s.duckdb_extension"
            self.connection.execute("load '%s'" % glob.glob(found % (sys.prefix, name, name))[0])
        self.connection.execute("set timezone = 'UTC'")

    def table(self, metadata, how, snapshot, where):
        what = (metadata if how == "metadata" else folder_of(metadata)).replace("'", "''")
        at = ", snapshot_from_id=%d" % snapshot if snapshot else ""
        sql = "select * from iceberg_scan('%s'%s)%s" % (what, at, " where " + where if where else "")
        return self.connection.execute(sql).fetch_arrow_table()


READERS = {"clickhouse": ClickHouse, "spark": Spark, "polars": Polars, "duckdb": DuckDB}


def main():
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a reader prints is no answer
    reader = READERS[sys.argv[1]]()
    for line in sys.stdin:
        try:
            request = json.loads(line)
            kinds = kinds_of(request["metadata"], request["snapshot"])
            answer = {"rows": rows_of(reader.table(**request), kinds)}
        except Exception as error:  # whatever a reader says is the answer
            answer = {"error": "%s: %s" % (type(error).__name__, str(error)[:2000])}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
