"""A warehouse folder as the lake's tests see it, and a job from a database into it. Thread: main.

Rows are compared as text of one form, made by the server itself (expression()): numbers as they are, `s:` texts and `x:`
bytes in hex, `d:` and `f:` floats by their bits, `ts:`, `tz:` and `t:` microseconds, dates as days since 1970-01-01, arrays as
[a,null,b]. Columns that the lake keeps as strings in another notation than the server's (interval, timetz, those of ?text=)
are brought to the server's text by values.py. Shares no code with the product."""

import json
import os
import re
import sqlite3
from urllib.parse import unquote

from harness import wait_until
from lake_readers import ReaderError, readers, refusal, told
from values import FormError, Number, PINNED, server_text

LAKE_TYPES = """select attname, b.typname, b.typtype, case when t.typtype = 'd' then t.typtypmod else a.atttypmod end,
coalesce(e.typname, ''), coalesce(e.typtype::text, ''), format_type(b.oid, null)
from pg_attribute a join pg_type t on t.oid = a.atttypid
join pg_type b on b.oid = case when t.typtype = 'd' then t.typbasetype else t.oid end
left join pg_type e on e.oid = b.typelem and b.typcategory = 'A'
where attrelid = '"public"."%s"'::regclass and attnum > 0 and not attisdropped and attgenerated = '' order by attnum"""
PLAIN = ("int2", "int4", "int8", "oid", "bool", "uuid")
_UUID = re.compile(r"\bs:([0-9a-f]{72})\b")  # DuckDB gives uuids as texts
RETOLD = {"timetz": "time with time zone", "interval": "interval"}  # strings whose notation is the lake's own


def path_of(url):
    """The path of a file: URL, also in the form file:/path that Java's programs write."""
    return unquote(re.sub("^file:/+", "/", url)) if url.startswith("file:/") else url


def numeric_is_decimal(typmod):
    """A numeric that Iceberg's decimal can say."""
    if typmod < 4:
        return False
    precision, scale = (typmod - 4) >> 16, ((typmod - 4) & 0x7FF ^ 1024) - 1024
    return precision <= 38 and 0 <= scale <= precision


def expression(kind, typmod, cell):
    """SQL that gives a cell of a type (its typname) in the common form."""
    if kind in PLAIN or kind == "numeric" and numeric_is_decimal(typmod):
        return cell + "::text"
    if kind in ("float4", "float8"):
        return "'%s:' || encode(%ssend(%s), 'hex')" % ("f" if kind == "float4" else "d", kind, cell)
    if kind == "date":
        return "(%s - date '1970-01-01')::text" % cell
    if kind in ("timestamp", "timestamptz", "time"):
        mark = {"timestamp": "ts", "timestamptz": "tz", "time": "t"}[kind]
        return "'%s:' || (extract(epoch from %s) * 1000000)::bigint" % (mark, cell)
    if kind == "bytea":
        return "'x:' || encode(%s, 'hex')" % cell
    # As it is sent, which ::text is not of every type (blanks of char(n), the mask of an inet).
    return "case when %s is not null then 's:' || encode(convert_to(format('%%s', %s), 'UTF8'), 'hex') end" % (cell, cell)


class Column:
    """One column of the server's table: how to ask for it, and how to bring the lake's cell to the same form."""

    def __init__(self, name, kind, kind_type, typmod, element, element_type, full, as_text):
        self.name = name
        self.is_uuid = not as_text and "uuid" in (kind, element)
        self.retell = None
        cell = '"%s"' % name.replace('"', '""')
        if as_text:
            self.sql = "'s:' || encode(convert_to(%s::text, 'UTF8'), 'hex')" % cell
            self.retell = "enum" if kind_type == "e" else "enum[]" if element_type == "e" else full
        elif element:
            of_text = element_type == "e" or element == "numeric"  # whose precision a source's array type does not carry
            inner = expression("text" if of_text else element, int(typmod), "e")
            self.sql = (
                "case when %s is null then null else '[' || coalesce((select string_agg(coalesce(%s, 'null'), ',' "
                "order by o) from unnest(%s) with ordinality u(e, o)), '') || ']' end" % (cell, inner, cell)
            )
            self.retell = RETOLD.get(element)
        else:
            self.sql = expression("text" if kind_type == "e" else kind, int(typmod), cell)
            self.retell = RETOLD.get(kind)

    def plain(self, cell):
        """A reader's cell in the common form."""
        if cell is not None and self.is_uuid:
            return _UUID.sub(lambda found: bytes.fromhex(found.group(1)).decode(), cell)
        if cell is None or not self.retell:
            return cell
        if cell.startswith("["):
            return "[%s]" % ",".join(c if c == "null" else self._retold(c) for c in cell[1:-1].split(",") if c)
        return self._retold(cell)

    def _retold(self, cell):
        if not cell.startswith("s:"):
            return cell
        text = bytes.fromhex(cell[2:]).decode()
        try:
            told = server_text(self.retell, self._value(text))
        except (FormError, ValueError, KeyError, TypeError) as error:
            return "malformed:%s: %s" % (text, error)
        return "s:" + told.encode().hex()

    def _value(self, text):
        kind = self.retell
        if kind.endswith("[]") or kind == "interval":
            return json.loads(text, parse_int=Number, parse_float=Number)
        if kind == "boolean":
            return {"true": True, "false": False}[text]
        if kind in ("smallint", "integer", "bigint", "oid", "real", "double precision") and text[-1:].isdigit():
            return Number(text)
        return text


