"""An honest changelog made from the truth: what the oracle must accept, and what its tests spoil.

Writes a jsonl: folder as a perfect product would: key ranges that join at different places of the log, one chunk for a
table without a key, a new generation after DDL that the log does not show, claims of new epochs, commits of several
transactions. Used by test_oracle.py only. The texts must be whole: Truth with truth.LONG_TEXT raised. Thread: any."""

import base64
import json
import os
from collections import defaultdict
from zlib import crc32

from cells import INTEGERS
from truth import FLOATS, label_of


def lsn_text(lsn):
    return "%X/%X" % (lsn >> 32, lsn & 0xFFFFFFFF)


def json_cell(kind, text):
    """The server's text as INTERFACE's JSON value."""
    if text is None:
        return None
    if kind in INTEGERS:
        return int(text)
    if kind == "boolean":
        return text == "true"
    if kind in FLOATS:
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text) or float(text)
    if kind == "bytea":
        return base64.b64encode(bytes.fromhex(text[2:])).decode()
    if kind.endswith("[]"):
        return [None if part == "NULL" else json_cell(kind[:-2], part) for part in text[1:-1].split(",") if part]
    if kind == "timestamp with time zone" and text.endswith("+00"):
        return text[:-3].replace(" ", "T") + "Z"
    return text


