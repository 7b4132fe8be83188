#!/usr/bin/env python3
"""Judges the tables of lake_table with readers that are not ours: judge.py [--more] LAKE_TABLE

LAKE_TABLE: the program built from lake_table.c. --more: only by the readers of `lake_readers.sh --more`, rows and filters.
Run with the interpreter of tests/servers/lake_readers.sh. Prints `ok NAME`, `not ok NAME: why`, `skip NAME: why`, and a
summary last. What the rows must be is computed here, not asked."""

import datetime
import json
import os
import struct
import subprocess
import sys
import tempfile
import urllib.parse
import uuid
from decimal import Decimal

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

import fastavro  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

import readers  # noqa: E402

TABLES = ["plain_v2", "plain_v3", "parted_v2", "parted_v3", "dated_v2", "dated_v3"]
COLUMNS = ["id", "flag", "big", "f", "d", "dec9", "dec18", "dec38", "day", "tm", "ts", "tz", "na me", "bin", "uid",
           "tags", "note"]
results = {"ok": 0, "not ok": 0, "skip": 0}


def say(kind, name, why=""):
    results[kind] += 1
    print("%s %s%s" % (kind, name, ": " + str(why).replace("\n", " ")[:400] if why else ""), flush=True)


def check(name, held, why="it does not hold"):
    say("ok" if held else "not ok", name, "" if held else why)


# ---- what the rows are ---------------------------------------------------------------------------------------------------

def value_of(column, i):
    """Row i's value, as lake_table.c has it."""
    number = COLUMNS.index(column)
    if column == "note":
        number = 16
    if number and (i + number) % 9 == 0:
        return None
    epoch = datetime.datetime(1970, 1, 1)
    micros = datetime.timedelta(microseconds=1)
    if column == "id":
        return i
    if column == "flag":
        return i % 3 == 0
    if column == "big":
        return (i - 500) * 1000000007 * 1000003
    if column == "f":
        return float("nan") if i % 11 == 5 else -0.0 if i == 0 else i / 4
    if column == "d":
        return float("-inf") if i % 13 == 6 else i / 2
    if column == "dec9":
        return Decimal((i - 500) * 12345).scaleb(-2)
    if column == "dec18":
        return Decimal((i - 500) * 10 ** 14 + 7).scaleb(-4)
    if column == "dec38":
        return Decimal((0, tuple(map(int, str(abs((i - 500) * 10 ** 33 + 3)))), -10)) * (1 if i >= 500 else -1)
    if column == "day":
        return datetime.date(1970, 1, 1) + datetime.timedelta(days=i * 37 - 10000)
    if column == "tm":
        return (datetime.datetime.min + micros * (i * 86399999)).time()
    if column == "ts":
        return epoch + micros * ((i - 300) * 43200123456)
    if column == "tz":
        return (epoch + micros * ((i - 300) * 43200123456 + 1)).replace(tzinfo=datetime.timezone.utc)
    if column == "na me":
        return "name-%d-" % i + "\u00e9\u20ac\U0001f600" * (i % 5)
    if column == "bin":
        return bytes((i * 31 + k) & 255 for k in range(i % 20))
    if column == "uid":
        return uuid.UUID(bytes=struct.pack(">QQ", i * 0x9E3779B97F4A7C15 % 2 ** 64, i * 0xD1B54A32D192ED03 % 2 ** 64))
    if column == "tags":
        return [None if (i + k) % 6 == 0 else i + k for k in range(i % 4)]
    return "n%d" % i


def context_exact():
    import decimal
    decimal.getcontext().prec = 60


def expected_row(i, later, table):
    """A row as the schema before or after its change shows it. Partitioned by `big`, a table keeps it when it is dropped."""
    columns = [c for c in COLUMNS if c != (table != "dated_v3" and "big" if later else "note")]
    missing = lambda c: c == "note" and i < 500 or c == "big" and i >= 500  # noqa: E731
    return {c: readers.cell_text(None if missing(c) else value_of(c, i), c == "f") for c in columns}


def expected(snapshot, table):
    if snapshot == 1001:
        return [expected_row(i, False, table) for i in range(500)]
    keep = (lambda i: True) if snapshot == 1002 else (lambda i: i % 10 != 3)
    return [expected_row(i, True, table) for i in range(1000) if keep(i)]


