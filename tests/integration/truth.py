"""What really happened: the text of a logical slot read through test_decoding, as histories.

The slot is created before the first table, so the state of every table is known at every place of the log by applying
its changes to nothing. DDL is not in that text: the workload announces it in the same transaction, with
pg_logical_emit_message(true, 'ddl', JSON), which test_decoding prints in its place:
  {"create": "public.t", "columns": {"id": "integer"}, "key": ["id"]}      key [] = none, identity FULL
  {"drop": "public.t"}   {"add": "public.t", "column": "c", "type": "text", "default": "x" or null}
  {"remove": "public.t", "column": "c"}   {"rename": "public.t", "from": "c", "to": "d"}   {"retype": ..., "type": ...}
A column name is never used twice in a table's life, so a name stands for one column whatever the order of reading.
Rows are dicts of canonical text without NULLs; long texts are replaced by their length and hash. Thread: any."""

import bisect
import json
import re
from collections import Counter
from hashlib import sha1

LONG_TEXT = 64
MASK = (1 << 64) - 1
UNCHANGED = object()

_COLUMN = re.compile(r"""(?:"((?:[^"]|"")*)"|([^"\[\s]+))      # name
    \[((?:"(?:[^"]|"")*"|[^"])*?)\]:                           # type
    (?:'((?:[^']|'')*)'|B'([01]*)'|([^'\s]\S*))(?:\ |$)        # value: quoted, bits, bare""", re.X)
_NAME = r'(?:"(?:[^"]|"")*"|[^".,:\s]+)\.(?:"(?:[^"]|"")*"|[^".,:\s]+)'
_CHANGE = re.compile(r"table (%s(?:, %s)*): (INSERT|UPDATE|DELETE|TRUNCATE): " % (_NAME, _NAME))
_MESSAGE = re.compile(r"message: transactional: 1 prefix: ddl, sz: \d+ content:")
_PART = re.compile(r'"((?:[^"]|"")*)"|([^".,\s]+)')
FLOATS = ("real", "double precision")


class TruthError(Exception):
    """The slot's text does not fit itself or the announced DDL: the judge's surroundings failed, not the product."""


def parse_lsn(text):
    """'16/B374D848' as a number; a number stays."""
    if isinstance(text, int):
        return text
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def canonical_text(type_name, text):
    """The server's text of a value in the form that rows hold."""
    if type_name in FLOATS:
        return repr(float(text))
    if len(text) > LONG_TEXT:
        return "%d:%s" % (len(text), sha1(text.encode()).hexdigest())
    return text


def digest(row):
    """A hash of a row; sums of it tell tables apart, whatever the order."""
    return hash(frozenset(row.items()) if isinstance(row, dict) else row) & MASK


def plain_name(text):
    """public."my t" as printed (quoted where needed) -> public.my t."""
    return ".".join(quoted.replace('""', '"') if bare == "" else bare for quoted, bare in _PART.findall(text))


_LABEL_PART = re.compile(r'"((?:[^"]|"")*)"|([^".]+)')


def label_name(label):
    """A table's label in a changelog (parts with a dot or a quote are quoted) -> public.my t."""
    return ".".join(quoted.replace('""', '"') if bare == "" else bare for quoted, bare in _LABEL_PART.findall(label))


def label_of(name):
    """public.my t -> its label."""
    return ".".join('"%s"' % part.replace('"', '""') if '"' in part or "." in part else part
                    for part in name.split(".", 1))


class Half:
    """One change as one key sees it: kind i (the key appears), u (stays), d (goes). A move of a row to another key is a
    d of the old and an i of the new key. `row` after, `prev` before (None where there is none)."""

    __slots__ = ("end", "xid", "kind", "row", "prev", "move", "hole", "why")

    def __init__(self, end, xid, kind, row, prev, why, move=None, hole=False):
        self.end, self.xid, self.kind, self.row, self.prev = end, xid, kind, row, prev
        self.why = why      # insert, update, delete, truncate
        self.move = move    # the other key
        self.hole = hole    # a move in that did not carry every cell

    def __repr__(self):
        return "%s of tx %d ending at %X" % (self.why, self.xid, self.end)


