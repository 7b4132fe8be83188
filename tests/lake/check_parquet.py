"""Files of the Parquet writer, judged by other readers: pyarrow and DuckDB see every cell as it was written;
statistics, page indexes, blooms, sizes and offsets are computed again from the cells.

    check_parquet.py PROGRAM [--quick]      PROGRAM: parquet_make, built

Prints `ok NAME` or `not ok NAME: why` a check, and `N passed, N failed`. Needs pyarrow and duckdb; without them
it prints `skip` and ends well."""

import os
import struct
import subprocess
import sys
import tempfile

try:
    import duckdb
    import pyarrow
    import pyarrow.parquet
except ImportError as missing:
    print("skip check_parquet: %s" % missing)
    sys.exit(0)

BOOL, INT, LONG, FLOAT, DOUBLE, DECIMAL, DATE, TIME, TIMESTAMP, TIMESTAMPTZ, STRING, BINARY, UUID, LIST = range(1, 15)
passed = failed = 0


def check(name, why):
    global passed, failed
    if why:
        failed += 1
        print("not ok %s: %s" % (name, why))
    else:
        passed += 1
        print("ok %s" % name)
    sys.stdout.flush()


# ---- Thrift's compact protocol, enough for Parquet's metadata: structures become {id: value} ----

class Thrift:
    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def varint(self):
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def integer(self):
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def value(self, kind):
        if kind in (4, 5, 6):
            return self.integer()
        if kind == 3:
            self.at += 1
            return self.data[self.at - 1]
        if kind == 8:
            size = self.varint()
            self.at += size
            return self.data[self.at - size:self.at]
        if kind == 9:
            head = self.data[self.at]
            self.at += 1
            count = head >> 4 if head >> 4 < 15 else self.varint()
            if head & 15 in (1, 2):
                self.at += count
                return [byte == 1 for byte in self.data[self.at - count:self.at]]
            return [self.value(head & 15) for _ in range(count)]
        assert kind == 12, kind
        return self.struct()

    def struct(self):
        out, last = {}, 0
        while True:
            head = self.data[self.at]
            self.at += 1
            if head == 0:
                return out
            last = last + (head >> 4) if head >> 4 else self.integer()
            kind = head & 15
            out[last] = kind == 1 if kind in (1, 2) else self.value(kind)


# ---- the truth ----

class Leaf:
    """A column: its cells as Python values (None, int, float as bits, bytes, list)."""

    def __init__(self, words):
        self.name = words[1]
        self.kind, self.element, self.precision, self.scale, self.required, self.bloom = map(int, words[2:])
        self.of = self.element if self.kind == LIST else self.kind
        self.cells = []

    def cell(self, text):
        if text == "N":
            return None
        raw = bytes.fromhex(text[1:])
        if self.of in (STRING, BINARY, UUID):
            return raw
        if self.of in (FLOAT, DOUBLE):
            return struct.unpack("<f" if self.of == FLOAT else "<d", raw)[0]
        if self.of == BOOL:
            return raw[0] == 1
        return int.from_bytes(raw, "little", signed=True)

    def add(self, line):
        if self.kind == LIST and line != "N":
            inside = line[1:-1]
            self.cells.append([self.cell(part) for part in inside.split(",")] if inside else [])
        else:
            self.cells.append(self.cell(line))


def read_truth(path):
    leaves, info, sums = [], None, []
    with open(path) as lines:
        for line in lines:
            line = line[:-1]
            if line.startswith("column "):
                leaves.append(Leaf(line.split(" ")))
            elif line.startswith("info "):
                info = list(map(int, line.split(" ")[1:]))
            elif line.startswith("leaf "):
                words = line.split(" ")[1:]
                bounds = [bytes.fromhex(word[1:]) for word in words[4:]]
                sums.append((list(map(int, words[:4])), bounds))
            else:
                leaves[-1].add(line)
    return leaves, info, sums


# ---- what readers see, in the same form ----

