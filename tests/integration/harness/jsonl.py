"""A reader of jsonl: folders that shares nothing with the product: parses every file in order, checks its form, and
rebuilds the tables by applying r, c, u, d and t to an empty start. Whatever does not fit (a second insert of a key, a
delete of a row that is not there) is a Problem, never mended. Thread: any."""

import json
import os
import re
from collections import Counter

from .processes import HarnessError

DATA_FILE = re.compile(r"^(\d{16})\.jsonl$")
LINE_KEYS = ["op", "table", "key", "before", "after", "unchanged", "tx", "ts", "source"]
COMMIT_KEYS = ["job", "epoch", "seq", "rows", "schema", "position", "inconsistent"]


class Problem:
    """Something that an exact changelog never holds. `kind` is stable: doubled, missing_row, carried_nothing, ..."""

    def __init__(self, kind, where, line):
        self.kind = kind
        self.where = where
        self.line = line

    def __repr__(self):
        return "%s at %s: %s" % (self.kind, self.where, json.dumps(self.line)[:400])


class Table:
    """One table as rebuilt. `rows`: {key tuple: {column: value}}; tables without a key count equal rows in `keyless`."""

    def __init__(self, name):
        self.name = name
        self.columns = []
        self.version = None
        self.gen = None
        self.rows = {}
        self.keyless = Counter()

    def all_rows(self):
        """Every row as a dict, with repeats for tables without a key."""
        found = list(self.rows.values())
        for text, count in self.keyless.items():
            found += [json.loads(text)] * count
        return found

    def count(self):
        return len(self.rows) + sum(self.keyless.values())


class State:
    """All tables after some commit, and the problems met on the way."""

    def __init__(self):
        self.tables = {}
        self.problems = []

    def table(self, name):
        if name not in self.tables:
            self.tables[name] = Table(name)
        return self.tables[name]

    def apply(self, line, where):
        """Applies one line of a file (a schema line or a row)."""
        if "schema" in line:
            self._apply_schema(line["schema"])
            return
        table = self.table(line["table"])
        operation = line["op"]
        problem = {"r": self._put, "c": self._insert, "u": self._update, "d": self._delete, "t": self._truncate}[operation]
        kind = problem(table, line)
        if kind:
            self.problems.append(Problem(kind, where, line))
        table.gen = line["source"].get("gen", table.gen)

    def _apply_schema(self, schema):
        table = self.table(schema["table"])
        names = [column["name"] for column in schema["columns"]]
        if table.columns and names != table.columns:
            for row in table.rows.values():
                for name in [n for n in row if n not in names]:
                    del row[name]
                for name in names:
                    row.setdefault(name, None)
        table.columns = names
        table.version = schema["version"]

    @staticmethod
    def _key(line, row):
        names = list(line["key"])
        if row is not None and all(name in row for name in names):
            return tuple(hashable(row[name]) for name in names)
        return tuple(hashable(line["key"][name]) for name in names)

    def _put(self, table, line):
        if not line["key"]:
            table.keyless[canonical(line["after"])] += 1
            return None
        key = self._key(line, line["after"])
        known = key in table.rows
        table.rows[key] = dict(line["after"])
        again = line["source"].get("snapshot") == "backfill"  # a range read once more: its rows are upserts
        return "snapshot_row_doubled" if known and not again else None

    def _insert(self, table, line):
        if not line["key"]:
            table.keyless[canonical(line["after"])] += 1
            return None
        key = self._key(line, line["after"])
        known = key in table.rows
        table.rows[key] = dict(line["after"])
        return "doubled" if known else None

    def _update(self, table, line):
        unchanged = line.get("unchanged") or []
        if not line["key"]:
            before = line["before"] or {}
            kind = self._take_keyless(table, before)
            after = dict(line["after"], **{name: before[name] for name in unchanged if name in before})
            table.keyless[canonical(after)] += 1
            return kind
        old_key, key = self._key(line, line["before"]), self._key(line, line["after"])
        old = table.rows.pop(old_key, None)
        after = dict(line["after"])
        kind = "update_of_missing_row" if old is None else None
        for name in unchanged:
            if old is not None and name in old:
                after[name] = old[name]
            else:
                kind = "unchanged_without_row"
        if old is not None and set(old) - set(after):
            kind = "carried_nothing"  # a cell is absent and not named in `unchanged`
        if key in table.rows:
            kind = "doubled"
        table.rows[key] = after
        return kind

    def _delete(self, table, line):
        if not line["key"]:
            return self._take_keyless(table, line["before"] or {})
        if table.rows.pop(self._key(line, line["before"]), None) is None:
            return "delete_of_missing_row"
        return None

    @staticmethod
    def _take_keyless(table, row):
        text = canonical(row)
        if table.keyless[text] <= 0:
            del table.keyless[text]
            return "keyless_row_missing"
        table.keyless[text] -= 1
        if table.keyless[text] == 0:
            del table.keyless[text]
        return None

    @staticmethod
    def _truncate(table, _line):
        table.rows.clear()
        table.keyless.clear()