def compare(name, got, want):
    order = lambda rows: sorted(rows, key=lambda r: int(r["id"]))  # noqa: E731
    got, want = order(got), order(want)
    if len(got) != len(want):
        say("not ok", name, "%d rows, want %d" % (len(got), len(want)))
        return
    for g, w in zip(got, want):
        if g != w:
            differ = [(c, g.get(c), w.get(c)) for c in sorted(set(g) | set(w)) if g.get(c) != w.get(c)]
            say("not ok", name, "row %s: (column, got, want) %s" % (w["id"], differ[:4]))
            return
    say("ok", name)


# ---- the metadata --------------------------------------------------------------------------------------------------------

def path_of(url):
    assert url.startswith("file:///"), url
    return url[7:]


def avro(url):
    """(header, schema, records) of an Avro file."""
    with open(path_of(url), "rb") as f:
        reader = fastavro.reader(f)
        return reader.metadata, reader.writer_schema, list(reader)


def field_ids(schema, prefix=""):
    """{path: field id} of all fields, through unions, arrays and records."""
    found = {}
    if isinstance(schema, list):
        for branch in schema:
            found.update(field_ids(branch, prefix))
    elif isinstance(schema, dict) and schema["type"] == "record":
        for f in schema["fields"]:
            found[prefix + f["name"]] = f["field-id"]
            found.update(field_ids(f["type"], prefix + f["name"] + "."))
    elif isinstance(schema, dict) and schema["type"] == "array":
        if "element-id" in schema:
            found[prefix + "[]"] = schema["element-id"]
        found.update(field_ids(schema["items"], prefix))
    return found


LIST_IDS = {"manifest_path": 500, "manifest_length": 501, "partition_spec_id": 502, "content": 517, "sequence_number": 515,
            "min_sequence_number": 516, "added_snapshot_id": 503, "added_files_count": 504, "existing_files_count": 505,
            "deleted_files_count": 506, "added_rows_count": 512, "existing_rows_count": 513, "deleted_rows_count": 514,
            "partitions": 507, "partitions.[]": 508, "partitions.contains_null": 509, "partitions.contains_nan": 518,
            "partitions.lower_bound": 510, "partitions.upper_bound": 511, "key_metadata": 519}
ENTRY_IDS = {"status": 0, "snapshot_id": 1, "sequence_number": 3, "file_sequence_number": 4, "data_file": 2}
FILE_IDS = {"content": 134, "file_path": 100, "file_format": 101, "partition": 102, "record_count": 103,
            "file_size_in_bytes": 104, "column_sizes": 108, "column_sizes.key": 117, "column_sizes.value": 118,
            "value_counts": 109, "value_counts.key": 119,
            "value_counts.value": 120, "null_value_counts": 110, "null_value_counts.key": 121, "null_value_counts.value": 122,
            "nan_value_counts": 137, "nan_value_counts.key": 138, "nan_value_counts.value": 139, "lower_bounds": 125,
            "lower_bounds.key": 126, "lower_bounds.value": 127, "upper_bounds": 128, "upper_bounds.key": 129,
            "upper_bounds.value": 130, "key_metadata": 131, "split_offsets": 132, "split_offsets.[]": 133, "equality_ids": 135,
            "equality_ids.[]": 136, "sort_order_id": 140, "referenced_data_file": 143}
FILE_IDS_V3 = {"first_row_id": 142, "content_offset": 144, "content_size_in_bytes": 145}


def check_list(name, version, snapshot):
    header, schema, rows = avro(snapshot.manifest_list)
    want = dict(LIST_IDS, **({"first_row_id": 520} if version == 3 else {}))
    named = schema["name"] == "manifest_file" and field_ids(schema) == want
    check(name + " list: names and field ids", named, field_ids(schema))
    keys = {"snapshot-id": str(snapshot.snapshot_id), "sequence-number": str(snapshot.sequence_number),
            "parent-snapshot-id": str(snapshot.parent_snapshot_id or "null"), "format-version": str(version)}
    said = all(header.get(k) == v for k, v in keys.items()) and header["avro.codec"] == "deflate"
    check(name + " list: header", said, header)
    check(name + " list: lengths", all(os.path.getsize(path_of(r["manifest_path"])) == r["manifest_length"] for r in rows))
    return rows