class Lake:
    """A warehouse folder. Tables are named "public.t"."""

    def __init__(self, path):
        self.path = path
        self.sink = "iceberg://" + path

    def query(self, sql, *values):
        """Rows of catalog.db; none where it is not there."""
        path = os.path.join(self.path, "catalog.db")
        if not os.path.exists(path):
            return []
        connection = sqlite3.connect("file:%s?mode=rw" % path, uri=True, timeout=20)  # a hot journal is rolled back
        try:
            return connection.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
        finally:
            connection.close()

    def tables(self):
        """{"public.t": metadata URL}."""
        return {
            "%s.%s" % (space, name): url
            for space, name, url in self.query(
                "select table_namespace, table_name, metadata_location from iceberg_tables where catalog_name = 'tailrace'"
            )
        }

    def metadata(self, table):
        with open(path_of(self.tables()[table]), encoding="utf-8") as file:
            return json.load(file)

    def snapshots(self, table):
        """Of the table, oldest first."""
        return sorted(self.metadata(table)["snapshots"], key=lambda s: s["sequence-number"])

    def commit(self):
        """(epoch, seq) of the only job; None before the first."""
        rows = self.query("select epoch, seq from tailrace_jobs")
        return rows[0] if rows else None

    def consistent(self):
        """Every table's current snapshot says so, and there is one."""
        found = self.tables()
        for table in found:
            metadata = self.metadata(table)
            current = [s for s in metadata["snapshots"] if s["snapshot-id"] == metadata.get("current-snapshot-id")]
            if not current or current[0]["summary"].get("tailrace.consistent") != "true":
                return False
        return bool(found)

    def files(self):
        """{path} of every file below the tables' folders."""
        return {
            os.path.join(folder, name)
            for folder, _folders, names in os.walk(self.path)
            for name in names
            if folder != self.path
        }

    def columns(self, table):
        metadata = self.metadata(table)
        schema = [s for s in metadata["schemas"] if s["schema-id"] == metadata["current-schema-id"]][0]
        return [(f["name"], f["type"] if isinstance(f["type"], str) else "list") for f in schema["fields"]]


class ServerTable:
    """What the server holds, in the common form. `text`: columns of ?text=."""

    def __init__(self, server, database, table, text=()):
        self.columns = [Column(*row, row[0] in text) for row in server.sql(LAKE_TYPES % table, database)]
        select = ", ".join(column.sql for column in self.columns)
        with server.session(database) as session:
            session.execute(PINNED)
            rows = session.execute('select %s from "public"."%s"' % (select, table))
        self.rows = sorted(map(tuple, rows), key=repr)

    def compare(self, rows, kept=(), told_by=None):
        """(equal?, why not) of rows that a reader gave. `kept`: columns that the lake has after the server's own; `told_by`:
        (names, rows) -> these rows as far as the reader can say them."""
        names = [column.name for column in self.columns]
        wanted = told_by(names, self.rows) if told_by else self.rows
        for row in rows[:1]:
            if list(row) != names + list(kept):
                return False, "columns %s, the server has %s" % (list(row), names)
        got = sorted((tuple(column.plain(row[column.name]) for column in self.columns) for row in rows), key=repr)
        if got == wanted:
            return True, ""
        more, fewer = _left(got, wanted), _left(wanted, got)
        why = "%d rows, the server has %d" % (len(got), len(wanted))
        if more and fewer:
            same = [b for b in fewer if b[0] == more[0][0]]
            if same:
                cells = [(n, a, b) for n, a, b in zip(names, more[0], same[0]) if a != b]
                return False, "%s; row %s: (column, here, server) %.500s" % (why, more[0][0], cells)
        return False, "%s; only here %.300r; only there %.300r" % (why, more[:2], fewer[:2])


def _left(some, others):
    counts, out = {}, []
    for row in others:
        counts[row] = counts.get(row, 0) + 1
    for row in some:
        if counts.get(row, 0):
            counts[row] -= 1
        else:
            out.append(row)
    return out


