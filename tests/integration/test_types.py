"""Every built-in scalar type and what users add: each value equal in snapshot, stream, update and delete images, and equal to
what the server's own ::text says, with the log in binary and in text form (catalogue, group D)."""

import os
import socket
import subprocess

from harness import Proxy, quote_literal, temporary_folder, wait_until
from type_values import BINARY, SETUP, TEXT
from values import PINNED, FormError, changelog_lines, server_text

TIMEOUT = 240
SCALES_OF_15 = ("numeric(3,-2)", "numeric(3,5)")  # 14 knows no scale below 0 or above the precision
INTERVAL_OF_15 = "2562047788"  # hours that 14 does not read


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
    inserted = [truth(session, "(select * from %s where id >= 1000) s" % table, server_form(entry[2])) for table, entry in zip
        (tables, types)]
    # Each row takes the value of its neighbour; one column more, so that rows change whose value does not.
    session.execute("".join("update %s a set n = 1, v = b.v from %s b where a.id < 1000 and b.id = 1000 + (a.id + 1) %% %d;"
                            % (table, table, len(entry[4]) + 1) for table, entry in zip(tables, types)))
    updated = [truth(session, "(select * from %s where id < 1000) s" % table, server_form(entry[2])) for table, entry in zip(
        tables, types)]
    session.execute("".join("delete from %s where id >= 1000;" % table for table in tables))
    for run, (folder, job) in jobs.items():
        t.equal("%s %s stop" % (pg(t), run), job.terminate(), 0)
        t.equal("%s %s catches up" % (pg(t), run), t.once(url(database, **runs[run]), folder.sink + "?job=types_" + run).code, 0)
        said = job.stderr_text()
        t.check("%s %s form of the log" % (pg(t), run), ("values=binary" if run == "stream" and types is not TEXT else
            "values=text") in said, said[:600])
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
    types = BINARY
    if t.server.version() < 15:
        types = [entry[:4] + ([value for value in entry[4] if INTERVAL_OF_15 not in value],) for entry in BINARY
                 if entry[2] not in SCALES_OF_15]
    phases(t, types, {"stream": {}, "stream_text": {"binary": "off"}})


def case_text(t):
    phases(t, TEXT, {"stream": {}})


def case_enum_changes(t):
    """T104: labels added and renamed while the stream runs."""
    database = t.database("create type mood as enum ('sad', 'glücklich');"
                          "create table t (id int primary key, m mood, ms mood[]); insert into t values (1, 'sad', "
                          "'{sad,glücklich}')")
    folder = t.jsonl()
    job = t.tailrace("run", t.server.url(database), folder.sink).start()
    wait_until(folder.consistent, 30, "the snapshot")
    with t.server.session(database) as session:
        session.execute("alter type mood add value '気分' before 'sad'; insert into t values (2, '気分', '{気分,NULL}')")
        wait_until(lambda: len(folder.rows("public.t")) == 2, 30, "the new label")
        session.execute("alter type mood rename value 'sad' to 'sörgenvoll'; insert into t values (3, 'sörgenvoll', "
            "'{sörgenvoll}');"
                        "update t set m = 'glücklich' where id = 1")
        wait_until(lambda: len(folder.rows("public.t")) == 3, 30, "the renamed label")
        session.execute("begin; alter type mood add value 'last'; commit; begin; update t set m = 'last', ms = null where "
            "id = 2; commit")
    t.equal("T104 %s stop" % pg(t), job.terminate(), 0)
    t.equal("T104 %s catches up" % pg(t), t.once(t.server.url(database), folder.sink).code, 0)
    lines = changelog_lines(folder)["public.t"]
    t.equal("T104 %s add value" % pg(t), [l["after"]["m"] for l in lines if l["after"]["id"] == "2"], ["気分", "last"])
    t.equal("T104 %s rename value" % pg(t), [l["after"] for l in lines if l["after"]["id"] == "3"],
            [{"id": "3", "m": "sörgenvoll", "ms": ["sörgenvoll"]}])
    t.equal("T104 %s update after rename" % pg(t), lines_of(lines, "1")[-1]["m"], "glücklich")
    t.equal("T104 %s enum[] with a new label" % pg(t), [l["after"]["ms"] for l in lines if l["after"]["id"] == "2"], [["気分",
        None], None])


def lines_of(lines, key):
    """The after-images of one id, in order."""
    return [line["after"] for line in lines if line["after"] and line["after"]["id"] == key]