def check_manifest(name, version, meta, row):
    header, schema, entries = avro(row["manifest_path"])
    spec = next(s for s in meta.partition_specs if s.spec_id == row["partition_spec_id"])
    want = dict(ENTRY_IDS)
    files = dict(FILE_IDS, **(FILE_IDS_V3 if version == 3 else {}))
    want.update({"data_file." + k: v for k, v in files.items()})
    names = {f.field_id: "".join(c if c.isalnum() or c == "_" else "_x%X" % ord(c) for c in f.name) for f in spec.fields}
    want.update({"data_file.partition." + n: i for i, n in names.items()})
    check(name + ": names and field ids", schema["name"] == "manifest_entry" and field_ids(schema) == want,
          set(field_ids(schema).items()) ^ set(want.items()))
    maps = [f["type"][1].get("logicalType") for f in schema["fields"][4]["type"]["fields"] if f["name"] in (
        "column_sizes", "value_counts", "null_value_counts", "nan_value_counts", "lower_bounds", "upper_bounds")]
    check(name + ": maps have their logical type", maps == ["map"] * 6, maps)
    fields = json.loads(header["partition-spec"])
    content = "deletes" if row["content"] else "data"
    check(name + ": header", header["content"] == content and header["format-version"] == str(version) and
          header["partition-spec-id"] == str(spec.spec_id) and
          int(header["schema-id"]) in {s.schema_id for s in meta.schemas} and
          [f["field-id"] for f in fields] == [f.field_id for f in spec.fields] and
          json.loads(header["schema"])["type"] == "struct", header)
    check(name + ": counts", (row["added_files_count"], row["added_rows_count"]) ==
          (len(entries), sum(e["data_file"]["record_count"] for e in entries)))
    return spec, entries


def check_partition(name, meta, spec, entry, table):
    """Every row of the file has the partition's values, by PyIceberg's transforms; its folder says them."""
    values = list(entry["data_file"]["partition"].values())
    for field, value in zip(spec.fields, values):
        source = next(f for s in meta.schemas for f in s.fields if f.field_id == field.source_id)
        transform = field.transform.transform(source.field_type)
        column = table.column(source.name).to_pylist()
        for v in set(map(to_internal, column)):
            got = transform(v)
            if isinstance(got, datetime.date):
                got = (got - datetime.date(1970, 1, 1)).days
            if isinstance(value, datetime.date):
                value = (value - datetime.date(1970, 1, 1)).days
            if got != value:
                return "%s of %r is %r, the manifest has %r" % (field.name, v, got, value)
    path = path_of(entry["data_file"]["file_path"]).split("/data/")[1].split("/")[:-1]
    names = [urllib.parse.unquote_plus(p.split("=")[0]) for p in path]
    return None if names == [f.name for f in spec.fields] else "folders %r" % path


def to_internal(v):
    if isinstance(v, datetime.datetime):
        base = datetime.datetime(1970, 1, 1, tzinfo=v.tzinfo)
        return (v - base) // datetime.timedelta(microseconds=1)
    if isinstance(v, datetime.date):
        return (v - datetime.date(1970, 1, 1)).days
    return v


def check_metrics(meta, entry, table):
    """Counts equal what the file holds, bounds contain it."""
    from pyiceberg.conversions import from_bytes
    f = entry["data_file"]
    pairs = {k: {p["key"]: p["value"] for p in f[k] or []} for k in
             ("column_sizes", "value_counts", "null_value_counts", "nan_value_counts", "lower_bounds", "upper_bounds")}
    schema = next(s for s in reversed(meta.schemas) if set(table.column_names) == {x.name for x in s.fields})
    for field in schema.fields:
        column = table.column(field.name).to_pylist()
        plain = [v for v in column if v is not None and v == v]
        if field.name == "tags":
            if field.field_type.element_id not in pairs["column_sizes"] or field.field_id in pairs["value_counts"]:
                return "metrics of the list"
            continue
        i = field.field_id
        if pairs["value_counts"].get(i) != len(column) or pairs["null_value_counts"].get(i) != column.count(None):
            return "counts of %s" % field.name
        nans = sum(1 for v in column if v is not None and v != v)
        if pairs["nan_value_counts"].get(i) != (nans if field.name in ("f", "d") else None):
            return "NaN count of %s" % field.name
        if i not in pairs["lower_bounds"] or i not in pairs["upper_bounds"]:
            if plain and field.name not in ("uid", "bin"):
                return "no bounds of %s" % field.name
            continue
        lower, upper = (from_bytes(field.field_type, pairs[k][i]) for k in ("lower_bounds", "upper_bounds"))
        if field.name == "uid":
            plain = [v if isinstance(v, uuid.UUID) else uuid.UUID(bytes=v) for v in plain]
        elif field.name == "tm":
            plain = [((v.hour * 60 + v.minute) * 60 + v.second) * 10 ** 6 + v.microsecond for v in plain]
        else:
            plain = [to_internal(v) for v in plain]
        if not plain or not all(lower <= v <= upper for v in plain):
            return "bounds %r and %r of %s" % (lower, upper, field.name)
        if field.name == "na me" and max(len(lower), len(upper)) > 16:
            return "bounds of more than 16 code points"
        if field.name in ("dec9", "dec38", "ts", "id", "d") and (lower, upper) != (min(plain), max(plain)):
            return "bounds %r and %r of %s are not tight" % (lower, upper, field.name)
    return None


