"""A parquet: folder as engines that never heard of tailrace see it. Run by the interpreter of
tests/servers/lake_readers.sh: parquet_fold.py FOLDER < {"keys": {TABLE: [COLUMN, ...]}, "bank": [TABLE, ...]}, answers one
JSON object:

    tables    {table: [[text or null, ...], ...]}: all changes applied one by one in the order of _order, file by file as the
              commit files name them, by pyarrow; columns in the newest file's order
    columns   {table: [column, ...]}
    duckdb    {table: the same rows, for tables with a key}: the newest row of each key, by SQL over DIR/TABLE/*.parquet
    problems  whatever an exact changelog never holds, or a file that is not as its commit says
    banks     sums of column n over the bank's tables after each consistent commit
    commits   how many, and hidden: staged files that lie there

Shares no code with the product. Thread: main."""

import datetime
import decimal
import glob
import json
import os
import sys
import uuid
import zlib

import duckdb
import pyarrow.parquet as pq

OURS = ["_op", "_order", "_tx", "_n", "_ts", "_position", "_generation", "_unchanged"]


def text(value):
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, datetime.datetime):
        zero = datetime.datetime(1970, 1, 1, tzinfo=value.tzinfo)
        return str((value - zero) // datetime.timedelta(microseconds=1))
    if isinstance(value, (int, decimal.Decimal, datetime.date, uuid.UUID)):
        return str(value)
    if isinstance(value, bytes):
        return str(uuid.UUID(bytes=value)) if len(value) == 16 else value.hex()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        return "[%s]" % ",".join("null" if v is None else text(v) for v in value)
    raise TypeError(repr(value))


class Fold:
    """Tables as rebuilt, one change after the other."""

    def __init__(self, keys):
        self.keys = keys
        self.rows = {}  # table -> {key: row}; without a key {number: row}
        self.columns = {}
        self.taken = {}  # (table, tx, n) -> the row that a d took away
        self.last = -1
        self.number = 0
        self.problems = []

    def key_of(self, table, row):
        return tuple(text(row[name]) for name in self.keys.get(table, []))

    def problem(self, what, table, row):
        self.problems.append("%s: %s: %s" % (table, what, {k: text(v) for k, v in row.items() if v is not None}))

    def apply(self, table, row):
        if row["_order"] <= self.last:
            self.problem("out of order after %d" % self.last, table, row)
        self.last = row["_order"]
        rows = self.rows.setdefault(table, {})
        if (row["_tx"] is None) != (row["_n"] is None) or (row["_tx"] is None) != (row["_ts"] is None) or not row["_position"]:
            self.problem("half a transaction", table, row)
        if row["_op"] == "t":
            rows.clear()
        elif table in self.keys:
            self.apply_keyed(table, rows, row)
        else:
            self.apply_keyless(table, rows, row)

    def apply_keyed(self, table, rows, row):
        key = self.key_of(table, row)
        if row["_op"] == "d":
            if key not in rows:
                self.problem("a delete of no row", table, row)
            self.taken[(table, row["_tx"], row["_n"])] = rows.pop(key, None)
            return
        if (row["_op"] == "u") != (key in rows) and row["_op"] != "r":
            self.problem("an update of no row, or a second insert", table, row)
        old = rows.get(key) if row["_op"] == "u" else self.taken.get((table, row["_tx"], row["_n"]))
        row = dict(row)
        for name in row["_unchanged"] or []:
            if row[name] is not None or old is None:
                self.problem("unchanged without a row, or with a value", table, row)
            else:
                row[name] = old.get(name)
        rows[key] = row

    def apply_keyless(self, table, rows, row):
        cells = {name: value for name, value in row.items() if name not in OURS}
        if row["_op"] == "d":
            for number, other in rows.items():
                if all(other.get(name) == value for name, value in cells.items()):
                    del rows[number]
                    return
            self.problem("a delete of no row", table, row)
        else:
            if row["_op"] == "u" or row["_unchanged"]:
                self.problem("an update in a table without a key", table, row)
            self.number += 1
            rows[self.number] = row


def check_file(folder, entry, problems):
    """The rows of a file that a commit names."""
    path = os.path.join(folder, entry["path"])
    with open(path, "rb") as file:
        data = file.read()
    if len(data) != entry["bytes"] or "%08x" % zlib.crc32(data) != entry["crc32"]:
        problems.append("%s: other bytes than its commit says" % path)
    found = pq.ParquetFile(path, page_checksum_verification=False)
    rows = found.read().to_pylist()
    if len(rows) != entry["rows"]:
        problems.append("%s: %d rows, its commit says %d" % (path, len(rows), entry["rows"]))
    names = found.schema_arrow.names
    if names[-len(OURS):] != OURS:
        problems.append("%s: columns %s" % (path, names))
    return rows, [name for name in names if name not in OURS]


def by_commits(folder, keys, bank):
    fold, banks, named, commits = Fold(keys), [], set(), 0
    for path in sorted(glob.glob(os.path.join(folder, "_commits", "[0-9]*.jsonl"))):
        with open(path, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        changes = []
        for entry in (line["file"] for line in lines[:-1]):
            rows, columns = check_file(folder, entry, fold.problems)
            fold.columns[entry["table"]] = columns
            changes += [(row["_order"], entry["table"], row) for row in rows]
            named.add(os.path.join(folder, entry["path"]))
        commit = lines[-1]["commit"]
        if len(changes) != commit["rows"]:
            fold.problems.append("%s: %d rows, its files have %d" % (path, commit["rows"], len(changes)))
        for _order, table, row in sorted(changes, key=lambda change: change[0]):
            fold.apply(table, row)
        commits += 1
        if not commit["inconsistent"] and commit["schema"] and bank:
            banks.append(sum(int(row["n"]) for table in bank for row in fold.rows.get(table, {}).values()))
    for path in glob.glob(os.path.join(folder, "*", "*.parquet")):
        if path not in named:
            fold.problems.append("%s: no commit names it" % path)
    return fold, banks, commits


NEWEST = """
select {columns} from (
    select *, row_number() over (partition by {keys} order by _order desc) as _place,
        (select coalesce(max(_order), -1) from changes where _op = 't') as _cut from changes)
where _place = 1 and _op not in ('d', 't') and _order > _cut
"""


def by_duckdb(folder, table, keys, columns):
    with duckdb.connect() as engine:
        engine.execute("set timezone = 'UTC'")
        engine.execute("create view changes as select * from read_parquet('%s/%s/*.parquet', union_by_name = true)" %
                       (folder, table))
        quoted = ['"%s"' % name for name in columns]
        sql = NEWEST.format(columns=", ".join(quoted), keys=", ".join('"%s"' % name for name in keys))
        return [[text(row[name]) for name in columns] for row in engine.execute(sql).fetch_arrow_table().to_pylist()]


def main():
    folder, asked = sys.argv[1], json.load(sys.stdin)
    fold, banks, commits = by_commits(folder, asked["keys"], asked.get("bank", []))
    tables = {table: sorted([[text(row.get(name)) for name in fold.columns[table]] for row in rows.values()], key=str)
              for table, rows in fold.rows.items()}
    duck = {table: sorted(by_duckdb(folder, table, keys, fold.columns[table]), key=str)
            for table, keys in asked["keys"].items() if table in fold.columns}
    hidden = glob.glob(os.path.join(folder, "*", ".*"))
    json.dump({"tables": tables, "columns": fold.columns, "duckdb": duck, "problems": fold.problems[:5], "banks": banks,
               "commits": commits, "hidden": hidden}, sys.stdout)


main()
