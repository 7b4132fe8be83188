"""The other side of lake_readers.py, run by the interpreter of tests/servers/lake_readers.sh: PyIceberg, DuckDB with its
Iceberg extension, fastavro. Reads one JSON request a line, answers one JSON line: {"answer": ...} or {"error": "..."}.

    {"do": "rows", "reader": "DuckDB", "metadata": URL, "snapshot": ID or null, "where": filter or null}   [{column: text}]
    {"do": "files", "metadata": URL}    {snapshot id: {"lists": [...], "manifests": [...], "live": [...]}}, by fastavro alone
    {"do": "current", "metadata": URL}  [data file, ...] of all entries of the current snapshot
    {"do": "sorted", "metadata": URL}   [marked, unmarked, wrong]: how many live data files say that they are sorted, how many
                                        do not, and [file, row, cell before, cell] where one is not
    {"do": "set_property" | "append", "folder": WAREHOUSE, "table": "public.t", ...}   a foreign commit by PyIceberg's catalog
    {"do": "create", "folder": WAREHOUSE, "table": "public.t"}                         a foreign table

Cells are text in the forms that lake.py has the server make. Shares no code with the product. Thread: main."""

import glob
import json
import os
import re
import struct
import sys
import uuid
from urllib.parse import unquote

import fastavro
import pyarrow as pa


def path_of(url):
    return unquote(re.sub("^file:/+", "/", url)) if url.startswith("file:/") else url