class JsonlFolder:
    """A folder that a jsonl: sink writes. Every method reads it anew, so it may be asked while a job runs."""

    def __init__(self, path):
        self.path = str(path)

    @property
    def sink(self):
        """The SINK text of a job."""
        return "jsonl://" + self.path

    def files(self):
        """Paths of the data files, in order."""
        try:
            names = sorted(name for name in os.listdir(self.path) if DATA_FILE.match(name))
        except FileNotFoundError:
            return []
        return [os.path.join(self.path, name) for name in names]

    def staged(self):
        """Names of staged files that are not visible to readers."""
        return sorted(name for name in os.listdir(self.path) if name.startswith("."))

    def contents(self):
        """For each file: (its commit, its other lines with their place `file:number`). Raises HarnessError on a file that
        breaks the format."""
        for path in self.files():
            yield read_file(path)

    def commits(self):
        return [commit for commit, _lines in self.contents()]

    def last_commit(self):
        """The newest file's commit, or None; reads that file only."""
        files = self.files()
        return read_file(files[-1])[0] if files else None

    def lines(self, table=None):
        """All rows (dicts with op, table, key, ...) in order, of one table or of all."""
        return [line for _commit, lines in self.contents() for _where, line in lines
                if "op" in line and table in (None, line["table"])]

    def schemas(self, table=None):
        """All schema lines' contents in order."""
        return [line["schema"] for _commit, lines in self.contents() for _where, line in lines
                if "schema" in line and table in (None, line["schema"]["table"])]

    def replay(self):
        """Yields (state, commit) after each commit; the state is one object that grows."""
        state = State()
        for commit, lines in self.contents():
            announced = set()
            for where, line in lines:
                if "schema" in line:
                    announced.add(line["schema"]["table"])
                elif line["table"] not in announced and line["op"] != "t":
                    state.problems.append(Problem("row_before_schema", where, line))
                state.apply(line, where)
            yield state, commit

    def state(self):
        """The tables and problems after the last commit."""
        state = State()
        for state, _commit in self.replay():
            pass
        return state

    def rows(self, table):
        """The rows that the table has after the last commit: dicts, in no order."""
        return self.state().table(table).all_rows()

    def schema_file(self):
        """The _schema file that the last commit names, parsed; None before the first."""
        last = self.last_commit()
        name = last["schema"] if last else None
        if not name:
            return None
        with open(os.path.join(self.path, name), encoding="utf-8") as file:
            return json.load(file)

    def idle(self):
        """The position-only commit that counts (epoch and seq of the newest file), or None."""
        last = self.last_commit()
        if last is None:
            return None
        try:
            with open(os.path.join(self.path, "_idle.%s.json" % last["epoch"]), encoding="utf-8") as file:
                idle = json.load(file)
        except FileNotFoundError:
            return None
        idle = idle.get("commit", idle)
        same = (idle["epoch"], idle["seq"]) == (last["epoch"], last["seq"])
        return idle if same else None

    def position(self):
        """The position that the folder states now (of the idle file where that counts); None before the first."""
        last = self.idle() or self.last_commit()
        return last["position"] if last else None

    def consistent(self):
        """True when the last commit says that no table is inconsistent and it states a position."""
        last = self.last_commit()
        return last is not None and last["position"] is not None and not last["inconsistent"]


def read_file(path):
    """One data file: (commit, [(place, line)]). Raises HarnessError where the format is broken."""
    name = os.path.basename(path)
    with open(path, "rb") as file:
        data = file.read()
    if not data.endswith(b"\n"):
        raise HarnessError("%s does not end with a line feed" % name)
    lines = []
    for number, text in enumerate(data[:-1].split(b"\n"), 1):
        try:
            lines.append(("%s:%d" % (name, number), json.loads(text.decode("utf-8"), object_pairs_hook=_object)))
        except (ValueError, UnicodeDecodeError) as error:
            raise HarnessError("%s:%d is not JSON: %s" % (name, number, error)) from None
    _place, last = lines.pop()
    if list(last) != ["commit"] or list(last["commit"])[:len(COMMIT_KEYS)] != COMMIT_KEYS:
        raise HarnessError("%s: the last line is not a commit line: %r" % (name, last))
    if int(last["commit"]["seq"]) != int(DATA_FILE.match(name).group(1)):
        raise HarnessError("%s says seq %s" % (name, last["commit"]["seq"]))
    if last["commit"]["rows"] != sum("op" in line for _place, line in lines):
        raise HarnessError("%s holds %d rows and says %s" % (name, sum("op" in line for _place, line in lines),
                                                             last["commit"]["rows"]))
    for place, line in lines:
        if "schema" in line:
            continue
        known = [key for key in LINE_KEYS if key in line]
        if list(line)[:len(known)] != known or not {"op", "table", "key", "before", "after", "source"} <= set(line):
            raise HarnessError("%s: keys %s" % (place, list(line)))
    return last["commit"], lines


def _object(pairs):
    if len({name for name, _value in pairs}) != len(pairs):
        raise ValueError("a name twice in one object")
    return dict(pairs)


def hashable(value):
    """A JSON value as something a dict key can hold; a number stays apart from a text with the same digits."""
    return canonical(value) if isinstance(value, (list, dict)) else value


def canonical(row):
    return json.dumps(row, sort_keys=True, ensure_ascii=False)