ROLE_SETTINGS = {"datestyle": "'German, DMY'", "intervalstyle": "'iso_8601'", "bytea_output": "'escape'", "timezone":
    "'Asia/Kolkata'",
                 "extra_float_digits": "-15", "xmloption": "'document'", "client_encoding": "'LATIN1'", "search_path": "''",
                 "standard_conforming_strings": "off", "default_transaction_isolation": "'serializable'", "statement_timeout":
                     "1",
                 "idle_in_transaction_session_timeout": "1", "lock_timeout": "1",
                 "quote_all_identifiers": "on", "synchronous_commit": "off"}


def role_settings(t, server, number, settings, columns, values, kinds, judges=("plain", "plain")):
    """Runs a job as a role with these settings, and one as a role without: both changelogs hold the same, in snapshot and
    stream: what the server says to the judges."""
    database = t.database("create table t (id int primary key, %s); insert into t values (1, %s)" % (columns, values), server)
    for role in ("plain", "odd"):
        server.sql("create role %s login superuser replication" % role)
    for name, value in settings.items():
        server.sql("alter role odd set %s = %s" % (name, value))
    answers = {}
    for role in ("plain", "odd"):
        folder = t.jsonl()
        source = server.url(database, user=role, binary="off")
        job = t.tailrace("run", source, folder.sink + "?job=" + role).start()
        wait_until(lambda f=folder, j=job: f.consistent() or not j.running(), 30, "the snapshot as %s" % role)
        server.sql("insert into t select id + 1, %s from t where id = 1" % ", ".join(name.split()[0] for name in columns.split
            (", ")), database)
        t.equal("%s %s stop as %s" % (number, pg(t), role), job.terminate(), 0)
        t.equal("%s %s catches up as %s" % (number, pg(t), role), t.once(source, folder.sink + "?job=" + role).code, 0)
        lines = changelog_lines(folder)["public.t"]
        answers[role] = [lines_of(lines, "1")[-1], lines_of(lines, "2")[-1]]
        server.sql("delete from t where id = 2", database)
    sessions = [server.session(database, user=role) for role in judges]
    for session in sessions:
        session.execute(PINNED + "; set statement_timeout = 0; set search_path = public; set client_encoding = 'UTF8'")
    for name, kind in kinds.items():
        want = [session.value("select %s::text from t where id = 1" % name) for session in sessions]
        if kind in ("real", "double precision"):
            want = [repr(float(text)) for text in want]
        for at, phase in enumerate(("snapshot", "stream")):
            got = [server_text(kind, answers[role][at][name]) for role in ("plain", "odd")]
            t.equal("%s %s %s %s" % (number, pg(t), phase, name), got, want)
    for role in ("plain", "odd"):
        server.sql("drop owned by %s; drop role %s" % (role, role), database)


def case_role_settings(t):
    role_settings(t, t.server, "T101", ROLE_SETTINGS,
                  "ts timestamptz, d date, i interval, y bytea, f double precision, r real, x xml, s text, a timestamptz[], "
                  "g tstzrange",
                  "'2024-02-29 10:00:00.123456+00', '2024-02-29', '1 year -3 days 04:05:06', '\\x00ff5c', 0.1::float8 + "
                  "0.2, 0.1, "
                  "'<a/>', 'nä\\h', '{2024-02-29 10:00:00+00}', '[2024-02-29 10:00:00+00,)'",
                  {"ts": "timestamp with time zone", "d": "date", "i": "interval", "y": "bytea", "f": "double precision", "r":
                      "real",
                   "x": "xml", "s": "text", "a": "timestamp with time zone[]", "g": "other"})


class Meddler(Proxy):
    """What a pooler does that answers the startup packet by itself: one setting does not arrive."""

    wanted, made = b"", b""

    def _pump(self, source, sink, counts):
        try:
            while True:
                piece = source.recv(65536)
                if not piece:
                    break
                sink.sendall(piece if counts else piece.replace(self.wanted, self.made))
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def case_settings_that_do_not_arrive(t):
    """T101: values would look different: refused."""
    database = t.database("create table t (id int primary key, ts timestamptz); insert into t values (1, now())")
    proxy = Meddler(t.server.port)
    for wanted, made in (("datestyle=ISO", "datestyle=SQL"), ("timezone=UTC", "timezone=EST"), ("intervalstyle=postgres",
        "intervalstyle=iso_8601")):
        proxy.wanted, proxy.made = wanted.encode(), made.encode()
        result = t.once(t.server.url(database, port=proxy.port), t.jsonl().sink)
        t.check("T101 %s %s" % (pg(t), made), result.code == 1 and "settings of the startup packet" in result.stderr,
            "exit %s: %s" % (result.code, result.stderr[-300:]))


