#!/usr/bin/env python3
"""Writes parquet/ (and the fuzz target's first inputs): small files of other writers (pyarrow, DuckDB), and beside
DATA-*.parquet a DATA.txt that says what is in it: a line per field (name, type), then a line per row. A cell is NULL,
the hexadecimal bytes of a lake cell (lake_type.h), or a list of those in brackets. The texts come from
the Python values that the files were made of, never from reading a file.
Needs pyarrow 26 and duckdb 1.5: python3 make_parquet.py"""
import datetime
import decimal
import pathlib
import struct
import uuid

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

OUT = pathlib.Path(__file__).parent / "parquet"
CORPUS = pathlib.Path(__file__).parent.parent / "fuzz" / "corpus" / "fuzz_parquet"
EPOCH = datetime.datetime(1970, 1, 1)
UTC = datetime.timezone.utc


def whole(width):
    return lambda v: int(v).to_bytes(width, "little", signed=True)


def of_decimal(precision, scale):
    width = 8 if precision <= 18 else 16
    with decimal.localcontext() as c:
        c.prec = 60
        return lambda v: int(decimal.Context(prec=60).scaleb(v, scale)).to_bytes(
            width, "little", signed=True)


def us_of(d):
    return (d - EPOCH) // datetime.timedelta(microseconds=1)


CELLS = {
    "boolean": lambda v: bytes([v]),
    "int": whole(4),
    "long": whole(8),
    "float": lambda v: struct.pack("<f", v),
    "double": lambda v: struct.pack("<d", v),
    "date": lambda v: whole(4)((v - EPOCH.date()).days),
    "time": lambda v: whole(8)(((v.hour * 60 + v.minute) * 60 + v.second) * 10**6 + v.microsecond),
    "timestamp": lambda v: whole(8)(us_of(v)),
    "timestamptz": lambda v: whole(8)(us_of(v.astimezone(UTC).replace(tzinfo=None))),
    "string": lambda v: v.encode(),
    "binary": bytes,
    "uuid": lambda v: v.bytes,
}


def cell(kind, v):
    if v is None:
        return "NULL"
    if kind.startswith("list<"):
        return "[" + " ".join(cell(kind[5:-1], e) for e in v) + "]"
    if kind.startswith("decimal("):
        p, s = kind[8:-1].split(",")
        return of_decimal(int(p), int(s))(v).hex()
    return CELLS[kind](v).hex() or "-"


def say(name, fields):
    """fields: {name: (lake type or "refused", values)}"""
    lines = [f"{f} {kind}" for f, (kind, _) in fields.items()] + [""]
    for row in zip(*(values for _, values in fields.values())):
        lines.append(" | ".join(cell(kind, v) if kind != "refused" else "?"
                                for (kind, _), v in zip(fields.values(), row)))
    (OUT / (name.split("-")[0] + ".txt")).write_text("\n".join(lines) + "\n")


def holes(values, every):
    return [None if i % every == every - 1 else v for i, v in enumerate(values)]