def plain_values(leaf, array):
    """The values of an Arrow array without lists."""
    kind = leaf.of
    if isinstance(array.type, pyarrow.BaseExtensionType):
        array = array.storage
    if kind in (DATE, TIME, TIMESTAMP, TIMESTAMPTZ):
        if kind != DATE:
            assert array.type.unit == "us", array.type
        array = array.cast(pyarrow.int32() if kind == DATE else pyarrow.int64())
    if kind == DECIMAL:
        out = []
        for value in array.to_pylist():
            if value is None:
                out.append(None)
            else:
                sign, digits, exponent = value.as_tuple()
                number = int("".join(map(str, digits))) * 10 ** (exponent + leaf.scale)
                out.append(-number if sign else number)
        return out
    values = array.to_pylist()
    if kind == STRING:
        return [None if value is None else value.encode() for value in values]
    if kind == UUID:
        import uuid
        return [value.bytes if isinstance(value, uuid.UUID) else
                uuid.UUID(value).bytes if isinstance(value, str) else value for value in values]
    return values


def seen(leaf, column):
    column = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    if leaf.kind != LIST:
        return plain_values(leaf, column)
    elements = plain_values(leaf, column.values)
    offsets = column.offsets.to_pylist()
    nulls = column.is_null().to_pylist()
    return [None if null else elements[offsets[i]:offsets[i + 1]] for i, null in enumerate(nulls)]


def same_float(a, b):
    return a is not None and b is not None and (struct.pack("<d", a) == struct.pack("<d", b) or (a != a and b != b))


def difference(leaf, got, want):
    if len(got) != len(want):
        return "%d rows, not %d" % (len(got), len(want))
    if leaf.of not in (FLOAT, DOUBLE):
        if got == want:
            return None
        same = lambda a, b: a == b
    else:
        def same(a, b):
            if isinstance(a, list) and isinstance(b, list):
                return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
            return (a is None and b is None) or (isinstance(a, float) and isinstance(b, float) and same_float(a, b))
    for row, (a, b) in enumerate(zip(got, want)):
        if not same(a, b):
            return "row %d is %r, not %r" % (row, a, b)
    return None


# ---- statistics ----

def physical(leaf):
    if leaf.of == DECIMAL:
        return 1 if leaf.precision <= 9 else 2 if leaf.precision <= 18 else 7
    return {BOOL: 0, INT: 1, DATE: 1, FLOAT: 4, DOUBLE: 5, STRING: 6, BINARY: 6, UUID: 7}.get(leaf.of, 2)


def from_plain(leaf, raw):
    """A statistic's bytes as a value that compares as Parquet orders it."""
    kind = physical(leaf)
    if kind == 0:
        return raw[0] == 1 if len(raw) == 1 else raw
    if kind in (1, 2):
        assert len(raw) == (4 if kind == 1 else 8)
        return int.from_bytes(raw, "little", signed=True)
    if kind in (4, 5):
        return struct.unpack("<f" if kind == 4 else "<d", raw)[0]
    if kind == 7 and leaf.of == DECIMAL:
        return int.from_bytes(raw, "big", signed=True)
    return raw


def flat(leaf, cells):
    """Values of a leaf, and how many of its levels are none."""
    if leaf.kind != LIST:
        return [cell for cell in cells if cell is not None], sum(cell is None for cell in cells), len(cells)
    values, nulls, levels = [], 0, 0
    for cell in cells:
        if not cell:
            nulls += 1
            levels += 1
        else:
            values += [value for value in cell if value is not None]
            nulls += sum(value is None for value in cell)
            levels += len(cell)
    return values, nulls, levels


def ends(values):
    """Least and greatest, NaN left out."""
    numbers = [value for value in values if value == value]
    return (min(numbers), max(numbers)) if numbers else None


def boundless(leaf, want):
    """Nothing of at most 4 KiB is above the greatest value."""
    highest = {STRING: b"\xf4\x8f\xbf\xbf" * 1024, BINARY: b"\xff" * 4096}.get(leaf.of)
    return highest is not None and want is not None and len(want[1]) > 4096 and want[1].startswith(highest)