def texts(array):
    """The cells of an Arrow array as text; None stays None."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    if isinstance(array, pa.ChunkedArray):
        return [cell for chunk in array.chunks for cell in texts(chunk)]
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        cells = array.storage.to_pylist()
        return [None if v is None else str(uuid.UUID(bytes=v)) for v in cells]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return list_texts(array)
    if pa.types.is_timestamp(kind):
        mark = "tz:%d" if kind.tz else "ts:%d"
        units = {"s": (1000000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}[kind.unit]
        return [None if v is None else mark % (v * units[0] // units[1]) for v in array.cast(pa.int64()).to_pylist()]
    if pa.types.is_date32(kind):
        return [None if v is None else str(v) for v in array.cast(pa.int32()).to_pylist()]
    if pa.types.is_time64(kind):
        return [None if v is None else "t:%d" % v for v in array.cast(pa.int64()).to_pylist()]
    return [None if v is None else cell_text(v, kind) for v in array.to_pylist()]


def rank(cell):
    """What orders cells of one column: floats as Iceberg does, NaN above all and -0 below 0; text by its bytes."""
    if isinstance(cell, float):
        return (1, 0.0, 0) if cell != cell else (0, cell, struct.pack(">d", cell)[0] < 128)
    return cell.encode() if isinstance(cell, str) else cell.bytes if isinstance(cell, uuid.UUID) else cell


def in_order(fields, before, after):
    """Two rows' cells of a sort order's fields."""
    for field, a, b in zip(fields, before, after):
        if a is None or b is None:
            if a is None and b is None:
                continue
            return (a is None) == (field["null-order"] == "nulls-first")
        if rank(a) != rank(b):
            return (rank(a) < rank(b)) == (field["direction"] == "asc")
    return True


def list_texts(array):
    cells, at, out = texts(array.flatten()), 0, []
    for length in array.value_lengths().to_pylist():
        if length is None:
            out.append(None)
            continue
        out.append("[%s]" % ",".join("null" if v is None else v for v in cells[at : at + length]))
        at += length
    return out


def cell_text(value, kind):
    if isinstance(value, bool):
        return "true" if value else "false"
    if pa.types.is_float32(kind):
        return "f:7fc00000" if value != value else "f:" + struct.pack(">f", value).hex()
    if pa.types.is_float64(kind):
        return "d:7ff8000000000000" if value != value else "d:" + struct.pack(">d", value).hex()
    if pa.types.is_decimal(kind):
        return format(value, "f")
    if isinstance(value, str):
        return "s:" + value.encode().hex()
    if isinstance(value, bytes):
        return str(uuid.UUID(bytes=value)) if kind == pa.binary(16) else "x:" + value.hex()
    if isinstance(value, int):
        return str(value)
    raise TypeError("no text for %s" % kind)


def rows_of(table):
    names = table.schema.names
    columns = [texts(table.column(i)) for i in range(len(names))]
    return [dict(zip(names, row)) for row in zip(*columns)] if names else []


def current_entries(table):
    """Every manifest entry of the current snapshot."""
    for snapshot in table["snapshots"]:
        if snapshot["snapshot-id"] == table["current-snapshot-id"]:
            with open(path_of(snapshot["manifest-list"]), "rb") as file:
                manifests = [entry["manifest_path"] for entry in fastavro.reader(file)]
            for manifest in manifests:
                with open(path_of(manifest), "rb") as file:
                    yield from fastavro.reader(file)


class Worker:
    def __init__(self):
        self.duck = None

    def answer(self, request):
        return getattr(self, "do_" + request.pop("do"))(**request)

    def do_rows(self, reader, metadata, snapshot, where=None):
        return {"PyIceberg": self.pyiceberg_rows, "DuckDB": self.duckdb_rows}[reader](metadata, snapshot, where)

    @staticmethod
    def pyiceberg_rows(metadata, snapshot, where):
        from pyiceberg.table import StaticTable

        filtered = {"row_filter": where} if where else {}
        return rows_of(StaticTable.from_metadata(metadata).scan(snapshot_id=snapshot, **filtered).to_arrow())

    def duckdb_rows(self, metadata, snapshot, where):
        if self.duck is None:
            import duckdb
            import duckdb_extension_iceberg

            site = os.path.dirname(os.path.dirname(duckdb_extension_iceberg.__file__))
            self.duck = duckdb.connect()  # at its own default settings
            for name in ("avro", "httpfs", "iceberg"):
                found = glob.glob("%s/duckdb_extension_%s/extensions/v*/%s.duckdb_extension" % (site, name, name))
                self.duck.execute("load '%s'" % found[0])
            self.duck.execute("set timezone = 'UTC'")
        at = ", snapshot_from_id=%d" % snapshot if snapshot else ""
        sql = "select * from iceberg_scan('%s'%s)%s" % (metadata.replace("'", "''"), at, " where " + where if where else "")
        return rows_of(self.duck.execute(sql).to_arrow_table())

    @staticmethod
    def do_files(metadata):
        with open(path_of(metadata), encoding="utf-8") as file:
            snapshots = json.load(file)["snapshots"]
        read, out = {}, {}
        for snapshot in snapshots:
            listed = snapshot["manifest-list"]
            with open(path_of(listed), "rb") as file:
                manifests = [entry["manifest_path"] for entry in fastavro.reader(file)]
            live = []
            for manifest in manifests:
                if manifest not in read:
                    with open(path_of(manifest), "rb") as file:
                        read[manifest] = [
                            [e["data_file"]["file_path"], e["data_file"]["file_size_in_bytes"], e["data_file"]["content"]]
                            for e in fastavro.reader(file)
                            if e["status"] != 2
                        ]
                live += read[manifest]
            out[str(snapshot["snapshot-id"])] = {"list": listed, "manifests": manifests, "live": live}
        return out

    @staticmethod
    def do_current(metadata):
        """Every data file that an entry of the current snapshot names, live or not."""
        with open(path_of(metadata), encoding="utf-8") as file:
            table = json.load(file)
        return [entry["data_file"]["file_path"] for entry in current_entries(table)]

    def do_sorted(self, metadata):
        """pyarrow reads each marked file; the order is what the table's metadata says of the mark."""
        import pyarrow.parquet

        with open(path_of(metadata), encoding="utf-8") as file:
            table = json.load(file)
        orders = {order["order-id"]: order["fields"] for order in table["sort-orders"]}
        names = {field["id"]: field["name"] for schema in table["schemas"] for field in schema["fields"]}
        marked, unmarked, wrong = 0, 0, []
        for path, order in self.live_orders(table):
            if not order:
                unmarked += 1
                continue
            marked += 1
            file = pyarrow.parquet.ParquetFile(path_of(path))
            by_id = {int(f.metadata[b"PARQUET:field_id"]): f.name for f in file.schema_arrow}
            fields = orders[order]
            assert fields and all(f["transform"] == "identity" for f in fields), fields
            columns = [by_id.get(f["source-id"], names[f["source-id"]]) for f in fields]
            cells = [file.read([name]).column(0).to_pylist() for name in columns]
            rows = list(zip(*cells))
            for at in range(1, len(rows)):
                if not in_order(fields, rows[at - 1], rows[at]):
                    wrong.append([path, at, repr(rows[at - 1]), repr(rows[at])])
                    break
        return [marked, unmarked, wrong]

    @staticmethod
    def live_orders(table):
        """[path, sort_order_id] of the current snapshot's data files."""
        for entry in current_entries(table):
            found = entry["data_file"]
            if entry["status"] != 2 and found["content"] == 0:
                yield found["file_path"], found["sort_order_id"]

    @staticmethod
    def catalog(folder):
        from pyiceberg.catalog.sql import SqlCatalog

        return SqlCatalog("tailrace", uri="sqlite:///%s/catalog.db" % folder, warehouse="file://" + folder)

    def do_set_property(self, folder, table, key, value):
        loaded = self.catalog(folder).load_table(table)
        with loaded.transaction() as transaction:
            transaction.set_properties({key: value})

    def do_append(self, folder, table, rows):
        loaded = self.catalog(folder).load_table(table)
        schema = loaded.schema().as_arrow()
        loaded.append(pa.Table.from_pylist(rows, schema=schema))

    def do_create(self, folder, table):
        from pyiceberg.schema import Schema
        from pyiceberg.types import LongType, NestedField

        os.makedirs(folder, exist_ok=True)
        catalog = self.catalog(folder)
        catalog.create_namespace_if_not_exists(table.split(".")[0])
        made = catalog.create_table(table, Schema(NestedField(1, "foreign_id", LongType(), required=False)))
        made.append(pa.Table.from_pylist([{"foreign_id": 7}], schema=made.schema().as_arrow()))


def main():
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = {"answer": worker.answer(json.loads(line))}
        except Exception as error:  # whatever a reader says is the answer
            answer = {"error": "%s: %s" % (type(error).__name__, str(error)[:2000])}
        print(json.dumps(answer))
        sys.stdout.flush()


main()
