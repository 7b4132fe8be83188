"""The judge of an exactly-once run: compares a jsonl: folder with the truth read through test_decoding (truth.py).

It shares nothing with the product. Checker walks all files of a folder in order and asks of each line: which change of
the truth is it, was it shown before, is it its turn, are its values right; at each commit: is every table that is not
listed as inconsistent equal to the truth at the position stated, does the bank's sum hold; at the end: what was never
shown. A change may be left unshown only where a snapshot row or a new generation covers it, or where its table was not
consistent (or not known) at that place and the state proves that nothing is gone. Pure: reads files. Thread: any."""

import json
import os
import re
from bisect import bisect_left
from collections import Counter

from cells import FormError, row_of
from truth import MASK, digest, label_name, parse_lsn

KINDS = ("missing", "doubled", "order", "value", "state", "torn", "sum", "generation", "sequence", "form")
SHOWN_PER_KIND = 12
DATA_FILE = re.compile(r"^(\d{16})\.jsonl$")
LINE_KEYS = ["op", "table", "key", "before", "after", "tx", "ts", "source"]
COMMIT_KEYS = ["job", "epoch", "seq", "rows", "schema", "position", "inconsistent"]


class Findings:
    """What was found wrong: a count a kind, and the first few of each in words."""

    def __init__(self):
        self.counts = dict.fromkeys(KINDS, 0)
        self.texts = []

    def add(self, kind, text, count=1):
        self.counts[kind] += count
        if sum(1 for k, _t in self.texts if k == kind) < SHOWN_PER_KIND:
            self.texts.append((kind, text))

    def total(self):
        return sum(self.counts.values())

    def kinds(self):
        """The kinds that occurred, as a set."""
        return {kind for kind, count in self.counts.items() if count}

    def merge(self, other):
        for kind, count in other.counts.items():
            self.counts[kind] += count
        self.texts += other.texts


class Commit:
    """One file's last line. `applied`: the position stated as a number, 0 where it is null."""

    def __init__(self, index, path, line, alone):
        self.index, self.path, self.claim = index, path, alone
        self.epoch, self.seq, self.rows = line["epoch"], line["seq"], line["rows"]
        self.job, self.schema, self.position = line["job"], line["schema"], line["position"]
        self.inconsistent = {label_name(name) for name in line["inconsistent"]}
        self.applied = applied_of(line["position"])


def applied_of(position):
    """The `applied` of a position (an object, or its text) as a number; 0 without one."""
    if isinstance(position, str):
        position = json.loads(position)
    if not position or position.get("applied") is None:
        return 0
    return parse_lsn(position["applied"])


class KeyState:
    """One key in one generation: how far its history was shown, and its row as a reader has it."""

    __slots__ = ("next", "row", "joined", "gaps", "wrote")

    def __init__(self):
        self.next = 0        # halves before it were shown, are covered, or are in gaps
        self.row = None
        self.joined = False  # a snapshot row or a change was shown: from then on changes flow
        self.gaps = {}       # index of a half that was passed over -> was the key joined then
        self.wrote = 0       # end of the log that the row's cells are known as of


class Context:
    """One generation of one table as the changelog tells it."""

    def __init__(self, name, gen, start):
        self.name, self.gen, self.start = name, gen, start   # start: index of the file it begins in
        self.incarnation = None
        self.keys = {}
        self.bag = Counter()     # without a key: rows as a reader has them
        self.read = Counter()    # without a key: the snapshot's rows
        self.shown = {}          # without a key: xid -> how many of its ops were shown
        self.last_end = 0        # without a key: end of the newest transaction shown
        self.joined_at = None    # without a key: where its snapshot joined
        self.read_to = {}        # index of a file -> the furthest join of the snapshot rows in it
        self.sum = 0

    def put(self, state, row):
        """The key's row is now `row` (None: gone)."""
        if state.row is not None:
            self.sum -= digest(state.row)
        if row is not None:
            self.sum += digest(row)
        self.sum &= MASK
        state.row = row

    def count(self, row, change):
        self.bag[row] += change
        self.sum = (self.sum + change * digest(row)) & MASK

    def empty(self):
        self.bag.clear()
        self.sum = 0

    def rows(self):
        """The rows of a table with a key."""
        return (state.row for state in self.keys.values() if state.row is not None)


class View:
    """One table name through all its generations."""

    def __init__(self, name, first_seen):
        self.name = name
        self.first_seen = first_seen
        self.context = None
        self.begun = set()       # files in which a generation began
        self.suspended = False   # DDL that the log does not show has passed; a new generation must follow