def wrong_bounds(leaf, want, low, high, exact_low, exact_high, limit):
    """Why these bounds are not those of values with the ends `want`."""
    lower, upper = from_plain(leaf, low), from_plain(leaf, high)
    if leaf.of in (FLOAT, DOUBLE):
        if lower == 0 and struct.pack("<d", lower) != struct.pack("<d", -0.0):
            return "the lower bound is +0"
        if upper == 0 and struct.pack("<d", upper) != struct.pack("<d", 0.0):
            return "the upper bound is -0"
    if not (lower <= want[0] and want[1] <= upper):
        return "%r..%r does not hold %r..%r" % (lower, upper, want[0], want[1])
    if (exact_low and lower != want[0]) or (exact_high and upper != want[1]):
        return "%r..%r is not exact: %r..%r" % (lower, upper, want[0], want[1])
    if leaf.of in (STRING, BINARY):
        if len(low) > limit or (len(high) > limit + 1 and high != want[1]):
            return "bounds of %d and %d bytes" % (len(low), len(high))
        if len(want[0]) > limit and not want[0].startswith(low):
            return "the lower bound is no prefix"
        if leaf.of == STRING:
            low.decode(), high.decode()
    elif (lower, upper) != want:
        return "%r..%r, not %r..%r" % (lower, upper, want[0], want[1])
    return None


class File:
    def __init__(self, path):
        with open(path, "rb") as source:
            self.data = source.read()
        assert self.data[:4] == self.data[-4:] == b"PAR1"
        size = struct.unpack("<I", self.data[-8:-4])[0]
        footer = Thrift(self.data, len(self.data) - 8 - size)
        self.meta = footer.struct()
        assert footer.at == len(self.data) - 8, "the footer has another length"
        self.groups = self.meta[4]

    def struct_at(self, offset, length):
        reader = Thrift(self.data, offset)
        out = reader.struct()
        assert reader.at == offset + length, "a structure of %d bytes, not %d" % (reader.at - offset, length)
        return out


def check_pages(file, leaf, chunk, cells, profile):
    """The pages of one chunk: headers, offsets, index. Returns what is wrong."""
    meta = chunk[3]
    locations = file.struct_at(chunk[4], chunk[5])
    pages = locations[1]
    has_index = 6 in chunk
    index = file.struct_at(chunk[6], chunk[7]) if has_index else None
    starts = [page[3] for page in pages] + [len(cells)]
    at = meta[9]
    encodings = {}
    plain_total = stored_total = 0
    if 11 in meta:
        header = Thrift(file.data, meta[11])
        page = header.struct()
        body = header.at - meta[11]
        if page[1] != 2 or page[7][2] != 0 or meta[11] + body + page[3] != at:
            return "the dictionary page is odd"
        plain_total, stored_total = body + page[2], body + page[3]
        encodings[(2, 0)] = 1
    bounds, excused = [], False
    for i, place in enumerate(pages):
        header = Thrift(file.data, at)
        page = header.struct()
        head = header.at - at
        values, nulls, levels = flat(leaf, cells[starts[i]:starts[i + 1]])
        if place[1] != at or place[2] != head + page[3] or page[1] != 0:
            return "page %d lies elsewhere" % i
        if page[5][1] != levels:
            return "page %d has %d values, not %d" % (i, page[5][1], levels)
        encoding = page[5][2]
        if not values and encoding in (5, 6, 7, 9):
            return "page %d has no value, and encoding %d" % (i, encoding)
        if profile == "compatible" and encoding not in (0, 8):
            return "page %d has encoding %d" % (i, encoding)
        encodings[(0, encoding)] = encodings.get((0, encoding), 0) + 1
        plain_total, stored_total = plain_total + head + page[2], stored_total + head + page[3]
        at += head + page[3]
        want = ends(values)
        if index:
            if index[5][i] != nulls or index[1][i] != (not values):
                return "page %d: %d nulls in the index, not %d" % (i, index[5][i], nulls)
            if values:
                why = wrong_bounds(leaf, want, index[2][i], index[3][i], False, False, 64)
                if why:
                    return "page %d: %s" % (i, why)
                bounds.append((from_plain(leaf, index[2][i]), from_plain(leaf, index[3][i])))
            elif index[2][i] or index[3][i]:
                return "page %d has no value, but bounds" % i
        else:
            excused |= boundless(leaf, want) or (want is None and len(values) > 0)
        if leaf.of in (STRING, BINARY) and locations[2][i] != sum(map(len, values)):
            return "page %d: other unencoded bytes" % i
    if not index and not excused:
        return "no column index"
    if index:
        up = all(a[0] <= b[0] and a[1] <= b[1] for a, b in zip(bounds, bounds[1:]))
        down = all(a[0] >= b[0] and a[1] >= b[1] for a, b in zip(bounds, bounds[1:]))
        if index[4] != (1 if up else 2 if down else 0):
            return "boundary order %d" % index[4]
    if (meta[6], meta[7]) != (plain_total, stored_total):
        return "totals %d %d, not %d %d" % (meta[6], meta[7], plain_total, stored_total)
    if {(stat[1], stat[2]): stat[3] for stat in meta[13]} != encodings:
        return "encoding stats %r" % meta[13]
    if not {encoding for _page, encoding in encodings} <= set(meta[2]):
        return "encodings %r" % meta[2]
    return None


