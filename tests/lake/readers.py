"""Independent readers of Iceberg tables, each giving rows as {column: text}, in one set of text forms.

    reader.rows(metadata_url, snapshot=None, where=None) -> list of {column: text}

Run with the interpreter of the folder that tests/servers/lake_readers.sh prints. Java is missing where that script could
not install it: `java(folder)` then gives None, and whoever asks says so loudly."""

import datetime
import decimal
import glob
import os
import struct
import subprocess
import sys
import uuid

EPOCH = datetime.datetime(1970, 1, 1)
MICROSECOND = datetime.timedelta(microseconds=1)


def cell_text(value, narrow=False):
    """The text form of one cell; narrow: a float of 32 bits."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:
            return "f:7fc00000" if narrow else "d:7ff8000000000000"
        return "f:" + struct.pack(">f", value).hex() if narrow else "d:" + struct.pack(">d", value).hex()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            return "ts:%d" % ((value - EPOCH) // MICROSECOND)
        return "tz:%d" % ((value.astimezone(datetime.timezone.utc).replace(tzinfo=None) - EPOCH) // MICROSECOND)
    if isinstance(value, datetime.time):
        return "t:%d" % (((value.hour * 60 + value.minute) * 60 + value.second) * 1000000 + value.microsecond)
    if isinstance(value, str):
        return "s:" + value.encode().hex()
    if isinstance(value, (bytes, bytearray)):
        return "x:" + bytes(value).hex()
    if isinstance(value, list):
        return "[%s]" % ",".join(cell_text(v) for v in value)
    return str(value)  # integers, dates, uuids


def arrow_rows(table):
    """The rows of an Arrow table; uuids may come as 16 bytes or as an extension type."""
    import pyarrow as pa
    narrow = {f.name for f in table.schema if f.type == pa.float32()}
    uuids = {f.name for f in table.schema if f.type == pa.binary(16) or "uuid" in str(f.type)}
    rows = []
    for row in table.to_pylist():
        texts = {}
        for name, value in row.items():
            if name in uuids and isinstance(value, (bytes, bytearray)):
                value = uuid.UUID(bytes=bytes(value))
            texts[name] = cell_text(value, name in narrow)
        rows.append(texts)
    return rows


class PyIceberg:
    name = "PyIceberg"

    def table(self, metadata_url):
        from pyiceberg.table import StaticTable
        return StaticTable.from_metadata(metadata_url)

    def catalog(self, folder):
        from pyiceberg.catalog.sql import SqlCatalog
        return SqlCatalog("tailrace", uri="sqlite:///%s/catalog.db" % folder, warehouse="file://" + folder)

    def rows(self, metadata_url, snapshot=None, where=None):
        scan = self.table(metadata_url).scan(snapshot_id=snapshot, **({"row_filter": where} if where else {}))
        return arrow_rows(scan.to_arrow())


class DuckDB:
    name = "DuckDB"

    def __init__(self):
        import duckdb
        import duckdb_extension_iceberg
        site = os.path.dirname(os.path.dirname(duckdb_extension_iceberg.__file__))
        # Its file cache mixes up neighbouring deletion vectors in 1.5; tailrace's are laid out so that this does not show.
        self.connection = duckdb.connect()
        for name in ("avro", "httpfs", "iceberg"):
            found = glob.glob("%s/duckdb_extension_%s/extensions/v*/%s.duckdb_extension" % (site, name, name))
            self.connection.execute("load '%s'" % found[0])
        self.connection.execute("set timezone = 'UTC'")
        self.connection.execute("set arrow_lossless_conversion = true")  # uuids as uuids

    def rows(self, metadata_url, snapshot=None, where=None):
        at = ", snapshot_from_id=%d" % snapshot if snapshot else ""
        sql = "select * from iceberg_scan('%s'%s)%s" % (metadata_url, at, " where " + where if where else "")
        return arrow_rows(self.connection.execute(sql).to_arrow_table())


class Java:
    name = "Java"

    def __init__(self, folder):
        with open(os.path.join(folder, "java", "cp.txt"), encoding="utf-8") as f:
            path = os.path.join(folder, "java", "classes") + ":" + f.read().strip()
        self.process = subprocess.Popen(["java", "-Xmx256m", "-cp", path, "tailrace.Scan"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8")

    def ask(self, *words):
        """The answer's lines, each split at its tabs."""
        self.process.stdin.write("\t".join(words) + "\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            line = line.rstrip("\n")
            if line == ".":
                return lines
            if line.startswith("! "):
                raise RuntimeError("Java: " + line[2:])
            lines.append(line.split("\t"))
        raise RuntimeError("Java ended")

    def rows(self, metadata_url, snapshot=None, where=None):
        if where:
            raise ValueError("the Java reader takes no filter here")
        words = ["scan", metadata_url, "shop.t"] + ([str(snapshot)] if snapshot else [])
        return [dict(cell.split("=", 1) for cell in line) for line in self.ask(*words)]

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


def java(folder):
    """The Java reader, or None where lake_readers.sh could not install it."""
    return Java(folder) if os.path.exists(os.path.join(folder, "java", "cp.txt")) else None


def folder_of_interpreter():
    """The folder of lake_readers.sh that this interpreter's venv lies in."""
    return os.path.dirname(sys.prefix)