def all_types(n, every):
    d = decimal.Decimal
    day = datetime.date(1969, 12, 25)
    at = datetime.datetime(1969, 12, 31, 23, 59, 59, 999_998)
    delta = datetime.timedelta
    h = (lambda v: holes(v, every)) if every else (lambda v: v)
    words = ["", "a", "the same words", "über", "a longer text that no inline form can hold"]
    return {
        "flag": ("boolean", pa.bool_(), h([i % 3 == 0 for i in range(n)])),
        "tiny": ("int", pa.int8(), h([i % 200 - 100 for i in range(n)])),
        "utiny": ("int", pa.uint8(), h([i % 256 for i in range(n)])),
        "ushort": ("int", pa.uint16(), h([65535 - i for i in range(n)])),
        "number": ("int", pa.int32(), h([(-1)**i * i * 70001 for i in range(n)])),
        "unsigned": ("long", pa.uint32(), h([2**32 - 1 - i for i in range(n)])),
        "big": ("long", pa.int64(), h([(-1)**i * (2**62 - i * i) for i in range(n)])),
        "ubig": ("decimal(20,0)", pa.uint64(), h([2**64 - 1 - i for i in range(n)])),
        "real": ("float", pa.float32(), h([i / 8 for i in range(n)])),
        "double": ("double", pa.float64(), h([-i / 3 for i in range(n)])),
        "dec_7_2": ("decimal(7,2)", pa.decimal128(7, 2), h([d(i * 37 - 500).scaleb(-2) for i in range(n)])),
        "dec_18_4": ("decimal(18,4)", pa.decimal128(18, 4), h([d(-i * 10**12).scaleb(-4) for i in range(n)])),
        "dec_30_5": ("decimal(30,5)", pa.decimal128(30, 5), h([d((-1)**i * i * 10**22).scaleb(-5) for i in range(n)])),
        "day": ("date", pa.date32(), h([day + delta(days=i) for i in range(n)])),
        "time_ms": ("time", pa.time32("ms"), h([datetime.time(1, 2, i % 60, 7000) for i in range(n)])),
        "time_us": ("time", pa.time64("us"), h([datetime.time(23, 59, i % 60, 999_999) for i in range(n)])),
        "stamp_ms": ("timestamp", pa.timestamp("ms"), h([EPOCH + delta(milliseconds=i - 5) for i in range(n)])),
        "stamp": ("timestamp", pa.timestamp("us"), h([at + delta(microseconds=i) for i in range(n)])),
        "stamptz": ("timestamptz", pa.timestamp("us", "UTC"), h([(at + delta(hours=i)).replace(tzinfo=UTC) for i in range(n)])),
        "text": ("string", pa.string(), h([words[i % 5] + str(i // 7) for i in range(n)])),
        "word": ("string", pa.string(), h([words[i % 5] for i in range(n)])),
        "bytes": ("binary", pa.binary(), h([bytes(range(i % 20)) for i in range(n)])),
        "fixed": ("binary", pa.binary(5), h([f"{i:05}".encode() for i in range(n)])),
        "uuid": ("uuid", pa.uuid(), h([uuid.UUID(int=i * 2**100 + i) for i in range(n)])),
        "longs": ("list<long>", pa.list_(pa.int64()), h([[None if k == 1 else i * k for k in range(i % 4)] for i in range(n)])),
        "words": ("list<string>", pa.list_(pa.string()), h([[words[(i + k) % 5] for k in range(i % 3)] for i in range(n)])),
        "refused_ns": ("refused", pa.timestamp("ns"), h([i for i in range(n)])),
        "refused_struct": ("refused", pa.struct([("a", pa.int32()), ("b", pa.list_(pa.int8()))]),
                           h([{"a": i, "b": [1]} for i in range(n)])),
        "refused_map": ("refused", pa.map_(pa.string(), pa.int32()), h([[("k", i)] for i in range(n)])),
        "last": ("long", pa.int64(), [i for i in range(n)]),
    }


def with_pyarrow(name, fields, out=OUT, **options):
    schema = pa.schema([pa.field(f, t, nullable=f != "last") for f, (_, t, _) in fields.items()])
    arrays = [pa.array([v.bytes if v is not None and t == pa.uuid() else v for v in values],
                       t.storage_type if t == pa.uuid() else t)
              for _, t, values in fields.values()]
    arrays = [pa.ExtensionArray.from_storage(pa.uuid(), a) if t == pa.uuid() else a
              for a, (_, t, _) in zip(arrays, fields.values())]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), out / f"{name}.parquet", **options)
    if out != OUT:
        return
    say(name, {f: (kind, values) for f, (kind, _, values) in fields.items()})


def numbers_first(fields, encodings):
    """column_encoding of the fields that have one in {physical class: encoding}."""
    out = {}
    for f, (kind, t, _) in fields.items():
        if pa.types.is_nested(t):
            continue
        physical = ("int" if pa.types.is_integer(t) or pa.types.is_temporal(t)
                    else "float" if pa.types.is_floating(t)
                    else "bool" if pa.types.is_boolean(t)
                    else "fixed" if pa.types.is_decimal(t) or t == pa.uuid() or pa.types.is_fixed_size_binary(t)
                    else "bytes")
        if physical in encodings:
            out[f] = encodings[physical]
    return out


def fuzz_corpus(fields):
    """First inputs of fuzz_parquet: a few columns each, since footers would be most of the bytes."""
    CORPUS.mkdir(exist_ok=True)
    encodings = {"int": "DELTA_BINARY_PACKED", "bytes": "DELTA_BYTE_ARRAY", "float": "BYTE_STREAM_SPLIT",
                 "fixed": "DELTA_BYTE_ARRAY", "bool": "RLE"}
    names = list(fields)
    for at in range(0, len(names), 4):
        some = {f: fields[f] for f in names[at:at + 4]}
        for dictionary in True, False:
            with_pyarrow(f"arrow-{at}-{'dictionary' if dictionary else 'delta'}", some, CORPUS,
                         compression=["none", "snappy", "gzip", "zstd", "lz4"][(at // 4 + dictionary) % 5],
                         data_page_version="2.0" if at % 8 else "1.0", data_page_size=64,
                         write_batch_size=8, row_group_size=15, write_page_index=True,
                         use_dictionary=dictionary, write_page_checksum=at == 0,
                         column_encoding=None if dictionary else numbers_first(some, encodings))


def main():
    OUT.mkdir(exist_ok=True)
    fields = all_types(200, 7)
    for codec in "none", "snappy", "gzip", "zstd", "lz4":
        with_pyarrow(f"holes-v1-{codec}", fields, compression=codec, data_page_size=512,
                     write_batch_size=64, row_group_size=90, write_page_index=codec != "gzip",
                     write_page_checksum=codec == "zstd")
    with_pyarrow("holes-v2-dictionary", fields, compression="zstd", data_page_version="2.0",
                 data_page_size=512, write_batch_size=64, write_page_index=True,
                 write_page_checksum=True, store_decimal_as_integer=True)
    full = all_types(120, 0)
    for version in "1.0", "2.0":
        v = version[0]
        with_pyarrow(f"holes-v{v}-delta", fields, compression="snappy", use_dictionary=False,
                     data_page_version=version, data_page_size=600, write_batch_size=100,
                     column_encoding=numbers_first(fields, {
                         "int": "DELTA_BINARY_PACKED", "bytes": "DELTA_LENGTH_BYTE_ARRAY",
                         "float": "BYTE_STREAM_SPLIT", "fixed": "BYTE_STREAM_SPLIT", "bool": "RLE"}))
        with_pyarrow(f"full-v{v}-prefix", full, compression="none", use_dictionary=False,
                     data_page_version=version, data_page_size=600, write_batch_size=50,
                     write_page_index=True,
                     column_encoding=numbers_first(full, {
                         "int": "BYTE_STREAM_SPLIT", "bytes": "DELTA_BYTE_ARRAY",
                         "fixed": "DELTA_BYTE_ARRAY"}))
    with_pyarrow("int96-arrow", {"refused": ("refused", pa.timestamp("us"), [EPOCH]),
                                 "last": ("long", pa.int64(), [7])},
                 use_deprecated_int96_timestamps=True)
    with_pyarrow("brotli-arrow", {"refused": ("refused", pa.int64(), [1, 2])}, compression="brotli")
    with_pyarrow("empty-arrow", {"last": ("long", pa.int64(), [])})

    fuzz_corpus(all_types(25, 5))

    db = duckdb.connect()
    n = 400
    db.execute(f"""create table t as select
      case when i % 9 <> 0 then i % 3 = 0 end flag, (i * 70001)::int number, (i * i - 1099511627776)::bigint big,
      (i / 8.0)::float "real", (i * 1000 - 7)::decimal(9,2) dec_9_2, (i * 10)::decimal(28,3) dec_28_3,
      date '1999-12-25' + i::int as "day", timestamp '1970-01-01' + to_microseconds(i - 5) "stamp",
      timestamptz '2020-01-01 00:00:00+00' + to_hours(i) stamptz, time '00:00:01' + to_microseconds(i) as clock,
      case when i % 5 <> 0 then 'text ' || (i % 11) end "text", ('x' || i)::blob bytes,
      case when i % 4 <> 0 then [i, null, i + 1] end longs, i::hugeint huge from range({n}) r(i)""")
    d = decimal.Decimal
    delta = datetime.timedelta
    want = {
        "flag": ("boolean", [i % 3 == 0 if i % 9 else None for i in range(n)]),
        "number": ("int", [i * 70001 for i in range(n)]),
        "big": ("long", [i * i - 2**40 for i in range(n)]),
        "real": ("float", [i / 8 for i in range(n)]),
        "dec_9_2": ("decimal(9,2)", [d(i * 1000 - 7) for i in range(n)]),
        "dec_28_3": ("decimal(28,3)", [d(i * 10) for i in range(n)]),
        "day": ("date", [datetime.date(1999, 12, 25) + delta(days=i) for i in range(n)]),
        "stamp": ("timestamp", [EPOCH + delta(microseconds=i - 5) for i in range(n)]),
        "stamptz": ("timestamptz", [datetime.datetime(2020, 1, 1, tzinfo=UTC) + delta(hours=i) for i in range(n)]),
        "clock": ("time", [datetime.time(0, 0, 1, i) for i in range(n)]),
        "text": ("string", [f"text {i % 11}" if i % 5 else None for i in range(n)]),
        "bytes": ("binary", [f"x{i}".encode() for i in range(n)]),
        "longs": ("list<long>", [[i, None, i + 1] if i % 4 else None for i in range(n)]),
        "huge": ("double", [float(i) for i in range(n)]),
    }
    for name, options in {"duckdb-v1": "", "duckdb-v2": ", parquet_version v2, codec zstd",
                          "duckdb-gzip": ", codec gzip", "duckdb-lz4": ", codec lz4_raw, parquet_version v2"}.items():
        db.execute(f"copy t to '{OUT}/{name}.parquet' (format parquet, row_group_size 2048{options})")
        say(name, want)


main()