class Mirror:
    """The truth of one table at the position reached so far."""

    def __init__(self, incarnation):
        self.incarnation = incarnation
        self.rows = {} if incarnation.key else Counter()
        self.sum = 0

    def apply(self, what, a, b):
        if what == "set":
            old = self.rows.pop(a, None)
            self.sum -= digest(old) if old is not None else 0
            if b is not None:
                self.rows[a] = b
                self.sum += digest(b)
        elif what == "put":
            self.rows[a] += 1
            self.sum += digest(a)
        elif what == "take":
            self.rows[a] -= 1
            self.sum -= digest(a)
        elif what == "clear":
            self.rows.clear()
            self.sum = 0
        elif what == "default":
            self.rows = {key: {**row, a: b} for key, row in self.rows.items()}
            self.sum = sum(map(digest, self.rows.values()))
        elif what == "remove":
            self.rows = {key: without(row, (a,)) for key, row in self.rows.items()}
            self.sum = sum(map(digest, self.rows.values()))
        self.sum &= MASK


def without(row, columns):
    """The row less those columns; the same object where it has none of them."""
    if row is None or not any(column in row for column in columns):
        return row
    return {c: v for c, v in row.items() if c not in columns}


def show_difference(have, want):
    """Two rows, or None, as text: only the cells that differ."""
    if have is None or want is None:
        return "%.200r where the truth has %.200r" % (have, want)
    odd = sorted(c for c in set(have) | set(want) if have.get(c) != want.get(c))
    return ", ".join("%s: %.80r where the truth has %.80r" % (c, have.get(c), want.get(c)) for c in odd[:4])