def check_table(name, url):
    version = int(name[-1])
    table = readers.PyIceberg().table(url)
    meta = table.metadata
    check(name + " metadata: version, sequence, columns", (meta.format_version, meta.last_sequence_number, meta.last_column_id) ==
          (version, 3, 18), meta)
    check(name + " metadata: identifier fields", [s.identifier_field_ids for s in meta.schemas] == [[1], [1]])
    check(name + " metadata: widened, dropped, added", str(meta.schemas[0].find_field(1).field_type) == "int" and
          str(meta.schemas[1].find_field(1).field_type) == "long" and meta.schema().find_field("note").field_id == 18 and
          ("big" in meta.schema().column_names) == (name == "dated_v3"))
    check(name + " metadata: logs", [e.snapshot_id for e in meta.snapshot_log] == [1001, 1002, 1003] and
          len(meta.metadata_log) == 2 and os.path.exists(path_of(meta.metadata_log[-1].metadata_file)))
    if version == 3:
        check(name + " metadata: row lineage", meta.next_row_id == 1000, meta.next_row_id)
    rows = check_list(name, version, meta.current_snapshot())
    for number, row in enumerate(rows):
        spec, entries = check_manifest("%s manifest %d" % (name, number), version, meta, row)
        check("%s manifest %d: sizes, sequences" % (name, number), all(
            os.path.getsize(path_of(e["data_file"]["file_path"])) == e["data_file"]["file_size_in_bytes"] and
            e["status"] == 1 and e["sequence_number"] is None and e["snapshot_id"] is None for e in entries))
        if row["content"]:
            named = all(e["data_file"]["referenced_data_file"] for e in entries)
            check("%s manifest %d: each names its data file" % (name, number), named)
            continue
        parts, metrics = [], []
        for e in entries:
            data = pq.read_table(path_of(e["data_file"]["file_path"]), partitioning=None)
            parts.append(check_partition(name, meta, spec, e, data))
            metrics.append(check_metrics(meta, e, data))
        check("%s manifest %d: partitions" % (name, number), not any(parts), next(filter(None, parts), None))
        check("%s manifest %d: metrics" % (name, number), not any(metrics), next(filter(None, metrics), None))


FILTERS = {  # what PyIceberg and DuckDB are asked, and the same as a function of the row's number
    "id = 505": lambda i: i == 505,
    "id < 7": lambda i: i < 7,
    "dec9 >= 12345.00": lambda i: value_of("dec9", i) is not None and value_of("dec9", i) >= 12345,
    "flag = true": lambda i: value_of("flag", i) is True,
    "day < '1950-01-01'": lambda i: value_of("day", i) is not None and value_of("day", i) < datetime.date(1950, 1, 1),
    "ts >= '1970-03-01T00:00:00'": lambda i: value_of("ts", i) is not None and value_of("ts", i) >=
    datetime.datetime(1970, 3, 1),
    "tz < '1969-12-01T00:00:00+00:00'": lambda i: value_of("tz", i) is not None and value_of("tz", i) <
    datetime.datetime(1969, 12, 1, tzinfo=datetime.timezone.utc),
    "note is null": lambda i: i < 500 or value_of("note", i) is None,
}