class Incarnation:
    """One life of a table name, from CREATE to DROP."""

    def __init__(self, name, number, columns, key, end):
        self.name = name
        self.number = number
        self.key = list(key)
        self.created = end
        self.dropped = None
        self.types = dict(columns)
        self.alias = {column: column for column in columns}
        self.columns = [(end, frozenset(columns))]
        self.defaults = []                          # (end, column, value)
        self.removed = {}                           # column -> end
        self.current = {} if key else Counter()     # key -> row; without a key: frozenset of cells -> count
        self.history = {}                           # key -> [Half]
        self.truncates = {}                         # xid -> [list of keys emptied]
        self.ops = {}                               # without a key: xid -> [(kind, old, new)]
        self.order = []                             # without a key: [(end, xid)]

    def columns_at(self, end):
        """Names (canonical) of the columns as of a place of the log."""
        index = bisect.bisect_right(self.columns, end, key=lambda pair: pair[0]) - 1
        return self.columns[max(index, 0)][1]

    def index_at(self, key, end):
        """How many of the key's halves end at or below a place of the log."""
        return bisect.bisect_right(self.history.get(key, ()), end, key=lambda half: half.end)

    def row_at(self, key, end):
        """The key's row as of a place of the log, or None."""
        index = self.index_at(key, end)
        if index == 0 or self.history[key][index - 1].row is None:
            return None
        half = self.history[key][index - 1]
        late = {column: value for at, column, value in self.defaults if half.end < at <= end}
        row = {**late, **half.row}
        for column, at in self.removed.items():
            if at <= end:
                row.pop(column, None)
        return row


class Truth:
    """All incarnations of all tables, all transactions, and the journal of effects in order."""

    def __init__(self):
        self.incarnations = {}      # name -> [Incarnation]
        self.txs = {}               # xid -> end
        self.journal = []           # (end, incarnation, what, a, b): see Checker's cursor
        self.last_end = 0
        self.changes = 0
        self._xid = None
        self._open = []

    def feed(self, lsn, data):
        """One row of pg_logical_slot_get_changes: lsn and data."""
        if data.startswith("BEGIN "):
            self._xid, self._open = int(data.split()[1]), []
        elif data.startswith("COMMIT "):
            if int(data.split()[1]) != self._xid:
                raise TruthError("COMMIT of another transaction than %s: %s" % (self._xid, data))
            self._commit(parse_lsn(lsn))
        else:
            self._open.append(data)

    def live(self):
        """The tables that exist at the end: {name: Incarnation}."""
        return {name: lives[-1] for name, lives in self.incarnations.items() if lives[-1].dropped is None}

    def incarnation_at(self, name, lsn):
        """The life of that name as of a place of the log, or None."""
        for incarnation in reversed(self.incarnations.get(name, ())):
            if incarnation.created <= lsn and (incarnation.dropped is None or lsn < incarnation.dropped):
                return incarnation
        return None

    # ---- one transaction --------------------------------------------------------------------------------------------

    def _commit(self, end):
        if end <= self.last_end:
            raise TruthError("a commit at %X after one at %X" % (end, self.last_end))
        xid, self.last_end = self._xid, end
        self.txs[xid] = end
        for data in self._open:
            found = _CHANGE.match(data)
            if found:
                self._change(end, xid, found.group(1), found.group(2), data[found.end():])
                continue
            found = _MESSAGE.match(data)
            if not found:
                raise TruthError("not understood: %.200s" % data)
            self._ddl(end, json.loads(data[found.end():]))
        self._open = []

    def _table(self, name):
        lives = self.incarnations.get(name)
        if not lives or lives[-1].dropped is not None:
            raise TruthError("a change of %s, which was not announced" % name)
        return lives[-1]

    def _change(self, end, xid, names, what, text):
        self.changes += 1
        if what == "TRUNCATE":
            for found in re.finditer(_NAME, names):
                self._truncate(end, xid, self._table(plain_name(found.group(0))))
            return
        table = self._table(plain_name(names))
        old, new = parse_tuples(table, text)
        if what == "INSERT":
            old, new = None, new
        elif what == "DELETE":
            old, new = new, None
        if table.key:
            self._keyed(end, xid, table, what, old, new)
        else:
            self._keyless(end, xid, table, what, old, new)

    def _keyed(self, end, xid, table, what, old, new):
        after = new if new is not None else {}
        source = old if old is not None else after
        old_key = tuple(source.get(c) for c in table.key)
        key = tuple(after.get(c) for c in table.key) if new is not None else None
        prev = table.current.get(old_key)
        if (prev is None) != (what == "INSERT"):
            raise TruthError("%s of %s in %s where the row %s" % (what, old_key, table.name,
                                                                 "is missing" if prev is None else "exists"))
        if what == "INSERT":
            old_key = key
        row, carried = None, True
        if new is not None:
            row = {c: prev.get(c) if v is UNCHANGED else v for c, v in new.items()}
            carried = UNCHANGED not in new.values()
            row = {c: v for c, v in row.items() if v is not None}
        if what == "UPDATE" and key != old_key:
            if key in table.current:
                raise TruthError("a move onto the row %s of %s" % (key, table.name))
            self._half(table, old_key, Half(end, xid, "d", None, prev, "update", move=key))
            self._half(table, key, Half(end, xid, "i", row, None, "update", move=old_key, hole=not carried))
            return
        kind = {"INSERT": "i", "UPDATE": "u", "DELETE": "d"}[what]
        self._half(table, old_key, Half(end, xid, kind, row, prev, what.lower()))

    def _half(self, table, key, half):
        table.history.setdefault(key, []).append(half)
        if half.row is None:
            del table.current[key]
        else:
            table.current[key] = half.row
        self.journal.append((half.end, table, "set", key, half.row))

    def _keyless(self, end, xid, table, what, old, new):
        if what != "INSERT" and not old:
            raise TruthError("%s of %s without the old row" % (what, table.name))
        before = frozenset((c, v) for c, v in old.items() if v is not None) if old else None
        after = None
        if new is not None:
            after = frozenset((c, old.get(c) if v is UNCHANGED else v) for c, v in new.items() if v is not None)
        self._op(table, end, xid, ({"INSERT": "c", "UPDATE": "u", "DELETE": "d"}[what], before, after))
        if before is not None:
            if table.current[before] <= 0:
                raise TruthError("%s of a row that %s does not hold: %s" % (what, table.name, sorted(before)))
            table.current[before] -= 1
            if not table.current[before]:
                del table.current[before]
            self.journal.append((end, table, "take", before, None))
        if after is not None:
            table.current[after] += 1
            self.journal.append((end, table, "put", after, None))

    @staticmethod
    def _op(table, end, xid, op):
        if xid not in table.ops:
            table.ops[xid] = []
            table.order.append((end, xid))
        table.ops[xid].append(op)

    def _truncate(self, end, xid, table):
        if not table.key:
            self._op(table, end, xid, ("t", None, None))
            table.current.clear()
            self.journal.append((end, table, "clear", None, None))
            return
        keys = list(table.current)
        table.truncates.setdefault(xid, []).append(keys)
        for key in keys:
            self._half(table, key, Half(end, xid, "d", None, table.current[key], "truncate"))

    # ---- announced DDL ----------------------------------------------------------------------------------------------

    def _ddl(self, end, message):
        if "create" in message:
            name = message["create"]
            lives = self.incarnations.setdefault(name, [])
            if lives and lives[-1].dropped is None:
                raise TruthError("%s was created twice" % name)
            lives.append(Incarnation(name, len(lives) + 1, message["columns"], message["key"], end))
            self.journal.append((end, lives[-1], "create", None, None))
            return
        what = next(word for word in ("drop", "add", "remove", "rename", "retype") if word in message)
        table = self._table(message[what])
        if what == "drop":
            table.dropped = end
            self.journal.append((end, table, "drop", None, None))
            return
        names = set(table.columns[-1][1])
        if what == "add":
            column, default = message["column"], message["default"]
            table.alias[column], table.types[column] = column, message["type"]
            table.columns.append((end, frozenset(names | {column})))
            if default is not None:
                value = canonical_text(message["type"], default)
                table.defaults.append((end, column, value))
                table.current = {key: {**row, column: value} for key, row in table.current.items()}
                self.journal.append((end, table, "default", column, value))
        elif what == "remove":
            column = table.alias[message["column"]]
            table.columns.append((end, frozenset(names - {column})))
            table.removed[column] = end
            table.current = {k: {c: v for c, v in row.items() if c != column} for k, row in table.current.items()}
            self.journal.append((end, table, "remove", column, None))
        elif what == "rename":
            table.alias[message["to"]] = table.alias[message["from"]]
        else:
            table.types[table.alias[message["column"]]] = message["type"]