class Checker:
    """One folder against one truth. `bank`: ({table: column}, sum) or None. `ledger`: name of the table (client, n), or None.
    `starts_max`: how many starts, rewinds included, may have claimed an epoch."""

    def __init__(self, truth, bank=None, ledger=None, starts_max=None):
        self.truth = truth
        self.found = Findings()
        self.bank, self.ledger, self.starts_max = bank, ledger, starts_max
        self.commits = []
        self.views = {}
        self.lines = 0
        self.sums_checked = self.states_checked = 0
        self._applied = []
        self._mirrors = {}
        self._journal_at = 0
        self._first_file = {}     # xid -> index of the first file that shows a row of it
        self._ledger_seen = {}
        self._dead = {}
        self._tx_order = {}       # table -> (end, n) of its newest change in this file

    def run(self, folder):
        """Walks the folder; returns the Findings."""
        self._load_commits(folder)
        self._applied = [commit.applied for commit in self.commits]
        for commit in self.commits:
            self._file(commit)
        for view in self.views.values():
            if view.context is not None:
                self._finish(view, view.context, None)
        for name, incarnation in self.truth.live().items():
            context = self.views[name].context if name in self.views else None
            if incarnation.current and (context is None or context.incarnation is not incarnation):
                self.found.add("missing", "%s was never captured" % name, len(incarnation.current))
        return self.found

    def rows(self, name):
        """A table as rebuilt: list of rows (canonical cells), repeats included."""
        view = self.views.get(name)
        if view is None or view.context is None:
            return []
        context = view.context
        if context.incarnation is not None and not context.incarnation.key:
            return [dict(row) for row in context.bag.elements()]
        return list(context.rows())

    # ---- commits ----------------------------------------------------------------------------------------------------

    def _load_commits(self, folder):
        names = sorted(name for name in os.listdir(folder) if DATA_FILE.match(name))
        for name in names:
            path = os.path.join(folder, name)
            try:
                commit = self._read_commit(path, len(self.commits))
            except (ValueError, KeyError, TypeError) as error:
                self.found.add("form", "%s: no commit line: %s" % (name, error))
                continue
            if commit.seq != int(DATA_FILE.match(name).group(1)):
                self.found.add("sequence", "%s says seq %s" % (name, commit.seq))
            if self.commits:
                self._follows(self.commits[-1], commit)
            self.commits.append(commit)
        if not self.commits:
            self.found.add("sequence", "the folder holds no commit")
            return
        epochs = {commit.epoch for commit in self.commits}
        if self.starts_max is not None and len(epochs) > self.starts_max:
            self.found.add("sequence", "%d epochs of %d starts" % (len(epochs), self.starts_max))
        if not self.commits[0].claim:
            self.found.add("sequence", "the first file is not a claim")
        schema = self.commits[-1].schema
        if schema and not os.path.exists(os.path.join(folder, schema)):
            self.found.add("sequence", "the newest commit names %s, which is not there" % schema)
        elif schema:
            self._check_schemas(os.path.join(folder, schema))

    def _check_schemas(self, path):
        """The stored definitions are those of the tables as of the newest position. The log tells a definition only with the
        next change of its table, so one that no change has followed may be there or not."""
        with open(path, encoding="utf-8") as file:
            stored = {label_name(table["table"]): table for table in json.load(file)["tables"]}
        applied = self.commits[-1].applied
        changed = {entry[1]: entry[0] for entry in self.truth.journal if entry[2] in ("set", "put", "take", "clear")}
        for name, table in self.truth.live().items():
            if table.created > applied:
                continue
            if name not in stored:
                self.found.add("sequence", "%s does not hold %s" % (path, name))
                continue
            columns = {table.alias.get(column["name"], column["name"]): column["key"] for column in stored[name]["columns"]}
            key = sorted((place, column) for column, place in columns.items() if place >= 0)
            told = min(changed.get(table, table.created), applied)
            right = [table.columns_at(told)] + [names for at, names in table.columns if told < at <= applied]
            if set(columns) not in right or [column for _place, column in key] != table.key:
                self.found.add("sequence", "%s: %s has columns %s there" % (path, name, columns))

    @staticmethod
    def _read_commit(path, index):
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            tail, take = b"", 65536
            while True:
                file.seek(max(0, size - take))
                tail = file.read()
                if take >= size or b"\n" in tail[:-1]:
                    break
                take *= 4
        if not tail.endswith(b"\n"):
            raise ValueError("the file does not end with a line feed")
        line = json.loads(tail[:-1].rsplit(b"\n", 1)[-1])
        if list(line) != ["commit"] or list(line["commit"])[:len(COMMIT_KEYS)] != COMMIT_KEYS:
            raise ValueError("the last line is %.120r" % tail[-200:])
        return Commit(index, path, line["commit"], tail.count(b"\n") == 1 and take >= size)

    def _follows(self, last, commit):
        """A commit after another: seq, epoch, position, job."""
        if commit.seq != last.seq + 1:
            self.found.add("sequence", "seq %d after %d" % (commit.seq, last.seq))
        if commit.job != last.job:
            self.found.add("sequence", "job %r after %r at seq %d" % (commit.job, last.job, commit.seq))
        if commit.applied < last.applied:
            self.found.add("sequence", "position %X after %X at seq %d" % (commit.applied, last.applied, commit.seq))
        if commit.epoch < last.epoch:
            self.found.add("sequence", "epoch %d after %d at seq %d" % (commit.epoch, last.epoch, commit.seq))
        elif commit.epoch > last.epoch + 1:
            self.found.add("sequence", "epoch %d after %d at seq %d" % (commit.epoch, last.epoch, commit.seq))
        elif commit.epoch > last.epoch and not commit.claim:
            self.found.add("sequence", "epoch %d begins at seq %d with rows" % (commit.epoch, commit.seq))

    def _file(self, commit):
        where = os.path.basename(commit.path)
        self._dead, self._tx_order = {}, {}
        announced, rows = {}, 0
        with open(commit.path, "rb") as file:
            for number, text in enumerate(file, 1):
                place = "%s:%d" % (where, number)
                try:
                    line = json.loads(text)
                    if "commit" in line:
                        continue
                    if "schema" in line:
                        schema = line["schema"]
                        announced[label_name(schema["table"])] = {column["name"] for column in schema["columns"]}
                        continue
                    rows += 1
                    self._line(commit, line, place, announced)
                except (ValueError, KeyError, TypeError) as error:
                    self.found.add("form", "%s: %s: %s: %.200r" % (place, type(error).__name__, error, text))
        if rows != commit.rows:
            self.found.add("form", "%s holds %d rows and says %s" % (where, rows, commit.rows))
        for name in commit.inconsistent:
            self._view(name, commit)
        self._advance(commit.applied)
        self._judge_commit(commit)

    def _view(self, name, commit):
        if name not in self.views:
            self.views[name] = View(name, commit.index)
        return self.views[name]

    # ---- lines ------------------------------------------------------------------------------------------------------

    def _line(self, commit, line, place, announced):
        self.lines += 1
        op, name, gen = line["op"], label_name(line["table"]), line["source"]["gen"]
        self._check_form(line, place)
        lsn = parse_lsn(line["source"]["lsn"])
        view = self._view(name, commit)
        context = self._context(view, commit, op, gen, place)
        if context is None:
            return
        if name not in announced and op != "t":
            self.found.add("form", "%s: a row of %s before its schema" % (place, name))
        if line["tx"] is not None:
            end = self._transaction(commit, line, lsn, place)
            if end is None:
                return
            self._check_order(name, gen, end, line["tx"]["n"], place)
        elif op == "t":
            return                      # the record of a generation
        else:
            end = lsn
        if not self._settle(context, end, place):
            return
        if op == "r":
            context.read_to[commit.index] = max(end, context.read_to.get(commit.index, 0))
        for image in ("before", "after"):
            for column in line[image] or ():
                if name in announced and column not in announced[name]:
                    self.found.add("form", "%s: %s is not in the schema line" % (place, column))
        if context.incarnation.key:
            self._keyed_line(context, commit, line, end, place)
        else:
            self._keyless_line(context, line, end, place)

    def _check_form(self, line, place):
        """What INTERFACE says of every line: its keys in order, which op carries which image, what belongs to a transaction."""
        op, tx, source = line["op"], line["tx"], line["source"]
        if [key for key in line if key != "unchanged"] != LINE_KEYS or list(source) != ["lsn", "snapshot", "gen"]:
            self.found.add("form", "%s: keys %s" % (place, list(line)))
        images = {"r": (False, True), "c": (False, True), "u": (None, True), "d": (True, False), "t": (False, False)}[op]
        for image, want in zip(("before", "after"), images):
            if want is not None and (line[image] is not None) != want:
                self.found.add("form", "%s: op %s with %s %.80r" % (place, op, image, line[image]))
        streamed = tx is not None
        if streamed and (list(tx) != ["id", "n"] or source["snapshot"] is not False or line["ts"] is None):
            self.found.add("form", "%s: a change of the log with %s, %s, %s" % (place, tx, source["snapshot"], line["ts"]))
        if streamed and op == "r" or not streamed and op in "cu":
            self.found.add("form", "%s: op %s %s a transaction" % (place, op, "with" if streamed else "without"))
        if not streamed and op in "rt" and source["snapshot"] not in ("first", "backfill"):
            self.found.add("form", "%s: read from the table, and snapshot %r" % (place, source["snapshot"]))

    def _check_order(self, name, gen, end, n, place):
        """The changes of a table stand in the order of the log, file by file."""
        last = self._tx_order.get((name, gen), (0, -1))
        if (end, n) <= last:
            self.found.add("order", "%s: a change of %s number %d of the transaction ending at %X after number %d of %X" % (
                place, name, n, end, last[1], last[0]))
        self._tx_order[name, gen] = (end, n)

    def _context(self, view, commit, op, gen, place):
        """The generation that the line belongs to, a new one where it says so; None where it may not be."""
        context = view.context
        if context is None or gen > context.gen:
            if context is not None or gen > 1:
                if op != "t":
                    self.found.add("generation", "%s: a row of generation %s of %s without its record" % (place, gen, view.name))
                if context is not None and gen != context.gen + 1:
                    self.found.add("generation", "%s: generation %s of %s after %s" % (place, gen, view.name, context.gen))
                if context is not None:
                    self._finish(view, context, commit.index)
            view.context = Context(view.name, gen, commit.index if context is not None else view.first_seen)
            if context is not None:
                view.begun.add(commit.index)
            if view.name == self.ledger:
                self._ledger_seen = {}
        elif gen < context.gen:
            self.found.add("generation", "%s: generation %s of %s after %s" % (place, gen, view.name, context.gen))
            return None
        return view.context

    def _transaction(self, commit, line, lsn, place):
        """The end of the line's transaction; checks that it lies where it may."""
        xid = int(line["tx"]["id"])
        end = self.truth.txs.get(xid)
        if end is None:
            self.found.add("value", "%s: a transaction %s that the truth does not know" % (place, xid))
            return None
        if lsn > end:
            self.found.add("sequence", "%s: its lsn lies beyond its transaction" % place)
        if end > commit.applied:
            self.found.add("torn", "%s: a row of a transaction beyond the position stated" % place)
        first = self._first_file.setdefault(xid, commit.index)
        if first != commit.index:
            for index in range(first, commit.index):
                if label_name(line["table"]) not in self.commits[index].inconsistent:
                    self.found.add("torn", "%s: transaction %d is already in seq %d" % (place, xid, self.commits[first].seq))
                    break
        return end

    def _settle(self, context, end, place):
        """Ties the generation to a life of its table; False where the line belongs to another one."""
        incarnation = self.truth.incarnation_at(context.name, end)
        if context.incarnation is None and incarnation is not None:
            context.incarnation = incarnation
        if incarnation is None or incarnation is not context.incarnation:
            self.found.add("generation", "%s: %s was %s there" % (
                place, context.name, "not a table" if incarnation is None else "another table of that name"))
            return False
        return True

    def _cells(self, context, line, image, place):
        try:
            return row_of(context.incarnation, line[image])
        except FormError as error:
            self.found.add("form", "%s: %s" % (place, error))
            return {}

    # ---- tables with a key ------------------------------------------------------------------------------------------

    def _keyed_line(self, context, commit, line, end, place):
        op, table = line["op"], context.incarnation
        if op == "t":
            self._truncate(context, int(line["tx"]["id"]), end, place)
            return
        after = self._cells(context, line, "after", place)
        before = self._cells(context, line, "before", place)
        unchanged = [table.alias.get(name, name) for name in line.get("unchanged") or ()]
        if after is not None:
            self._check_columns(context, line, end, unchanged, place)
        new_key = self._key(context, after, line, place)
        row = {c: v for c, v in after.items() if v is not None} if after is not None else None
        dead = self._dead_columns(table, commit.applied)
        if op == "r":
            self._snapshot_row(context, new_key, row, end, dead, place)
            return
        old_key = new_key
        if before is not None and all(column in before for column in table.key):
            old_key = tuple(before[column] for column in table.key)
        base = context.keys[old_key].row if old_key in context.keys else None
        self._check_before(before, base, place)
        for column in unchanged:
            if base is None:
                self.found.add("value", "%s: %s is unchanged of a row that is not there" % (place, column))
            elif column in base:
                row[column] = base[column]
        if op == "d" and line.get("tx") is None:
            state = context.keys.setdefault(old_key, KeyState())
            state.joined = False
            context.put(state, None)
        elif op == "d":
            self._show(context, old_key, end, "d", None, dead, place)
        elif op == "c" or old_key == new_key:
            self._show(context, new_key, end, "i" if op == "c" else "u", row, dead, place)
        else:
            self._show(context, old_key, end, "d", None, dead, place)
            self._show(context, new_key, end, "i", row, dead, place)

    def _key(self, context, row, line, place):
        """The key of a row as the truth writes it; of the line's `key` where the row does not carry it."""
        columns = context.incarnation.key
        stated = row_of(context.incarnation, line["key"])
        key = tuple((row or {}).get(column, stated.get(column)) for column in columns)
        if set(stated) != set(columns) or None in key:
            self.found.add("form", "%s: key %s of a table whose key is %s" % (place, line["key"], columns))
        return key

    def _check_columns(self, context, line, end, unchanged, place):
        table = context.incarnation
        carried = {table.alias.get(name, name) for name in line["after"]} | set(unchanged)
        if carried != table.columns_at(end):
            self.found.add("value", "%s: carries the columns %s where the table has %s" % (
                place, sorted(carried), sorted(table.columns_at(end))))

    def _check_before(self, before, base, place):
        """What a before-image carries must be what a reader has."""
        for column, value in (before or {}).items():
            if base is not None and column in base and value != base[column]:
                self.found.add("state", "%s: before says %s = %.60r, the row has %.60r" % (place, column, value, base[column]))

    def _dead_columns(self, table, applied):
        if table not in self._dead:
            self._dead[table] = [column for column, at in table.removed.items() if at <= applied]
        return self._dead[table]

    def _snapshot_row(self, context, key, row, joined, dead, place):
        """A row as of `joined`: what ended there or before is covered by it."""
        table = context.incarnation
        state = context.keys.setdefault(key, KeyState())
        covered = table.index_at(key, joined)
        if state.next > covered:
            self.found.add("doubled", "%s: a snapshot row of %s %s as of %X beside later changes of it" % (
                place, table.name, key, joined))
        elif state.joined and state.next == covered and state.row is not None:
            self.found.add("doubled", "%s: a second snapshot row of %s %s" % (place, table.name, key))
        want = table.row_at(key, joined)
        if row != want:
            self.found.add("value", "%s: snapshot row of %s %s: %s" % (place, table.name, key, show_difference(row, want)))
        for index in range(state.next, covered):
            if state.joined and not self._allowed(context, table.history[key][index].end):
                self.found.add("missing", "%s: %s %s: %r was not shown" % (place, table.name, key, table.history[key][index]))
        for index in [i for i in state.gaps if i < covered]:
            if self._allowed(context, table.history[key][index].end):
                del state.gaps[index]
        state.next, state.joined, state.wrote = max(covered, state.next), True, joined
        self._put(context, key, state, without(row, dead))

    def _show(self, context, key, end, kind, row, dead, place):
        """A change of a key: finds it in the key's history, and says what is wrong with it."""
        table = context.incarnation
        state = context.keys.setdefault(key, KeyState())
        halves = table.history.get(key, ())
        low, high = table.index_at(key, end - 1), table.index_at(key, end)
        found = [i for i in range(low, high) if halves[i].kind == kind]
        exact = [i for i in found if halves[i].row == row]
        index = next((i for i in exact if i >= state.next), None)
        if index is None:
            again = [i for i in exact if i < state.next]
            late = [i for i in again if i in state.gaps]
            if late:
                self.found.add("order", "%s: %s %s: %r comes after a later one" % (place, table.name, key, halves[late[0]]))
                del state.gaps[late[0]]
                return
            if again:
                self.found.add("doubled", "%s: %s %s: %r was shown or is covered" % (place, table.name, key, halves[again[-1]]))
                return
            index = next((i for i in found if i >= state.next), None)
            if index is None:
                self.found.add("doubled" if found else "value", "%s: %s %s: the truth has no such change (%s)" % (
                    place, table.name, key, kind))
                return
            self.found.add("value", "%s: %s %s: %s" % (place, table.name, key, show_difference(row, halves[index].row)))
        for i in range(state.next, index):
            state.gaps[i] = state.joined
        self._check_state(context, key, state, halves[index], dead, place)
        state.next, state.joined, state.wrote = index + 1, True, end
        self._put(context, key, state, without(row, dead))

    def _check_state(self, context, key, state, half, dead, place):
        """A reader's row before a change must be the truth's row before it."""
        ignore = set(dead)
        ignore.update(c for at, c, _v in context.incarnation.defaults if state.wrote < at <= half.end)
        ignore.update(c for c, at in context.incarnation.removed.items() if state.wrote < at <= half.end)
        have, want = without(state.row, ignore), without(half.prev, ignore)
        if have != want:
            self.found.add("state", "%s: before %r of %s %s: %s" % (
                place, half, context.name, key, show_difference(have, want)))

    def _put(self, context, key, state, row):
        context.put(state, row)
        if context.name == self.ledger and row is not None:
            seen = self._ledger_seen.setdefault(row["client"], [0, 0])
            seen[0] += 1
            seen[1] = max(seen[1], int(row["n"]))

    def _truncate(self, context, xid, end, place):
        """A truncate shown: every row goes; the halves of all keys that it emptied count as shown."""
        table = context.incarnation
        if xid not in table.truncates:
            self.found.add("value", "%s: the truth has no truncate of %s in %d" % (place, table.name, xid))
            return
        done = context.shown.get(xid, 0)
        if done >= len(table.truncates[xid]):
            self.found.add("doubled", "%s: a second truncate of %s in %d" % (place, table.name, xid))
            return
        context.shown[xid] = done + 1
        for key in table.truncates[xid][done]:
            self._show_truncate(context, key, end, place)
        for key, state in context.keys.items():
            if state.row is not None:
                self.found.add("state", "%s: %s %s is there, the truth has no such row before the truncate" % (
                    place, table.name, key))
                context.put(state, None)

    def _show_truncate(self, context, key, end, place):
        table = context.incarnation
        state = context.keys.setdefault(key, KeyState())
        low, high = table.index_at(key, end - 1), table.index_at(key, end)
        halves = table.history[key]
        index = next((i for i in range(max(low, state.next), high) if halves[i].why == "truncate"), None)
        if index is None:           # a row read after it covers the truncate
            return
        for i in range(state.next, index):
            state.gaps[i] = state.joined
        if state.row is not None or state.joined:
            self._check_state(context, key, state, halves[index], (), place)
        state.next, state.wrote = index + 1, end
        context.put(state, None)

    # ---- tables without a key ---------------------------------------------------------------------------------------

    def _keyless_line(self, context, line, end, place):
        table, op = context.incarnation, line["op"]
        before = self._cells(context, line, "before", place)
        after = self._cells(context, line, "after", place)
        for column in line.get("unchanged") or ():
            after[table.alias[column]] = (before or {}).get(table.alias[column])
        old, new = (None if row is None else frozenset((c, v) for c, v in row.items() if v is not None)
                    for row in (before, after))
        if op == "r":
            if context.joined_at not in (None, end):
                self.found.add("generation", "%s: two joins of one reading of %s" % (place, table.name))
            context.joined_at = end
            context.read[new] += 1
            context.count(new, 1)
            return
        xid = int(line["tx"]["id"])
        ops = table.ops.get(xid, ())
        done = context.shown.get(xid, 0)
        if end < context.last_end:
            self.found.add("order", "%s: a transaction of %s after a later one" % (place, table.name))
        context.last_end = max(end, context.last_end)
        if done < len(ops) and ops[done] == (op, old, new):
            context.shown[xid] = done + 1
        elif (op, old, new) in ops[:done]:
            self.found.add("doubled", "%s: a change of %s was shown before" % (place, table.name))
        elif (op, old, new) in ops[done:]:
            index = ops.index((op, old, new), done)
            self.found.add("missing", "%s: changes of %s were left out" % (place, table.name), index - done)
            context.shown[xid] = index + 1
        else:
            self.found.add("value", "%s: %s has no such change in %d: %s %.200s" % (
                place, table.name, xid, op, sorted(new or old or ())))
        self._apply_bag(context, op, old, new, place)

    def _apply_bag(self, context, op, old, new, place):
        if op == "t":
            context.empty()
            return
        if old is not None:
            if context.bag[old] <= 0:
                self.found.add("state", "%s: %s holds no such row: %.200s" % (place, context.name, sorted(old)))
            context.count(old, -1)
        if new is not None:
            context.count(new, 1)

    def _finish_bag(self, view, context, until):
        """What the snapshot covers must be what it showed; what it does not cover must have been shown."""
        table, covered = context.incarnation, Counter()
        for end, xid in table.order:
            ops, shown = table.ops[xid], context.shown.get(xid, 0)
            commit = self._commit_of(end)
            if shown:
                if shown < len(ops):
                    self.found.add("missing", "%s: the last changes of transaction %d" % (table.name, xid), len(ops) - shown)
                continue
            if context.joined_at is not None and end <= context.joined_at:
                apply_ops(covered, ops)
            elif until is not None and commit >= until:
                break
            elif context.joined_at is not None or not self._allowed(context, end):
                if table.dropped is None and not (until is not None and self._allowed(context, end)):
                    self.found.add("missing", "%s: transaction %d, ending at %X" % (table.name, xid, end), len(ops))
            else:
                apply_ops(covered, ops)
        for row in set(covered) | set(context.read):
            want, have = covered[row], context.read[row]
            if have < want and (until is None or context.joined_at is not None):
                self.found.add("missing", "%s: its snapshot lacks %.200s" % (table.name, sorted(row)), want - have)
            elif have > want:
                self.found.add("doubled", "%s: its snapshot repeats %.200s" % (table.name, sorted(row)), have - want)

    # ---- the end of a generation ------------------------------------------------------------------------------------

    def _commit_of(self, end):
        """Index of the commit whose position first covers a place of the log; len(commits) where none does."""
        return bisect_left(self._applied, end)

    def _allowed(self, context, end):
        """May a change that ended there be unshown, because its table was not consistent or not known then? In the commit
        that makes it consistent: only one that the rows read there can cover."""
        index = self._commit_of(end)
        view = self.views[context.name]
        if index <= context.start or index <= view.first_seen:
            return True
        if index >= len(self.commits):
            return False
        if context.name in self.commits[index].inconsistent or index in view.begun:
            return True
        return context.name in self.commits[index - 1].inconsistent and end <= context.read_to.get(index, end)

    def _finish(self, view, context, until):
        """`until`: index of the file in which the next generation begins; None at the end of the folder."""
        table = context.incarnation
        if table is None:
            table = self.truth.live().get(context.name)
            if until is not None or table is None:
                return
            context.incarnation = table
        if not table.key:
            self._finish_bag(view, context, until)
            return
        nobody = KeyState()
        for key, halves in table.history.items():
            state = context.keys.get(key, nobody)
            for index, joined in state.gaps.items():
                hole = halves[index].hole or (index - 1 in state.gaps and any(halves[i].hole for i in state.gaps))
                if not self._allowed(context, halves[index].end) or (joined and not hole):
                    self._unshown(table, key, halves[index])
            for half in halves[state.next:]:
                if until is not None and self._commit_of(half.end) >= until:
                    break
                if not self._allowed(context, half.end):
                    self._unshown(table, key, half)
                elif until is None and state.joined and not (state.row is None and any(h.hole for h in halves[state.next:])):
                    self._unshown(table, key, half)
            if until is None and table.dropped is None and state.row != table.current.get(key):
                self.found.add("state", "%s %s at the end: %s" % (
                    table.name, key, show_difference(state.row, table.current.get(key))))

    def _unshown(self, table, key, half):
        self.found.add("missing", "%s %s: %r was not shown" % (table.name, key, half))

    # ---- what must hold at every commit -----------------------------------------------------------------------------

    def _advance(self, applied):
        """Moves the truth's mirrors to a position."""
        journal = self.truth.journal
        while self._journal_at < len(journal) and journal[self._journal_at][0] <= applied:
            _end, table, what, a, b = journal[self._journal_at]
            self._journal_at += 1
            mirror = self._mirrors.get(table.name)
            if what == "create":
                self._mirrors[table.name] = Mirror(table)
                continue
            if what in ("drop", "default") and table.name in self.views:
                self.views[table.name].suspended = True
            if what != "drop":
                mirror.apply(what, a, b)
            if what == "remove" and table.name in self.views:
                self._strip(self.views[table.name].context, table, a)

    @staticmethod
    def _strip(context, table, column):
        if context is None or context.incarnation is not table:
            return
        for state in context.keys.values():
            state.row = without(state.row, (column,))
        context.sum = sum(map(digest, context.rows())) & MASK

    def _judge_commit(self, commit):
        for name, view in self.views.items():
            context, mirror = view.context, self._mirrors.get(name)
            if context is None and mirror is not None and mirror.incarnation.number == 1 and name not in commit.inconsistent:
                self._judge_unseen(commit, view, mirror)
            if context is None or context.incarnation is None or mirror is None or name in commit.inconsistent:
                continue
            same = mirror.incarnation is context.incarnation and context.sum == mirror.sum
            self.states_checked += 1
            if same:
                view.suspended = False
            elif not view.suspended and (context.incarnation.dropped or commit.applied + 1) > commit.applied:
                self.found.add("state", "seq %d: %s differs from the truth at %X: %s" % (
                    commit.seq, name, commit.applied, self._sample(context, mirror)))
                view.suspended = True    # once for a fault, not once for each commit after it
        self._judge_sums(commit)

    def _judge_unseen(self, commit, view, mirror):
        """A table that commits have named and that nothing was shown of: as long as it is consistent, it is empty."""
        rows = mirror.rows if mirror.incarnation.key else +mirror.rows
        if rows and not view.suspended:
            self.found.add("state", "seq %d: %s is said to be consistent, holds %d rows at %X, and none was shown" % (
                commit.seq, view.name, len(rows), commit.applied))
            view.suspended = True

    @staticmethod
    def _sample(context, mirror):
        if not context.incarnation.key:
            return "%.300s" % sorted((context.bag - mirror.rows) + (mirror.rows - context.bag))[:2]
        for key, row in mirror.rows.items():
            state = context.keys.get(key)
            if state is None or state.row != row:
                return "%s: %s" % (key, show_difference(state.row if state else None, row))
        extra = [key for key, state in context.keys.items() if state.row is not None and key not in mirror.rows]
        return "rows that are not there: %s" % extra[:4]

    def _judge_sums(self, commit):
        if self.bank is not None:
            tables, want = self.bank
            contexts = [self.views[name].context if name in self.views else None for name in tables]
            if None not in contexts and not commit.inconsistent & set(tables):
                self.sums_checked += 1
                have = sum(int(row[tables[c.name]]) for c in contexts for row in c.rows())
                if have != want:
                    self.found.add("sum", "seq %d: the bank holds %d, not %d" % (commit.seq, have, want))
        if self.ledger is not None and self.ledger not in commit.inconsistent:
            for client, (count, highest) in self._ledger_seen.items():
                if count != highest:
                    self.found.add("sum", "seq %d: ledger of client %s: %d rows up to number %d" % (
                        commit.seq, client, count, highest))


def apply_ops(bag, ops):
    for op, old, new in ops:
        if op == "t":
            bag.clear()
        if old is not None:
            bag[old] -= 1
        if new is not None:
            bag[new] += 1
