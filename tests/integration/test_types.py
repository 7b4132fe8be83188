"""Every built-in scalar type and what users add: each value equal in snapshot, stream, update and delete images, and equal to
what the server's own ::text says, with the log in binary and in text form (catalogue, group D)."""

import os
import subprocess

from harness import quote_literal, temporary_folder, wait_until
from type_values import BINARY, SETUP, TEXT
from values import PINNED, FormError, changelog_lines, server_text

TIMEOUT = 240


def truth(session, table, out, order="id"):
    """{id: the server's text of v}."""
    return dict(session.execute("select id::text, %s from %s order by %s" % (out, table, order)))


def server_form(sql_type):
    """The expression that gives a value as the server's output function writes it. `::text` is the same but for two types
    with a cast of their own: it cuts the blanks of char(n) and adds /32 to an inet."""
    return "case when v is not null then format('%s', v) end" if sql_type in ("char(5)", "inet") else "v::text"


def compare(t, name, kind, got, want):
    """One check: {id: JSON cell} against {id: server's text}."""
    if not want:
        t.fail(name, "the server has no rows to compare with")
        return
    wrong = []
    for row in sorted(set(got) | set(want)):
        if row not in got or row not in want:
            wrong.append("row %s only %s" % (row, "here" if row in got else "there"))
            continue
        try:
            text = server_text(kind, got[row])
        except (FormError, ValueError, OverflowError, TypeError) as error:
            text = "%s: %s" % (type(error).__name__, error)
        expected = want[row]
        if kind in ("real", "double precision") and expected is not None:
            expected = repr(float(expected)) if expected not in ("NaN", "Infinity", "-Infinity") else expected
        if text != expected:
            wrong.append("row %s: %.120r, the server says %.120r" % (row, text, expected))
    t.check(name, not wrong, "; ".join(wrong[:4]))


def cells(lines, operation, image):
    """{id: cell of v} of one kind of line. A key that comes twice shows as a surplus."""
    found = {}
    for line in lines:
        if line["op"] == operation:
            row = line[image]
            found[row["id"] + ("" if row["id"] not in found else " twice")] = row.get("v", "nothing carried")
    return found


def phases(t, types, runs):
    """Fills a table a type, lets one job a run snapshot and stream it, and compares every image. `runs`: {name of the
    stream in the check: more keys of the source}."""
    database = t.database(SETUP)
    url = t.server.url
    session = t.server.session(database)
    session.execute(PINNED)
    tables = ["t%d" % number for number in range(len(types))]
    fill = "".join("create table %s (id int primary key, n int not null default 0, v %s); alter table %s replica identity full;"
                   "insert into %s values (0, 0, null)%s;\n" % (
                       table, sql_type, table, table,
                       "".join(", (%d, 0, %s)" % (i, quote_literal(v)) for i, v in enumerate(values, 1)))
                   for table, (_case, _name, sql_type, _kind, values) in zip(tables, types))
    session.execute(fill)
    before = [truth(session, table, server_form(entry[2])) for table, entry in zip(tables, types)]
    jobs = {}
    for run, keys in runs.items():
        folder = t.jsonl()
        jobs[run] = folder, t.tailrace("run", url(database, **keys), folder.sink + "?job=types_" + run).start()
    for folder, job in jobs.values():
        wait_until(lambda f=folder, j=job: f.consistent() or not j.running(), 60, "the snapshot")
    session.execute("".join("insert into %s select id + 1000, n, v from %s;" % (table, table) for table in tables))
    inserted = [truth(session, "(select * from %s where id >= 1000) s" % table, server_form(entry[2])) for table, entry in zip(tables, types)]
    # Each row takes the value of its neighbour; one column more, so that rows change whose value does not.
    session.execute("".join("update %s a set n = 1, v = b.v from %s b where a.id < 1000 and b.id = 1000 + (a.id + 1) %% %d;"
                            % (table, table, len(entry[4]) + 1) for table, entry in zip(tables, types)))
    updated = [truth(session, "(select * from %s where id < 1000) s" % table, server_form(entry[2])) for table, entry in zip(tables, types)]
    session.execute("".join("delete from %s where id >= 1000;" % table for table in tables))
    for run, (folder, job) in jobs.items():
        t.equal("%s %s stop" % (pg(t), run), job.terminate(), 0)
        t.equal("%s %s catches up" % (pg(t), run), t.once(url(database, **runs[run]), folder.sink + "?job=types_" + run).code, 0)
        said = job.stderr_text()
        t.check("%s %s form of the log" % (pg(t), run), ("values=binary" if run == "stream" and types is BINARY else "values=text") in said, said[:600])
        tables_lines = changelog_lines(folder)
        for table, entry, first, late, new in zip(tables, types, before, inserted, updated):
            label = " ".join(part for part in (entry[0], pg(t)) if part)
            lines = tables_lines.get("public." + table, [])
            if run == "stream":
                compare(t, "%s snapshot %s" % (label, entry[1]), entry[3], cells(lines, "r", "after"), first)
            compare(t, "%s %s %s" % (label, run, entry[1]), entry[3], cells(lines, "c", "after"), late)
            compare(t, "%s %s update before %s" % (label, run, entry[1]), entry[3], cells(lines, "u", "before"), first)
            compare(t, "%s %s update after %s" % (label, run, entry[1]), entry[3], cells(lines, "u", "after"), new)
            compare(t, "%s %s delete %s" % (label, run, entry[1]), entry[3], cells(lines, "d", "before"), late)


def pg(t):
    return "pg%d" % t.server.version()


def case_binary(t):
    phases(t, BINARY, {"stream": {}, "stream_text": {"binary": "off"}})


def case_text(t):
    phases(t, TEXT, {"stream": {}})