class Scribe:
    """One folder from one truth. `lag`: how far after its table's birth a key range joins, in transactions."""

    def __init__(self, truth, random, ranges=3, lag=40, commit_rows=120):
        self.truth, self.random, self.ranges, self.lag = truth, random, ranges, lag
        self.commit_rows = commit_rows
        self.ends = sorted(truth.txs.values())
        self.join = {}           # (incarnation, range) -> join place
        self.gen = defaultdict(int)
        self.live = {}           # name -> incarnation
        self.files = []          # lists of lines, the commit line last
        self.lines = []
        self.epoch, self.version = 1, 0
        self.n = 0

    # ---- what a table looks like ------------------------------------------------------------------------------------

    def range_of(self, table, key):
        return 0 if not table.key else crc32(repr(key).encode()) % self.ranges

    def joined(self, table, number, end):
        """True when the range's changes ending there flow."""
        at = self.join.get((table, number))
        return at is not None and end > at

    def inconsistent(self, applied):
        return sorted({label_of(table.name) for (table, _n), at in self.join.items()
                       if self.live.get(table.name) is table and (at is None or at > applied)})

    def names(self, table, end):
        """canonical -> name as of a place; a column renamed later keeps its newest name, which is as good."""
        newest = {canonical: name for name, canonical in table.alias.items()}
        return {column: newest[column] for column in sorted(table.columns_at(end))}

    def image(self, table, row, end, without=()):
        if row is None:
            return None
        cells = dict(row)
        return {name: json_cell(table.types[column], cells.get(column))
                for column, name in self.names(table, end).items() if column not in without}

    def line(self, op, table, end, xid, key, before, after, unchanged=()):
        self.n += 1
        line = {"op": op, "table": label_of(table.name), "key": key, "before": before, "after": after}
        if unchanged:
            line["unchanged"] = list(unchanged)
        line["tx"] = None if xid is None else {"id": xid, "n": self.n}
        line["ts"] = "2026-01-02T03:04:05.678Z"
        line["source"] = {"lsn": lsn_text(end), "snapshot": "first" if xid is None else False, "gen": self.gen[table.name]}
        self.lines.append(line)

    def key_image(self, table, key):
        return {column: json_cell(table.types[column], value) for column, value in zip(table.key, key)}

    # ---- the log ----------------------------------------------------------------------------------------------------

    def write(self, folder, start=0):
        """The whole changelog from the `start`-th transaction on; the first file is a claim."""
        self.commit(0, claim=True)
        first = self.ends[start]
        journal = defaultdict(list)
        for entry in self.truth.journal:
            journal[entry[0]].append(entry)
        seen = defaultdict(int)
        xids = {end: xid for xid, end in self.truth.txs.items()}
        for index, end in enumerate(self.ends):
            for entry in journal[end]:
                if entry[2] == "drop":
                    self.live.pop(entry[1].name, None)
                elif entry[2] == "create":
                    self.begin(entry[1], max(index, start), end)
                elif entry[2] == "default" and end > first:
                    self.begin(entry[1], index, end)
            self.transaction(end, xids[end], journal[end], seen)
            self.snapshots(end)
            if end >= first and len(self.lines) >= self.random.randint(1, self.commit_rows):
                self.commit(end)
                if self.random.random() < 0.1:
                    self.epoch += 1
                    self.commit(end, claim=True)
        self.commit(self.ends[-1])
        self.save(folder)

    def begin(self, table, index, end):
        """A table is found, or read again, at a place of the log."""
        self.live[table.name] = table
        self.gen[table.name] += 1
        if self.gen[table.name] > 1:
            self.line("t", table, end, None, {}, None, None)
        for number in range(self.ranges if table.key else 1):
            at = min(index + self.random.randint(0, self.lag), len(self.ends) - 1)
            lives = [e for e in self.ends[index:at + 1] if table.dropped is None or e < table.dropped]
            self.join[table, number] = lives[-1] if lives else end

    def snapshots(self, end):
        for (table, number), at in self.join.items():
            if at != end or self.live.get(table.name) is not table:
                continue
            if not table.key:
                self.bag_rows(table, end)
                continue
            for key in table.history:
                row = table.row_at(key, end) if self.range_of(table, key) == number else None
                if row is not None:
                    self.line("r", table, end, None, self.key_image(table, key), None, self.image(table, row, end))

    def bag_rows(self, table, end):
        rows = []
        for at, xid in table.order:
            for op, old, new in table.ops[xid] if at <= end else ():
                if op == "t":
                    rows = []
                if old is not None:
                    rows.remove(old)
                if new is not None:
                    rows.append(new)
        for row in rows:
            self.line("r", table, end, None, {}, None, self.image(table, row, end))

    def transaction(self, end, xid, entries, seen):
        """The effects of a transaction as lines, where their ranges have joined."""
        moved, truncated = None, set()
        for _end, table, what, a, b in entries:
            if what != "set":
                continue
            half = table.history[a][seen[table, a]]
            seen[table, a] += 1
            shown = self.live.get(table.name) is table and self.joined(table, self.range_of(table, a), end)
            key = self.key_image(table, a)
            if half.why == "truncate":
                if table not in truncated and all(self.joined(table, n, end) for n in range(self.ranges)):
                    self.line("t", table, end, xid, {}, None, None)
                    truncated.add(table)
            elif half.move is not None and half.kind == "d":
                moved = (a, half.prev, shown)
            elif half.move is not None:
                self.moved(table, end, xid, moved, a, half, shown)
            elif not shown:
                continue
            elif half.kind == "i":
                self.line("c", table, end, xid, key, None, self.image(table, b, end))
            elif half.kind == "d":
                self.line("d", table, end, xid, key, key, None)
            else:
                keep = [c for c in ("body",) if half.prev.get(c) is not None and half.prev.get(c) == b.get(c)]
                self.line("u", table, end, xid, key, None, self.image(table, b, end, keep), keep)
        for table in {e[1] for e in entries if not e[1].key}:
            if self.live.get(table.name) is table and self.joined(table, 0, end):
                for op, old, new in table.ops.get(xid, ()):
                    self.line(op, table, end, xid, {}, self.image(table, old, end), self.image(table, new, end))

    def moved(self, table, end, xid, moved, key, half, shown):
        old_key, prev, old_shown = moved
        old = self.key_image(table, old_key)
        if old_shown and shown:
            keep = [c for c in ("body",) if prev.get(c) is not None and prev.get(c) == half.row.get(c)]
            self.line("u", table, end, xid, self.key_image(table, key), old, self.image(table, half.row, end, keep), keep)
        elif old_shown:
            self.line("d", table, end, xid, old, old, None)
        elif shown:
            self.line("c", table, end, xid, self.key_image(table, key), None, self.image(table, half.row, end))

    # ---- files ------------------------------------------------------------------------------------------------------

    def commit(self, applied, claim=False):
        rows = [] if claim else self.lines
        lines, announced = [], {}
        for line in rows:
            columns = sorted(set(line["before"] or ()) | set(line["after"] or ()) | set(line.get("unchanged", ())))
            if line["op"] != "t" and line["after"] is not None and announced.get(line["table"]) != columns or (
                    line["op"] == "d" and line["table"] not in announced):
                self.version += 1
                announced[line["table"]] = columns
                lines.append({"schema": {"table": line["table"], "version": self.version, "columns": [
                    {"name": name, "type": "x", "nullable": True, "key": name in line["key"]} for name in columns]}})
            lines.append(line)
        position = {"v": 1, "applied": lsn_text(applied), "resume": lsn_text(applied)} if applied else None
        lines.append({"commit": {"job": "j", "epoch": self.epoch, "seq": len(self.files) + 1, "rows": len(rows), "schema": None,
                                 "position": position, "inconsistent": self.inconsistent(applied)}})
        self.files.append(lines)
        if not claim:
            self.lines = []

    def save(self, folder):
        save_files(folder, self.files)


def save_files(folder, files, which=None):
    """Writes lists of lines as seq 1, 2, ..., over what is there; `which`: only those indices."""
    os.makedirs(folder, exist_ok=True)
    for index in range(len(files)) if which is None else which:
        with open(os.path.join(folder, "%016d.jsonl" % (index + 1)), "w", encoding="utf-8") as file:
            for line in files[index]:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