def check_chunk(file, leaf, chunk, cells, profile):
    meta = chunk[3]
    values, nulls, levels = flat(leaf, cells)
    if meta[1] != physical(leaf) or meta[5] != levels:
        return "type %d, %d values, not %d" % (meta[1], meta[5], levels)
    stats = meta[12]
    if stats[3] != nulls:
        return "%d nulls, not %d" % (stats[3], nulls)
    want = ends(values)
    if want is None:
        if 5 in stats or 6 in stats:
            return "bounds of nothing"
    elif 5 not in stats:
        if not boundless(leaf, want):
            return "no bounds"
    else:
        why = wrong_bounds(leaf, want, stats[6], stats[5], stats[8], stats[7], 64)
        if why:
            return why
    if bool(leaf.bloom and values) != (14 in meta):
        return "a bloom filter is missing, or there for nothing"
    return check_pages(file, leaf, chunk, cells, profile)


def check_metadata(name, path, leaves, info, sums, profile):
    file = File(path)
    trouble = []
    group_rows = [group[3] for group in file.groups]
    if file.meta[1] != 2 or file.meta[3] != info[0] or sum(group_rows) != info[0] or len(file.data) != info[1]:
        trouble.append("rows %r, bytes %d, told %r" % (group_rows, len(file.data), info[:2]))
    if info[2:] != [group[5] for group in file.groups] or not all(
            min(chunk[3].get(11, chunk[3][9]) for chunk in group[1]) == group[5] for group in file.groups):
        trouble.append("split offsets %r" % info[2:])
    if len(file.meta[7]) != len(leaves) or not file.meta[6].startswith(b"tailrace version "):
        trouble.append("column orders or created_by")
    for i, leaf in enumerate(leaves):
        first = 0
        for number, group in enumerate(file.groups):
            cells = leaf.cells[first:first + group[3]]
            first += group[3]
            why = check_chunk(file, leaf, group[1][i], cells, profile)
            if why:
                trouble.append("%s group %d: %s" % (leaf.name, number, why))
                break
        why = check_sums(leaf, sums[i], sum(group[1][i][3][7] for group in file.groups))
        if why:
            trouble.append("%s info: %s" % (leaf.name, why))
    check("%s metadata" % name, "; ".join(trouble[:4]))