class LakeFlow:
    """A job from a new database into a new warehouse. `options`: of the sink, "format=v3&partition=bucket(4,id)"."""

    count = 0

    def __init__(self, t, number, sql=None, options="", database=None, folder=None, text=(), **keys):
        self.t, self.server = t, t.server
        self.label = "%s pg%d" % (number, self.server.version())
        self.database = database or t.database(sql)
        self.lake = Lake(folder or os.path.join(t.temp(), "lake"))
        self.text, self.keys = text, keys
        self.options = options + ("&text=" + ",".join(text) if text else "")
        LakeFlow.count += 1
        self.name = "lake_%d" % LakeFlow.count
        self.state = os.path.join(t.temp(), "state")
        self.job = None

    def words(self):
        more = "&" + self.options.lstrip("&") if self.options else ""
        return [self.server.url(self.database, **self.keys), "%s?job=%s%s" % (self.lake.sink, self.name, more)]

    def once(self, what="once", code=0, says=None, **keys):
        """`once` to its end; a check of its code (and of a word that it says)."""
        keys.setdefault("state", self.state)
        result = self.t.tailrace("once", *self.words(), **keys).run(120)
        good = result.code == code and (says is None or says in result.stderr)
        self.check(what, good, "exit %s, want %s %s: %s" % (result.code, code, says or "", result.stderr[-900:]))
        return result

    def start(self, **keys):
        keys.setdefault("state", self.state)
        self.job = self.t.tailrace("run", *self.words(), **keys).start()
        return self.job

    def run(self, **keys):
        self.start(**keys)
        wait_until(lambda: self.lake.consistent() or not self.job.running(), 60, "a consistent commit")
        return self.job

    def stop(self):
        if self.job is not None and self.job.running():
            self.equal("stop", self.job.terminate(), 0)

    def sql(self, sql):
        return self.server.sql(sql, self.database)

    def wanted(self, table):
        return ServerTable(self.server, self.database, table, self.text)

    def read(self, reader, table, snapshot=None):
        return readers().rows(reader, self.lake.tables()["public." + table], snapshot)

    def same(self, what, *tables, only=None, kept=()):
        """Every reader gives what the server holds now. `kept`: as of ServerTable.compare."""
        for table in tables:
            wanted = self.wanted(table)
            for reader in only or readers().names + list(readers().more):
                self._look("%s %s %s" % (what, table, reader), reader, table, wanted, kept)

    def _look(self, what, reader, table, wanted, kept):
        refused = self.refused(reader, table)
        try:
            self.check(what, *self.looked(reader, table, wanted, kept))
        except (ReaderError, KeyError) as error:
            if refused and reason_of(refused) in str(error):
                self.check(what + " refuses", True)
                return
            self.check(what, False, "%s: %s" % (type(error).__name__, error))

    def refused(self, reader, table):
        """Why that reader cannot have the table; None, also of readers that can have all."""
        found = readers().more.get(reader)
        return refusal(found, self.lake.metadata("public." + table)) if found else None

    def looked(self, reader, table, wanted, kept=(), snapshot=None):
        """(equal?, why not) of what a reader finds and what the server has, or had at that snapshot; ReaderError."""
        told_by = None
        if reader in readers().more:
            metadata = self.lake.metadata("public." + table)

            def told_by(names, rows):
                return told(readers().more[reader], metadata, names, rows)

        return wanted.compare(self.read(reader, table, snapshot), kept, told_by)

    def nothing_lost(self, what):
        """Every file that a retained snapshot names exists with its size, and nothing else lies in the tables' folders but
        metadata files that the metadata log names, and hints."""
        named = set()
        for table, url in self.lake.tables().items():
            named.add(path_of(url))
            metadata = self.lake.metadata(table)
            named |= {path_of(entry["metadata-file"]) for entry in metadata.get("metadata-log", [])}
            for snapshot in readers().ask(do="files", metadata=url).values():
                named.add(path_of(snapshot["list"]))
                named |= {path_of(path) for path in snapshot["manifests"]}
                for path, size, _content in snapshot["live"]:
                    named.add(path_of(path))
                    if os.path.exists(path_of(path)) and os.path.getsize(path_of(path)) != size:
                        self.check(
                            what + " sizes",
                            False,
                            "%s has %d bytes, the manifest says %d" % (path, os.path.getsize(path_of(path)), size),
                        )
        have = {path for path in self.lake.files() if not path.endswith("version-hint.text")}
        self.equal(what + ": named files exist", sorted(named - have)[:5], [])
        return sorted(have - named)

    def equal(self, what, got, want):
        return self.t.equal("%s %s" % (self.label, what), got, want)

    def check(self, what, condition, why=""):
        return self.t.check("%s %s" % (self.label, what), condition, why)


def reason_of(refused):
    """What the reader itself says, of "NAME has no format: what it says"."""
    return refused.rpartition(": ")[2]


def seconds(alone):
    """A case's time; `alone`: with the readers that judge always."""
    return alone * 4 if os.environ.get("TAILRACE_LAKE_MORE") else alone


def have_readers(t):
    """True where a case can be judged; skips loudly what is missing."""
    found = readers()
    if found is None:
        t.skip("lake readers", "PyIceberg and DuckDB cannot be installed: tests/servers/lake_readers.sh")
        return False
    for name, why in found.missing.items():
        t.skip("lake reader " + name, why)
    return True


FORMATS = (
    ("v2", "format=v2"),
    ("v2 bucket", "format=v2&partition=bucket(4,id)"),
    ("v3", "format=v3"),
    ("v3 bucket day", "format=v3&partition=bucket(4,id),day(created_at)"),
)