def case_money_locale(t):
    """T110: money under a server whose lc_monetary is German, and a role with another: one that changes the meaning of the
    stored number (its decimals), so it is not overridden; the text is what the server says to that role."""
    folder = temporary_folder()
    os.chmod(folder, 0o755)
    done = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", os.path.join(folder, "de_DE.UTF-8")], stdin=subprocess.
        DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    if not os.path.isdir(os.path.join(folder, "de_DE.UTF-8")):
        t.skip("T110 money with lc_monetary de_DE", "localedef cannot make de_DE.UTF-8 (code %d): install locales" % done.
            returncode)
        return
    os.environ["LOCPATH"] = folder
    try:
        server = t.own_server({"lc_monetary": "de_DE.UTF-8"})
    finally:
        del os.environ["LOCPATH"]
    t.check("T110 %s the server's locale" % pg(t), "€" in server.value("select 1::money::text"))
    role_settings(t, server, "T110", {"lc_monetary": "'C'"}, "m money, ms money[]",
        "(-12345.67)::numeric::money, array[1.5::numeric::money, null]",
                  {"m": "other", "ms": "other"}, ("plain", "odd"))


def case_money_plan(t):
    """T101, T110: plan says what becomes of money, domains and arrays of it, and how the setting is kept; it stops nothing."""
    database = t.database("create domain price as money; create table t (id int primary key, m money, \"P\" price, ms money[], "
        "n numeric); create table plain (id int primary key)")
    t.server.sql("alter role postgres set lc_monetary = 'POSIX'")
    try:
        plan = t.tailrace("plan", t.server.url(database), t.jsonl().sink).run(60)
    finally:
        t.server.sql("alter role postgres reset lc_monetary")
    t.equal("T110 %s plan is ready" % pg(t), plan.code, 0)
    said = [line for line in plan.stdout.splitlines() if "of type money" in line or "ALTER ROLE" in line]
    want = '3 columns of type money', "'POSIX'", '"public"."t"."m", "public"."t"."P", "public"."t"."ms"'
    t.check("T110 %s plan says so" % pg(t), len(said) == 2 and all(text in said[0] for text in want), plan.stdout + plan.stderr)
    t.check("T110 %s the cure" % pg(t), "ALTER ROLE postgres SET lc_monetary = 'POSIX';" in plan.stdout, plan.stdout)
    none = t.tailrace("plan", t.server.url(t.database("create table t (id int primary key)")), t.jsonl().sink).run(60)
    t.check("T110 %s no money, no word" % pg(t), none.code == 0 and "of type money" not in none.stdout, none.stdout)


def case_generated(t):
    """T116: a stored generated column is absent in snapshot and stream alike, whatever the identity. (From 18 on FULL with such
    a column is refused: test_versions.)"""
    full = t.server.version() < 18
    database = t.database("create table t (id int primary key, a int, double_a int generated always as (a * 2) stored, b text);"
                          "create table f (id int primary key, g text generated always as ('x' || id) stored, a int);"
                          "insert into t (id, a, b) values (1, 5, 'x'); insert into f (id, a) values (1, 1);"
                          "alter table f replica identity " + ("full" if full else "default"))
    folder = t.jsonl()
    source = t.server.url(database)
    t.equal("T116 %s once" % pg(t), t.once(source, folder.sink).code, 0)
    t.server.sql("insert into t (id, a, b) values (2, 6, 'y'); update t set a = 7 where id = 1; insert into f (id, a) "
        "values (2, 2);"
                 "update f set a = 3 where id = 1; delete from f where id = 2", database)
    t.equal("T116 %s once again" % pg(t), t.once(source, folder.sink).code, 0)
    lines = changelog_lines(folder)
    t.equal("T116 %s snapshot" % pg(t), lines["public.t"][0]["after"], {"id": "1", "a": "5", "b": "x"})
    t.equal("T116 %s stream" % pg(t), [l["after"] for l in lines["public.t"][1:]], [{"id": "2", "a": "6", "b": "y"}, {"id":
        "1", "a": "7", "b": "x"}])
    before = [None, {"id": "1", "a": "1"}, {"id": "2", "a": "2"}] if full else [None, None, {"id": "2"}]
    t.equal("T116 %s before-images" % pg(t), [l["before"] for l in lines["public.f"][1:]], before)
    names = [[c["name"] for c in s["columns"]] for s in folder.schemas("public.t")]
    t.equal("T116 %s schema" % pg(t), {tuple(n) for n in names}, {("id", "a", "b")})