def single_value(leaf, raw):
    """A bound as Iceberg's appendix D has it."""
    if leaf.of == DECIMAL:
        value = int.from_bytes(raw, "big", signed=True)
        assert len(raw) == max(1, ((value if value >= 0 else ~value).bit_length() + 8) // 8), "not minimal: %r" % raw
        return value
    return from_plain(leaf, raw)


def check_sums(leaf, told, stored):
    (size, levels, nulls, nans), bounds = told
    values, want_nulls, want_levels = flat(leaf, leaf.cells)
    want_nans = sum(value != value for value in values)
    if (size, levels, nulls, nans) != (stored, want_levels, want_nulls, want_nans):
        return "%r, not %r" % (told[0], (stored, want_levels, want_nulls, want_nans))
    want = ends(values)
    if not bounds:
        if want is not None and leaf.kind != LIST and not boundless(leaf, want):
            return "no bounds"
        return None
    lower, upper = single_value(leaf, bounds[0]), single_value(leaf, bounds[1])
    if not lower <= want[0] or not want[1] <= upper:
        return "bounds do not hold"
    if len(bounds[0]) < 4090 and lower != want[0] or len(bounds[1]) < 4090 and upper != want[1]:
        return "bounds %r..%r are not %r..%r" % (lower, upper, want[0], want[1])
    return None


# ---- readers ----

def check_pyarrow(name, path, leaves):
    file = pyarrow.parquet.ParquetFile(path, page_checksum_verification=True)
    table = file.read()
    table.validate(full=True)
    trouble = []
    for i, leaf in enumerate(leaves):
        field = table.schema.field(i)
        if field.name != leaf.name or field.nullable == bool(leaf.required):
            trouble.append("%s: field %s" % (leaf.name, field))
        if (field.metadata or {}).get(b"PARQUET:field_id") != b"%d" % (i + 1):
            trouble.append("%s: field id %r" % (leaf.name, field.metadata))
        if leaf.kind == LIST and field.type.value_field.metadata[b"PARQUET:field_id"] != b"%d" % (1000 + i):
            trouble.append("%s: element id" % leaf.name)
        of = field.type.value_type if leaf.kind == LIST else field.type
        want = {BOOL: pyarrow.bool_(), INT: pyarrow.int32(), LONG: pyarrow.int64(), FLOAT: pyarrow.float32(),
                DOUBLE: pyarrow.float64(), DATE: pyarrow.date32(), TIME: pyarrow.time64("us"),
                TIMESTAMP: pyarrow.timestamp("us"), TIMESTAMPTZ: pyarrow.timestamp("us", "UTC"),
                STRING: pyarrow.string(), BINARY: pyarrow.binary()}.get(leaf.of)
        if leaf.of == DECIMAL:
            want = pyarrow.decimal128(leaf.precision, leaf.scale)
        if want is not None and of != want:
            trouble.append("%s: type %s, not %s" % (leaf.name, of, want))
        why = difference(leaf, seen(leaf, table.column(i)), leaf.cells)
        if why:
            trouble.append("%s: %s" % (leaf.name, why))
    if file.schema_arrow.metadata != {b"tailrace.test": b"a value", b"empty": b""}:
        trouble.append("key-values %r" % file.schema_arrow.metadata)
    check("%s pyarrow" % name, "; ".join(trouble[:4]))


def check_duckdb(name, path, leaves):
    session = duckdb.connect()
    session.execute("set threads = 2; set timezone = 'UTC'")
    trouble = []
    for leaf in leaves:
        if leaf.of == TIMESTAMP or leaf.of == TIMESTAMPTZ or leaf.of == DATE:
            convert = "epoch_us(%s)" if leaf.of != DATE else "(%s - date '1970-01-01')::integer"
            convert = convert % "x" if leaf.kind == LIST else convert % ('"%s"' % leaf.name)
            what = 'list_transform("%s", lambda x: %s)' % (leaf.name, convert) if leaf.kind == LIST else convert
        else:
            what = '"%s"' % leaf.name
        reply = session.execute("select %s from read_parquet('%s')" % (what, path)).to_arrow_table()
        column = reply.column(0).combine_chunks()
        plain = leaf
        if leaf.of in (TIMESTAMP, TIMESTAMPTZ, DATE):
            plain = Leaf(["", leaf.name, str(LIST if leaf.kind == LIST else LONG), str(LONG), "0", "0", "0", "0"])
        why = difference(leaf, seen(plain, column), leaf.cells)
        if why:
            trouble.append("%s: %s" % (leaf.name, why))
    check("%s duckdb" % name, "; ".join(trouble[:4]))


def constant(leaf, value):
    """A value as SQL; None where it has no short form."""
    if leaf.of in (INT, LONG):
        return str(value)
    if leaf.of == STRING and b"\0" not in value:
        return "'%s'" % value.decode().replace("'", "''")
    return None


def check_blooms(name, path, leaves):
    session = duckdb.connect()
    trouble, probed, passed_by = [], 0, 0
    for leaf in leaves:
        if not leaf.bloom or leaf.of not in (INT, LONG, STRING) or leaf.kind == LIST:
            continue
        present = sorted({cell for cell in leaf.cells if cell is not None})
        for value in present[::max(1, len(present) // 25)]:
            if constant(leaf, value) is None:
                continue
            rows = session.execute("select bloom_filter_excludes from parquet_bloom_probe('%s', '%s', %s)" % (
                path, leaf.name, constant(leaf, value))).fetchall()
            if all(row[0] for row in rows):
                trouble.append("%s excludes %r, which is there" % (leaf.name, value))
        known = set(present)
        for i in range(25):
            value = 77_000_001 + 31 * i if leaf.of != STRING else b"absent %d" % i
            if value not in known:
                rows = session.execute("select bloom_filter_excludes from parquet_bloom_probe('%s', '%s', %s)" % (
                    path, leaf.name, constant(leaf, value))).fetchall()
                probed += len(rows)
                passed_by += sum(not row[0] for row in rows)
    if probed < 20 or passed_by > probed * 0.06:
        trouble.append("%d of %d absent values were not excluded" % (passed_by, probed))
    check("%s blooms" % name, "; ".join(trouble[:4]))


def check_pruning(name, path, leaves):
    """DuckDB and pyarrow use what the file says to leave rows out: none may be missing."""
    session = duckdb.connect()
    trouble = []
    for leaf in leaves:
        if leaf.kind == LIST or leaf.of not in (INT, LONG, STRING):
            continue
        present = sorted({cell for cell in leaf.cells if cell is not None and constant(leaf, cell) is not None})
        for value in present[:1] + present[len(present) // 2:len(present) // 2 + 1] + present[-1:]:
            want = leaf.cells.count(value)
            got = session.execute("select count(*) from read_parquet('%s') where \"%s\" = %s" % (
                path, leaf.name, constant(leaf, value))).fetchone()[0]
            if got != want:
                trouble.append("%s = %r: duckdb sees %d rows, not %d" % (leaf.name, value[:80] if leaf.of == STRING else value,
                                                                        got, want))
    check("%s pruning" % name, "; ".join(trouble[:4]))


CASES = [  # name, seed, rows, codec, level, profile, group_rows, group_bytes, page_bytes
    ("modern_zstd", 1, 45000, "zstd", 1, "modern", 0, 0, 0),
    ("compatible_snappy", 2, 41000, "snappy", 0, "compatible", 0, 0, 0),
    ("many_groups_lz4", 3, 12000, "lz4", 0, "modern", 700, 0, 4096),
    ("many_pages_none", 4, 11000, "none", 0, "compatible", 5000, 0, 900),
    ("group_bytes_zstd9", 5, 9000, "zstd", 9, "modern", 0, 3000000, 0),
    ("compatible_zstd", 6, 24000, "zstd", 3, "compatible", 23000, 0, 70000),
    ("one_row", 7, 1, "zstd", 1, "modern", 0, 0, 0),
    ("no_row", 8, 0, "zstd", 1, "modern", 0, 0, 0),
    ("tiny_groups", 9, 60, "snappy", 0, "modern", 7, 0, 0),
    ("modern_none", 10, 43000, "none", 0, "modern", 0, 0, 0),
]
QUICK = {"many_groups_lz4", "many_pages_none", "one_row", "no_row", "tiny_groups"}


def main():
    program = sys.argv[1]
    wanted = set(sys.argv[2:])
    for case in CASES:
        name = case[0]
        if "--quick" in wanted and name not in QUICK or wanted - {"--quick"} and name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            base = os.path.join(folder, name)
            done = subprocess.run([program, base, *map(str, case[1:])], check=False)
            if done.returncode != 0:
                check(name, "%s ended with %d" % (program, done.returncode))
                continue
            leaves, info, sums = read_truth(base + ".truth")
            path = base + ".parquet"
            for what in (lambda: check_metadata(name, path, leaves, info, sums, case[5]),
                         lambda: check_pyarrow(name, path, leaves),
                         lambda: check_duckdb(name, path, leaves),
                         lambda: check_pruning(name, path, leaves)):
                what()
            if info[0] > 10000:
                check_blooms(name, path, leaves)
    print("%d passed, %d failed" % (passed, failed))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