def check_filters(reader, name, url, written=None):
    """written: {filter: how this reader has it} where that is another text; None for one that it has no words for."""
    for text, holds in FILTERS.items():
        where = (written or {}).get(text, text)
        if where is None:
            continue
        try:
            got = sorted(int(r["id"]) for r in reader.rows(url, where=where))
            want = [i for i in range(1000) if i % 10 != 3 and holds(i)]
            check("%s %s where %s" % (reader.name, name, text), got == want, "%d rows, want %d" % (len(got), len(want)))
        except Exception as error:
            say("not ok", "%s %s where %s" % (reader.name, name, text), "%s: %s" % (type(error).__name__, error))


def check_rows(reader, name, url):
    for snapshot in (None, 1002, 1001):
        label = "%s %s rows at %s" % (reader.name, name, snapshot or "the end")
        try:
            rows = reader.rows(url, snapshot)
        except Exception as error:
            say("not ok", label, "%s: %s" % (type(error).__name__, error))
            continue
        want = expected(snapshot or 1003, name)
        if snapshot == 1001 and rows and "note" in rows[0]:  # a reader that shows old snapshots in today's schema
            want = [expected_row(i, True, name) for i in range(500)]
        compare(label, rows, want)


# A DateTime of ClickHouse, which a plain text becomes beside a column of instants, begins with 1970.
IN_CLICKHOUSE = {
    "day < '1950-01-01'": "day < toDate32('1950-01-01')",
    "ts >= '1970-03-01T00:00:00'": "ts >= toDateTime64('1970-03-01 00:00:00', 6, 'UTC')",
    "tz < '1969-12-01T00:00:00+00:00'": "tz < toDateTime64('1969-12-01 00:00:00', 6, 'UTC')",
}


def said(reader, kinds, row):
    """A row that is wanted, as far as the reader can say it."""
    return {c: reader.said(kinds[c], text) for c, text in row.items()}


def check_more(reader, name, url, left_out):
    """left_out: {column: why} that the tables at hand have not, since this reader cannot have it."""
    with open(path_of(url), encoding="utf-8") as file:
        metadata = json.load(file)
    kinds = {}
    for schema in metadata["schemas"]:
        kinds.update(readers.kinds_of(dict(metadata, **{"current-schema-id": schema["schema-id"]})))
    version = metadata["format-version"]
    if version not in reader.formats:
        check_refusal(reader, name, url, version)
        return
    for column, why in left_out.items():
        print("# %s %s without the column %s: %s" % (reader.name, name, column, why))
    for snapshot in (None, 1002, 1001):
        label = "%s %s rows at %s" % (reader.name, name, snapshot or "the end")
        try:
            rows = reader.rows(url, snapshot)
        except Exception as error:
            say("not ok", label, "%s: %s" % (type(error).__name__, error))
            continue
        want = expected(snapshot or 1003, name)
        if snapshot == 1001 and rows and "note" in rows[0]:
            want = [expected_row(i, True, name) for i in range(500)]
        want = [{c: text for c, text in row.items() if c not in left_out} for row in want]
        compare(label, rows, [said(reader, kinds, row) for row in want])
    if reader.filters:
        written = dict(IN_CLICKHOUSE) if reader.name == "ClickHouse" else {}
        check_filters(reader, name, url, dict(written, **{text: None for text in FILTERS if not reader.holds(text)}))


def check_refusal(reader, name, url, version):
    """A reader without that format says so: it never gives other rows."""
    label = "%s %s: it has no format v%d and refuses" % (reader.name, name, version)
    try:
        rows = reader.rows(url)
        say("not ok", label, "it gave %d rows" % len(rows))
    except Exception as error:
        check(label, reader.refusal in str(error), error)


def judge_more(program):
    """Every table by every reader of --more."""
    found, missing = readers.more(readers.folder_of_interpreter())
    for name, why in missing.items():
        say("skip", name, why)
    with tempfile.TemporaryDirectory(prefix="tailrace-lake-") as top:
        made = {}
        for reader in found:
            if reader.how == "folder" and reader.hint:
                continue  # these tables have no version-hint.text, which is the engine's part
            left_out = reader.without or {}
            key = "-".join(left_out)
            if key not in made:
                folder = os.path.join(top, "all" + key)
                os.mkdir(folder)
                done = subprocess.run([program, "make", folder] + list(left_out), check=True, stdout=subprocess.PIPE, text=True)
                made[key] = dict(line.split() for line in done.stdout.splitlines())
            for name in TABLES:
                check_more(reader, name, made[key][name], left_out)
        for reader in found:
            reader.close()


