"""Independent readers of Iceberg tables, each giving rows as {column: text}, in one set of text forms.

    reader.rows(metadata_url, snapshot=None, where=None) -> list of {column: text}

Run with the interpreter of the folder that tests/servers/lake_readers.sh prints. Java is missing where that script could
not install it: `java(folder)` then gives None, and whoever asks says so loudly. `more(folder)` are those of its --more, each
in a process of its own (reader_worker.py); importing this file needs the standard library only. All are at their own
default settings."""

import atexit
import datetime
import decimal
import glob
import json
import os
import re
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


class Worker:
    """A reader_worker.py of one program, started when first asked; several readers may share it."""

    def __init__(self, folder, venv, program):
        self.python, self.program, self.process = os.path.join(folder, venv, "bin", "python"), program, None

    def ask(self, **request):
        if self.process is None or self.process.poll() is not None:
            script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reader_worker.py")
            self.process = subprocess.Popen([self.python, script, self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=subprocess.DEVNULL, text=True, encoding="utf-8")
            atexit.register(self.close)
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("%s ended with %s" % (self.program, self.process.wait()))
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["rows"]

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class More:
    """A reader in a process of its own.

    how       which way it finds a table (reader_worker.py); hint: by version-hint.text in its folder
    formats   the formats it can read; refusal: a part of what it says to others
    without   {column of judge.py's tables: why it cannot have that}
    filters   it takes SQL's filters; unheld: a word in those that it does not keep, beside the reason
    said()    a cell's text as far as it can say it; each limit stands beside its reason"""

    name, how, hint, formats, refusal, without, filters, unheld = "", "metadata", False, (2, 3), "", None, True, None

    def __init__(self, worker):
        self.worker = worker

    def rows(self, metadata_url, snapshot=None, where=None):
        return self.worker.ask(metadata=metadata_url, how=self.how, snapshot=snapshot, where=where)

    def refuses(self, version, kinds, transforms=()):
        """Why it cannot read a table of that format, those columns ({name: type}, lists as "list<type>") and that partition
        ((transform, type) each), or None."""
        return None if version in self.formats else "%s has no format v%d: %s" % (self.name, version, self.refusal)

    def said(self, kind, text):
        return text

    def holds(self, where):
        """Whether it can be asked for rows under that filter."""
        return self.filters and not (self.unheld and self.unheld in where)

    def close(self):
        self.worker.close()


class ClickHouse(More):
    """Embedded (chdb). By folder: of the metadata files that lie there, it takes the one with the highest number."""

    name, how, formats, refusal = "ClickHouse", "folder", (2,), "Position deletes are supported only for parquet format"

    def refuses(self, version, kinds, transforms=()):
        if any(transform.startswith("truncate") and kind.startswith("decimal(38") for transform, kind in transforms):
            return "Second argument must be of native integer type"  # icebergTruncate() has no decimals of 38 digits
        return super().refuses(version, kinds, transforms)

    def said(self, kind, text):
        if kind.startswith("list<") and text == "null":
            return "[]"  # its Array cannot be Nullable
        if kind in ("time", "list<time>"):
            # It reads Parquet's time as DateTime64(6) and casts that to Int64, which leaves whole seconds (26.9.2.1; a table
            # that PyIceberg wrote is read the same).
            return re.sub(r"t:(\d+)", lambda found: "t:%d" % (int(found.group(1)) // 1000000), text)
        return text


class Spark(More):
    name, why = "Spark", "Spark does not support time fields"
    without = {"tm": why}

    def refuses(self, version, kinds, transforms=()):
        if {"time", "list<time>"} & set(kinds.values()):
            return self.why
        return super().refuses(version, kinds, transforms)


class SparkCatalog(Spark):
    """Through catalog.db, by the table's name."""

    name, how = "Spark catalog", "catalog"


class Polars(More):
    """As it is with the package polars-iceberg beside it: its own planner and reader."""

    name, filters = "Polars", False


class PolarsOverPyIceberg(Polars):
    """As it is without that package."""

    name, how = "Polars over PyIceberg", "pyiceberg"


class PolarsNative(Polars):
    name, how = "Polars over PyIceberg, native", "native"


class DuckDBFolder(More):
    name, how, hint = "DuckDB folder", "folder", True


class DuckDB144(More):
    """The last of the series before."""

    name = "DuckDB 1.4.4"
    # Under such a filter it applies no deletes (seen with a table that Spark wrote: 116 rows of 87) and leaves out files from
    # before the column was added (one that PyIceberg wrote: 2 rows of 12); 1.5.5 is right.
    unheld = "is null"


MORE = ((ClickHouse, "venv-clickhouse", "clickhouse"), (Spark, "venv-spark", "spark"), (SparkCatalog, "venv-spark", "spark"),
        (Polars, "venv-polars", "polars"), (PolarsOverPyIceberg, "venv-polars", "polars"),
        (PolarsNative, "venv-polars", "polars"), (DuckDBFolder, "venv", "duckdb"), (DuckDB144, "venv-duckdb144", "duckdb"))


def more(folder):
    """([reader], {name: why it is missing}) of lake_readers.sh --more."""
    workers, found, missing = {}, [], {}
    for reader, venv, program in MORE:
        if not os.path.exists(os.path.join(folder, venv, "requirements.txt")):
            missing[reader.name] = "it is not installed (tests/servers/lake_readers.sh --more says why)"
            continue
        found.append(reader(workers.setdefault(venv, Worker(folder, venv, program))))
    return found, missing


def kinds_of(metadata):
    """{column: type} of a parsed metadata file's present schema, lists as "list<type>"."""
    schema = next(s for s in metadata["schemas"] if s["schema-id"] == metadata["current-schema-id"])
    return {f["name"]: f["type"] if isinstance(f["type"], str) else "list<%s>" % f["type"]["element"] for f in schema["fields"]}


def transforms_of(metadata):
    """[(transform, type of its column)] of a parsed metadata file's present partition."""
    spec = next(s for s in metadata["partition-specs"] if s["spec-id"] == metadata["default-spec-id"])
    kinds = {f["id"]: str(f["type"]) for schema in metadata["schemas"] for f in schema["fields"]}
    return [(field["transform"], kinds.get(field["source-id"], "")) for field in spec["fields"]]


def java(folder):
    """The Java reader, or None where lake_readers.sh could not install it."""
    return Java(folder) if os.path.exists(os.path.join(folder, "java", "cp.txt")) else None


def folder_of_interpreter():
    """The folder of lake_readers.sh that this interpreter's venv lies in."""
    return os.path.dirname(sys.prefix)