def parse_tuples(table, text):
    """The tail of a change -> (old, new): dicts of canonical column -> value (None: NULL, UNCHANGED: not carried), or None."""
    if text == "(no-tuple-data)":
        raise TruthError("%s: a change without its row: the table needs an identity" % table.name)
    old, at = None, 0
    if text.startswith("old-key: "):
        old, at = parse_columns(table, text, 9)
        if not text.startswith("new-tuple: ", at):
            raise TruthError("no new-tuple: %.200s" % text)
        at += 11
    new, at = parse_columns(table, text, at)
    if at != len(text):
        raise TruthError("trailing text: %.200s" % text[at:])
    return old, new


def parse_columns(table, text, at):
    """Columns from `at` on -> (dict, the place after them)."""
    found = {}
    alias = table.alias
    while at < len(text) and not text.startswith("new-tuple: ", at):
        match = _COLUMN.match(text, at)
        if not match:
            raise TruthError("%s: not a column: %.100r" % (table.name, text[at:]))
        quoted, name, kind, value, bits, bare = match.groups()
        name = alias.get(name if quoted is None else quoted.replace('""', '"'))
        if name is None:
            raise TruthError("%s: an unannounced column in %.200s" % (table.name, text))
        if bare == "null":
            found[name] = None
        elif bare == "unchanged-toast-datum":
            found[name] = UNCHANGED
        elif bare is not None:
            found[name] = canonical_text(kind, bare)
        else:
            found[name] = canonical_text(kind, bits if value is None else value.replace("''", "'"))
        at = match.end()
    return found, at