def show(program, folder, url):
    """What our own reader counts in a table."""
    return json.loads(subprocess.run([program, "show", folder, url], check=True, stdout=subprocess.PIPE).stdout)


def check_catalog(program, folder, urls):
    """PyIceberg opens catalog.db as it is, adds a table and appends to one of ours; our reader follows."""
    catalog = readers.PyIceberg().catalog(folder)
    check("catalog: namespaces and tables", catalog.list_namespaces() == [("shop",)] and
          sorted(catalog.list_tables("shop")) == sorted(("shop", t) for t in TABLES))
    table = catalog.load_table("shop.plain_v2")
    check("catalog: location", table.metadata_location == urls["plain_v2"], table.metadata_location)
    later = table.scan(row_filter="id = 505").to_arrow()
    table.append(later)
    table.refresh()
    check("catalog: PyIceberg appends", table.scan().to_arrow().num_rows == 901)
    shown = show(program, folder, table.metadata_location)
    check("our reader follows PyIceberg's commit", (shown["rows"], shown["dead"], shown["data_files"]) == (1001, 100, 3), shown)
    catalog.create_table("shop.foreign", table.schema())
    check("catalog: PyIceberg creates a table", ("shop", "foreign") in catalog.list_tables("shop"))


def check_rewrite(java, program, folder, where, name):
    """Java writes all manifests anew through catalog.db; our reader and PyIceberg see the same table."""
    label = name + " rewritten by Java"
    try:
        java.ask("rewrite", where, "shop." + name)
        table = readers.PyIceberg().catalog(folder).load_table("shop." + name)
        check(label + ": a new snapshot", len(table.metadata.snapshots) == 4 and
              table.current_snapshot().summary.operation.value == "replace")
        shown = show(program, folder, table.metadata_location)
        check(label + ": our reader", (shown["rows"], shown["dead"]) == (1000, 100), shown)
        compare(label + ": PyIceberg", readers.arrow_rows(table.scan().to_arrow()), expected(1003, name))
    except Exception as error:
        say("not ok", label, "%s: %s" % (type(error).__name__, error))


def main():
    context_exact()
    if len(sys.argv) != 2 and sys.argv[1:-1] != ["--more"]:
        print(__doc__, file=sys.stderr)
        return 2
    if len(sys.argv) == 3:
        judge_more(sys.argv[2])
        return summary()
    with tempfile.TemporaryDirectory(prefix="tailrace-lake-") as folder:
        done = subprocess.run([sys.argv[1], "make", folder], check=True, stdout=subprocess.PIPE, text=True)
        urls = dict(line.split() for line in done.stdout.splitlines())
        for name in TABLES:
            check_table(name, urls[name])
            shown = show(sys.argv[1], folder, urls[name])
            check(name + ": our reader", (shown["rows"], shown["dead"]) == (1000, 100), shown)
        judges = [readers.PyIceberg(), readers.DuckDB(), readers.java(readers.folder_of_interpreter())]
        for judge in judges:
            if judge is None:
                say("skip", "Java", "Iceberg's Java library is not installed (tests/servers/lake_readers.sh)")
                continue
            for name in TABLES:
                check_rows(judge, name, urls[name])
                if judge.name != "Java":
                    check_filters(judge, name, urls[name])
            if judge.name == "Java":
                where = "type=jdbc,name=tailrace,uri=jdbc:sqlite:%s/catalog.db,warehouse=file://%s" % (folder, folder)
                check("Java opens the catalog", len(judge.ask("snapshots", where, "shop.plain_v2")) == 3)
                for name in TABLES[1:]:
                    check_rewrite(judge, sys.argv[1], folder, where, name)
                judge.close()
        check_catalog(sys.argv[1], folder, urls)
    return summary()


def summary():
    skipped = ", %d skipped" % results["skip"] if results["skip"] else ""
    print("%d passed, %d failed%s" % (results["ok"], results["not ok"], skipped))
    return 1 if results["not ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
