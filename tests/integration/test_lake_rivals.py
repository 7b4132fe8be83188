"""What other tools got wrong between PostgreSQL and a lake, one case a failure, named after it. The number in front of a
check's name is the failure's; where it was seen stands in the case's first line. Independent readers compare by value with
the server; foreign commits are made by Iceberg's own Java library (tests/lake/java, Foreign)."""

import os
import re
import sqlite3

from harness import fill_disk, small_disk, wait_until
from lake import LakeFlow, have_readers
from lake_readers import ReaderError, readers

FAST = False
TIMEOUT = 300
V2, V3, V3_BUCKET = ("v2", "format=v2"), ("v3", "format=v3"), ("v3 bucket", "format=v3&partition=bucket(4,id)")
LONG = bool(os.environ.get("TAILRACE_TEST_LONG"))

ROWS = (
    "create table t (id int primary key, n int, p text, created_at timestamptz, big text); alter table t alter column big set"
    " storage external; insert into t select i, 0, 'p' || i % 5, '2026-01-01 00:00+00'::timestamptz + i * interval '5 hours',"
    " repeat(md5(i::text), 100) from generate_series(1, 120) i;"
)


def steps(flow, tables, *wanted):
    """SQL, `once`, and a reader, of each (what, SQL): every one in turn, and all of them at the end."""
    names = readers().names + list(readers().more)
    for k, (what, sql) in enumerate(wanted):
        flow.sql(sql)
        flow.once(what)
        flow.same(what, *tables, only=(names[k % len(names)],) if k < len(wanted) - 1 else None)


def each(t, number, sql, tables, *wanted, forms=(V2, V3_BUCKET), **keys):
    """`steps` after the snapshot, in each form."""
    if not have_readers(t):
        return
    for what, options in forms:
        flow = LakeFlow(t, "%s %s" % (number, what), sql, options, **keys)
        flow.once("snapshot is read")
        flow.same("snapshot", *tables, only=("DuckDB",))
        steps(flow, tables, *wanted)


def is_consistent(flow):
    """Of a job that may have been stopped while it held catalog.db."""
    try:
        return flow.lake.consistent()
    except sqlite3.OperationalError:
        return False


def stands_still(flow, steps_of, command="run", options="&freshness=1s", timeout=60, act=None):
    """A job that is stopped (SIGSTOP) at failpoints, [(failpoint, nth time, SQL)], and goes on after each act; ends when all
    were met, or the job ended, or every table of a `run` is consistent. The points that were met."""
    source, sink = flow.words()
    job = flow.job = flow.t.tailrace(command, source, sink + options, state=flow.state)
    job.failpoints = ";".join("%s=stop@%d" % (point, nth) for point, nth, _sql in steps_of)
    job.start()
    left, met = {point: [sql for p, _nth, sql in sorted(steps_of, key=lambda s: s[1]) if p == point] for point, _n, _s in
                 steps_of}, []
    while any(left.values()):
        wait_until(lambda: job.is_stopped() or not job.running() or command == "run" and is_consistent(flow), timeout,
                   "one of the points %s" % left.keys())
        if not job.is_stopped():
            break
        with open(job.failpoints_log, encoding="ascii") as file:
            fired = [line[:-1] for line in file.read().split("\n") if line.endswith("!")]
        for point in fired[len(met):]:
            met.append(point)
            sql = left[point].pop(0)
            (act or flow.sql)(sql)
        job.resume()
    return met


def settle(flow):
    """A `run` of stands_still to its first consistent commit; then it is killed, as a point may be left, and `once`."""

    def consistent():
        if flow.job.is_stopped():
            flow.job.resume()
        return is_consistent(flow) or not flow.job.running()

    wait_until(consistent, 90, "a consistent commit")
    flow.check("it goes on by itself", flow.job.running(), flow.job.stderr_text()[-900:])
    flow.job.kill()
    flow.once("catches up")


def foreign(flow, command, *words, table="public.t"):
    """A commit of another program to a table."""
    where = "type=jdbc,name=tailrace,uri=jdbc:sqlite:%s/catalog.db,warehouse=file://%s,jdbc.schema-version=V1"
    java = readers().java
    java.send("\t".join((command, where % (flow.lake.path, flow.lake.path), table) + words))
    said = java.line()
    if said != ".":
        raise ReaderError(said)


def have_java(t):
    if not have_readers(t):
        return False
    if readers().java is None:
        t.skip("foreign commits", "they are made by Iceberg's Java library, which is not installed")
    return readers().java is not None


# ---- keys ----


def case_key_changes(t):
    """L-R01 ghost rows: an update that changes the key leaves the row of the old one (OLake hashes only the new key; a ghost
    row under copy-on-write, streambed#30)."""
    each(
        t,
        "L-R01 key change",
        ROWS
        + "create table c (a text, b int, v int, primary key (a, b)); insert into c select 'k' || i % 7, i, 0 from"
        " generate_series(1, 70) i;",
        ("t", "c"),
        ("a key", "update t set id = 1001 where id = 1; update c set a = 'moved' where b = 1; update c set b = -2 where b = 2"),
        ("and back", "update t set id = 1 where id = 1001; update c set a = 'k1' where b = 1"),
        (
            "a chain",
            "begin; update t set id = 2001 where id = 2; update t set id = 2002, n = 1 where id = 2001; update t set p = 'x'"
            " where id = 2002; commit; update t set id = 2003 where id = 2002; update t set n = 5 where id = 2003",
        ),
        (
            "onto a key that just went",
            "begin; delete from t where id = 3; update t set id = 3 where id = 4; commit; update t set id = 4 where id = 5;"
            " delete from c where b = 3; update c set b = 3, a = 'k3' where b = 4",
        ),
        (
            "swapped",
            "begin; update t set id = -1 where id = 6; update t set id = 6 where id = 7; update t set id = 7 where id = -1;"
            " commit",
        ),
        ("all", "update t set id = id + 10000, n = n + 1; update c set a = a || '+', b = b + 1000"),
        ("all, twice", "update t set id = -id; update t set id = 5 - id; update c set a = '', v = v + 1"),
        ("then deleted", "update t set id = id + 100000; delete from t where id % 2 = 0; delete from c where b % 2 = 0"),
    )


def case_separators(t):
    """L-R02 composite keys joined by a separator: ('a|b','c') and ('a','b|c') are two rows (OLake joins by | unescaped,
    Filament by 0x1f)."""
    texts = ("", "|", "a", "a|b", "b|c", "c", "a,b", "b,c", ",", "\x1f", "a\x1fb", "\x01", "\\", "a\\", "\\|", "\\0", "b\\0",
             '"', "'", "null", "a/b", "%2F", " ", "a ", "é|")
    array = "array[%s]" % ",".join("'%s'" % text.replace("'", "''") for text in texts)
    each(
        t,
        "L-R02 separators",
        "create table s (a text, b text, v int, primary key (a, b)); create table y (a bytea, b bytea, v int, primary key (a,"
        " b));create table m (a text, b int, c text, v int, primary key (a, b, c));"
        "insert into s select a, b, 0 from unnest(%s) a, unnest(%s) b; insert into y select a, b, 0 from"
        " unnest(array['', '\\x00', '\\x0000', '\\x0001', '\\x01', '\\x7c', '\\x00000000']::bytea[]) a,"
        " unnest(array['', '\\x00', '\\x0000', '\\x0001', '\\x01', '\\x7c', '\\x00000000']::bytea[]) b;"
        "insert into m select a, b, c, 0 from unnest(array['', '1', '1|', '|1', '11']) a, unnest(array[1, 11, -1]) b,"
        " unnest(array['', '1', '1|', '|1', '11']) c;" % (array, array),
        ("s", "y", "m"),
        (
            "one of each pair",
            "update s set v = 1 where a = 'a|b' and b = 'c'; delete from s where a = 'a' and b = 'b,c'; update s set v = 2"
            " where a = '' and b = '|'; delete from s where a = '|' and b = ''; delete from y where a = '' and b = '\\x00';"
            "update y set v = 1 where a = '\\x00' and b = ''; update m set v = 1 where a = '1' and b = 11 and c = '';"
            "delete from m where a = '11' and b = 1 and c = ''",
        ),
        (
            "every second",
            "update s set v = x.n from (select a, b, row_number() over (order by a collate \"C\", b collate \"C\") n from s)"
            " x where x.a = s.a and x.b = s.b and n % 2 = 0; update y set v = length(a) * 100 + length(b) + 7 where"
            " length(a) <> length(b); update m set v = b where a < c",
        ),
        ("keys with separators moved", "update s set a = a || '|x', b = 'x|' || b; delete from s where v = 0"),
        ("and again", "update s set b = b || chr(31) || 'z', v = v + 1; update y set b = b || '\\xff00' where v = 0"),
        forms=(V2, V3),
    )


def case_key_reuse(t):
    """L-R03 a key that is used again after its delete, in one batch."""
    each(
        t,
        "L-R03 key reuse",
        ROWS,
        ("t",),
        ("in one transaction", "begin; delete from t where id <= 20; insert into t (id, n) select i, 1 from"
         " generate_series(1, 20) i; commit"),
        ("in two of one commit", "delete from t where id <= 20; insert into t (id, n, big) select i, 2, 'two' from"
         " generate_series(1, 20, 2) i; update t set n = 3 where id < 10"),
        ("all of them", "delete from t; insert into t (id, n, p) select i, 4, 'again' from generate_series(1, 120) i"),
        ("after truncate", "truncate t; insert into t (id, n) select i, 5 from generate_series(1, 50) i; delete from t where id"
         " = 7; insert into t (id, n) values (7, 6)"),
    )


def case_many_changes_of_a_key(t):
    """L-R04 update, delete and insert of one key in one commit: the last one wins, once."""
    one = (
        "update t set n = n + 1 where id = {0}; delete from t where id = {0}; insert into t (id, n, big) values ({0}, 10,"
        " 'new'); update t set n = n * 2 where id = {0}; {1}"
    )
    each(
        t,
        "L-R04 one key",
        ROWS,
        ("t",),
        ("in one transaction", "begin; %s commit" % one.format(1, "")),
        ("in many", one.format(2, "") + one.format(2, "delete from t where id = 2;") + one.format(3, "")),
        ("ending in a delete", "begin; %s commit" % one.format(4, "delete from t where id = 4;")),
        ("new and gone", "begin; insert into t (id) values (900); update t set n = 1 where id = 900; delete from t where id ="
         " 900; commit; insert into t (id) values (901); delete from t where id = 901; insert into t (id) values (901)"),
        (
            "a thousand times",
            "do $$ begin for i in 1..300 loop delete from t where id = 5; insert into t (id, n) values (5, i); update t set"
            " n = -i where id = 5; update t set id = 905 where id = 5; update t set id = 5 where id = 905; end loop; end $$;",
        ),
    )


def case_partition_moves(t):
    """L-R05 updates that move a row to another partition leave the old row alive (review of OLake's index, #1064)."""
    each(
        t,
        "L-R05 partition move",
        ROWS,
        ("t",),
        ("one row", "update t set p = 'p4', created_at = '2026-03-01 00:00+00' where id = 5"),
        ("there and back", "update t set p = 'q' where id = 6; update t set p = 'p1' where id = 6; update t set p = 'r' where"
         " id = 7; update t set p = 's' where id = 7; update t set p = 't' where id = 7"),
        ("into null and out", "update t set p = null, created_at = null where id % 10 = 1; update t set p = 'out' where id ="
         " 11"),
        ("all rows", "update t set p = 'p' || (id + 1) % 5, created_at = created_at + interval '3 days'"),
        ("with their keys", "update t set id = id + 1000, p = 'moved' where id % 3 = 0; delete from t where p = 'p2'"),
        ("and deleted after", "update t set p = 'last' where id % 2 = 0; delete from t where p = 'last' and id % 4 = 0"),
        forms=(("v2 p", "format=v2&partition=p"), ("v3 day p", "format=v3&partition=day(created_at),bucket(3,p)")),
    )


# ---- TOAST ----


def case_toast_in_window(t):
    """L-R06 unchanged TOAST while the snapshot is being read: dropping a snapshot row for a streamed update of its key loses
    the columns which that update leaves out (redpanda connect#4811, sequin#815, moonlink's type defaults)."""
    if not have_readers(t):
        return
    for what, options in (V2, V3_BUCKET):
        flow = LakeFlow(
            t,
            "L-R06 toast in the window " + what,
            ROWS + "insert into t select i, 0, 'q', null, case when i % 9 = 0 then repeat(md5(i::text), 80) end from"
            " generate_series(121, 5000) i; analyze",
            options,
            chunk_rows=1000,
            lanes=1,
        )
        act = (
            "update t set n = n + 1 where id % 7 = {0}; update t set id = id + 10000 where id % 91 = {0}; begin; update t set"
            " p = 'x' where id % 50 = {0}; update t set n = -n where id % 50 = {0}; commit; delete from t where id % 97 = {0};"
            " insert into t values (20000 + {0}, 1, 'in', now(), repeat('n', 4000)); update t set n = 2 where id = 20000 + {0}"
        )
        points = [("lane.after_begin", 1), ("lane.after_view", 1), ("lane.after_rows", 1), ("lane.after_rows", 3),
                  ("lane.before_end", 1), ("lane.after_join", 1), ("writer.before_seal", 1), ("iceberg.after_seal", 2)]
        met = stands_still(flow, [(point, nth, act.format(k)) for k, (point, nth) in enumerate(points)])
        flow.check("it was changed in the window", len(set(met) & {"lane.after_view", "lane.after_rows"}) == 2, met)
        settle(flow)
        flow.same("window", "t")


def case_toast_after_key_change(t):
    """L-R07 unchanged TOAST of a row whose key changed: the placeholder instead of the text (OLake's resolver gives up when
    the key changed)."""
    each(
        t,
        "L-R07 toast after key change",
        ROWS + "create table f (id int primary key, n int, big text); alter table f replica identity full; alter table f alter"
        " column big set storage external; insert into f select i, 0, repeat('f', 3000 + i) from generate_series(1, 50) i;",
        ("t", "f"),
        ("key", "update t set id = id + 1000 where id % 2 = 0; update f set id = id + 1000 where id % 2 = 0"),
        ("then another column", "update t set n = 1 where id > 1000; update f set n = 1 where id > 1000"),
        ("both in one commit", "update t set id = id + 1000 where id % 3 = 0; update t set n = 2 where id % 3 = 1; update t set"
         " id = -id where id % 5 = 0; update t set p = 'z' where id < 0; update f set id = -id"),
        ("inserted in that commit", "insert into t select i, 0, 'new', null, repeat('i', 5000) from generate_series(5000, 5020)"
         " i; update t set id = id + 1000 where id >= 5000; update t set n = 3 where id >= 6000"),
        ("key and text", "update t set id = id + 20000, big = repeat('k', 4000) where id % 4 = 0; update t set id = id + 20000;"
         " update t set big = null where id % 9 = 0; update t set id = id + 500000 where id % 18 = 0"),
    )


# ---- values ----


def case_numeric(t):
    """L-R08 numerics as doubles (OLake), NaN as 0 (Flink CDC), infinity untested: exact, or a clear stop with its cure."""
    each(
        t,
        "L-R08 numeric",
        "create table d (id int primary key, m numeric(38,10), u numeric, f float8, k numeric(20,4)); insert into d values"
        " (1, 9999999999999999999999999999.9999999999, 0.1, 'NaN', 0.1), (2, -0.0000000001, 'NaN', 'Infinity', -0.0001),"
        " (3, 12345678901234567890.1234567891, 'Infinity', '-Infinity', 9999999999999999.9999), (4, 0, '-Infinity', '-0', 0);",
        ("d",),
        (
            "stream",
            "update d set m = -m, k = -k; insert into d values (5, 0.1, 1e-40, 0.1, 0.3), (6, 90071992547409.9300000001,"
            " 9007199254740993, 9007199254740993, 9007199254740993); update d set u = u, m = m + 0.0000000001 where id = 2",
        ),
    )
    for kind, value in (("numeric(38,10)", "NaN"), ("timestamptz", "infinity"), ("date", "-infinity")):
        flow = LakeFlow(t, "L-R08 %s %s" % (kind, value), "create table d (id int primary key, v %s); insert into d (id) values"
                        " (1)" % kind, "format=v2")
        flow.once("snapshot is read")
        flow.sql("insert into d (id) values (2); insert into d values (3, '%s'); insert into d (id) values (4)" % value)
        said = flow.once("stops", 1, 'column "v"').stderr
        cure = re.search(r"cure: add the option text=(\S+),", said)
        flow.check("the cure", cure and cure.group(1).endswith("v"), said[-400:])
        again = LakeFlow(t, flow.label + " as text", database=flow.database, options="format=v2", text=["v"])
        again.once("is read")
        again.same("as text", "d")
        flow.sql("update d set id = id + 10; delete from d where id = 14")
        again.once("and followed")
        again.same("followed", "d")


def case_collations(t):
    """L-R09 string keys with commas and in collations whose order is not that of bytes: chunks by min and max skip or double
    rows (OLake: CONCAT_WS; DISTINCT alignment); keys that differ only in case are two rows, or one."""
    if not have_readers(t):
        return
    if t.server.value("select count(*) from pg_collation where collprovider = 'i'") == "0":
        t.skip("L-R09 collations", "this server has no ICU")
        return
    make = (
        "create collation ci (provider = icu, locale = 'und-u-ks-level2'); create collation ci_equal (provider = icu, locale ="
        " 'und-u-ks-level2', deterministic = false); create collation numbers (provider = icu, locale = 'en-u-kn-true');"
    )
    kinds = {"cs": "ci", "eq": "ci_equal", "nu": "numbers", "de": '"de-x-icu"'}
    for name, collation in kinds.items():
        make += (
            "create table %s (k text collate %s primary key, n int, big text); alter table %s alter big set storage external;"
            "insert into %s select k, 0, case when k ~ '1' then repeat('b', 2500) end from (select"
            " (array['a,', 'A,', 'ä', 'b', ',', 'Z,z', '', 'ß,'])[1 + i %% 8] || i / 4 as k from generate_series(0, 1600) i) x"
            " on conflict do nothing;" % (name, collation, name, name)
        )
    for what, options in (V2, V3) if LONG else (V2,):
        flow = LakeFlow(t, "L-R09 collations " + what, make + "analyze", options, chunk_rows=1000, lanes=2)
        flow.once("snapshot is read")
        flow.same("snapshot", *kinds, only=("DuckDB",))
        steps(
            flow,
            kinds,
            ("stream", "".join(
                "update {0} set n = 1 where k = 'A,5'; update {0} set n = n + 2 where k = 'a,5'; delete from {0} where k ="
                " 'A,9'; insert into {0} values ('a,9', 9) on conflict (k) do update set n = 10; update {0} set k = k || ','"
                " where k collate \"C\" like '%7'; update {0} set k = 'x' || k where k collate \"C\" like 'b2%';".format(name)
                for name in kinds)),
            ("equal keys", "insert into eq values ('KEY', 1), ('Straße', 1) on conflict (k) do update set n = 2; insert into eq"
             " values ('key', 5) on conflict (k) do update set n = 6; update eq set k = lower(k) where k = 'kEy'; update eq set"
             " n = n + 1 where k = 'KEY'; begin; delete from eq where k = 'STRASSE' or k = 'straße'; insert into eq values"
             " ('STRASSE', 3) on conflict do nothing; commit"),
            ("all keys in another case", "update eq set k = upper(k); update eq set n = n + 1 where k collate \"C\" like '%1'"),
        )
        flow.equal("in case only", len({row["k"] for row in flow.read("DuckDB", "cs") if row["k"] in ("s:612c35", "s:412c35")}),
                   int(flow.sql("select count(*) from cs where k in ('a,5', 'A,5')")[0][0]))


# ---- snapshots ----


def case_growing(t):
    """L-R10 a table that grows, moves and shrinks while its chunks are read (chunk lists made once miss what comes after)."""
    if not have_readers(t):
        return
    flow = LakeFlow(
        t,
        "L-R10 growing",
        ROWS + "insert into t select i, 0, 'q', null, null from generate_series(121, 8000) i; create table k (a int, b text);"
        " alter table k replica identity full; insert into k select i % 50, 'x' from generate_series(1, 3000) i; analyze",
        "format=v2",
        chunk_rows=1000,
        lanes=2,
    )
    act = (
        "insert into t select 100000 * ({0} + 1) + i, {0}, 'new', null, null from generate_series(1, 2000) i; insert into k"
        " select i % 9, 'grown' from generate_series(1, 500) i; update t set n = n + 1 where id % 5 = {0}; delete from t where"
        " id % 11 = {0}; insert into t (id, n) select -i - 1000 * {0}, 0 from generate_series(1, 300) i; update k set b = 'm'"
        " where a = {0}; delete from k where ctid in (select ctid from k where a = 7 limit 20)"
    )
    points = [("lane.after_begin", 1), ("lane.after_view", 1), ("lane.after_rows", 2), ("lane.after_rows", 4),
              ("lane.after_join", 1), ("writer.before_seal", 1), ("merge.after_barrier", 1), ("commit.before_commit", 1)]
    met = stands_still(flow, [(point, nth, act.format(k)) for k, (point, nth) in enumerate(points)])
    flow.check("it grew while it was read", len(met) >= 6, met)
    settle(flow)
    flow.same("grown", "t", "k")


def case_keyless(t):
    """L-R11 rows of a table without a key that are equal are rows of their own (OLake: keyed by a hash of the row)."""
    each(
        t,
        "L-R11 keyless duplicates",
        "create table k (a int, b text, c float8); alter table k replica identity full; insert into k select 1, 'same', 'NaN'"
        " from generate_series(1, 500); insert into k select null, null, null from generate_series(1, 50); insert into k"
        " values (1, 'same,NaN', null), (1, 'same', null);",
        ("k",),
        ("inserts", "insert into k select 1, 'same', 'NaN' from generate_series(1, 100); insert into k values (null, null,"
         " null)"),
        ("some of the equal ones", "delete from k where ctid in (select ctid from k where a = 1 limit 77); update k set b ="
         " 'other' where ctid in (select ctid from k where b = 'same' limit 33); delete from k where ctid in (select ctid from"
         " k where a is null limit 13)"),
        ("into equal ones", "update k set b = 'same', c = 'NaN', a = 1; delete from k where ctid in (select ctid from k limit"
         " 5); insert into k select * from k limit 40"),
        forms=(V2, V3),
    )


def case_never_analysed(t):
    """L-R12 relpages is 0 or far off (a table just restored; OLake cuts chunks by it): all rows are read."""
    if not have_readers(t):
        return
    flow = LakeFlow(
        t,
        "L-R12 relpages",
        "create table t (id int primary key, v text) with (autovacuum_enabled = false); insert into t select i, md5(i::text)"
        " from generate_series(1, 30000) i; create table k (a int, v text) with (autovacuum_enabled = false); alter table k"
        " replica identity full; insert into k select i % 100, 'k' from generate_series(1, 20000) i; create table w (id int"
        " primary key, v text) with (autovacuum_enabled = false); insert into w select i, 'w' from generate_series(1, 20000) i;"
        " vacuum analyze w; delete from w where id > 100; vacuum w; insert into w select i, 'less' from generate_series(101,"
        " 200) i;create table z (id int primary key, v text) with (autovacuum_enabled = false); vacuum analyze z; insert into"
        " z select i, 'z' from generate_series(1, 15000) i",
        "format=v2",
        chunk_rows=2000,
        lanes=2,
    )
    flow.equal("pages as told", flow.sql("select relname, relpages from pg_class where relname in ('t', 'k', 'z') order by 1"),
               [["k", "0"], ["t", "0"], ["z", "0"]])
    flow.once("snapshot is read")
    flow.same("snapshot", "t", "k", "w", "z", only=("DuckDB",))
    flow.sql("update t set v = 'u' where id % 1000 = 0; delete from z where id % 2 = 0; delete from k where a = 5")
    flow.once("changes are read")
    flow.same("changes", "t", "k", "w", "z")


def case_connection_loss(t):
    """L-R13 connections lost in the middle of a snapshot: the whole copy again, or "invalid snapshot identifier" for ever
    (PeerDB#1750, #2408; pgcopydb#659): goes on by itself, each row once."""
    if not have_readers(t):
        return
    flow = LakeFlow(
        t,
        "L-R13 connection loss",
        ROWS + "insert into t select i, 0, 'q', null, repeat('x', 50) from generate_series(121, 15000) i; create table k (a"
        " int, b text); alter table k replica identity full; insert into k select i % 50, 'x' from generate_series(1, 15000)"
        " i; analyze",
        "format=v2",
        chunk_rows=2000,
        lanes=2,
    )
    ended = []

    def lose(which):
        ended.append(int(flow.sql("select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity where"
                                  " datname = current_database() and application_name like 'tailrace:%%:%s'" % which)[0][0]))
        flow.sql("update t set n = n + 1 where id % 7 = 3; insert into k values (1, 'lost')")

    met = stands_still(flow, [("lane.after_rows", 2, "lane"), ("lane.after_rows", 5, "%"), ("lane.after_join", 1, "%"),
                              ("lane.before_end", 3, "log"), ("iceberg.after_seal", 2, "%")], act=lose)
    flow.check("connections were ended", len(met) >= 4 and all(ended[:2]), (met, ended))
    settle(flow)
    flow.same("each row once", "t", "k")


def case_slot_again(t):
    """L-R28 a slot that was dropped, and made again by somebody, jumps over changes (supabase/etl#935): a clear stop, and no
    row that is wrong."""
    if not have_readers(t):
        return
    flow = LakeFlow(t, "L-R28 slot", ROWS, "format=v2")
    flow.once("snapshot is read")
    before, slot = flow.wanted("t"), "tailrace_" + flow.name
    flow.sql("select pg_drop_replication_slot('%s'); update t set n = 77; delete from t where id = 3" % slot)
    flow.once("gone: stops", 5, "cure:")
    flow.sql("select pg_create_logical_replication_slot('%s', 'pgoutput'); update t set n = 78 where id = 1" % slot)
    flow.once("made again: stops", 5, "cure:")
    flow.check("the lake is as it was", *before.compare(flow.read("DuckDB", "t")))
    flow.sql("select pg_drop_replication_slot('%s')" % slot)


# ---- commits ----

CHANGE = (
    "update t set n = n + 1 where id % 7 = {0} % 7; delete from t where id = {0} + 20; insert into t (id, n, big) values (1000"
    " + {0}, {0}, 'new'); update t set id = 2000 + {0} where id = 60 + {0}; update t set p = 'p' || {0} where id % 9 = {0} % 9"
)


def case_unknown_outcome(t):
    """L-R14 a commit whose outcome is not known, by an error after it and by a kill before and after it: nothing twice."""
    if not have_readers(t):
        return
    for what, options in (V2, V3_BUCKET):
        flow = LakeFlow(t, "L-R14 unknown outcome " + what, ROWS, options)
        flow.once("snapshot is read")
        for k, (point, action) in enumerate((("iceberg.after_commit", "error"), ("iceberg.after_commit", "kill"),
                                             ("iceberg.before_commit", "kill"), ("commit.after_commit", "kill"))):
            flow.sql(CHANGE.format(k + 1))
            job = t.tailrace("once", *flow.words(), state=flow.state, failpoints="%s=%s@1" % (point, action))
            result = job.run(60)
            flow.equal("%s %s" % (point, action), (result.code, point in job.failpoints_reached()[1]),
                       (0 if action == "error" else -9, True))
            flow.once("goes on")
            flow.same("%s %s" % (point, action), "t", only=("DuckDB",))
        flow.same("after all", "t")


POINTS = ("iceberg.before_stage", "iceberg.after_stage", "iceberg.after_seal", "commit.before_commit", "iceberg.before_settle",
          "iceberg.before_commit")


def between(t, number, form, command, points=POINTS):
    """A foreign commit while ours stands between its look at the index and the catalog's transaction: ours is made again
    upon it."""
    flow = LakeFlow(t, "%s %s" % (number, form[0]), ROWS, form[1])
    flow.once("snapshot is read")
    for k, point in enumerate(points):
        flow.sql(CHANGE.format(k + 1))
        met = stands_still(flow, [(point, 1, command)], "once", "", act=lambda words: foreign(flow, *words))
        flow.equal(point, (met, flow.job.wait(60)), ([point], 0))
        flow.equal(point + " is made again", "commit_conflict" in flow.job.stderr_text(), point != "iceberg.before_stage")
        flow.same(point, "t", only=("DuckDB",))
    flow.same("after all", "t")
    flow.nothing_lost("files")
    flow.sql(CHANGE.format(20))
    flow.once("goes on")
    flow.same("goes on", "t")


def case_compaction_within(t):
    """L-R15 a compaction between the check of the index and the commit (OLake #1064: the check is not made again at the
    commit; moonlink remaps only its own)."""
    if have_java(t):
        for form in (V2, V3_BUCKET):
            between(t, "L-R15 compaction within a commit", form, ("compact",), POINTS if form is V2 or LONG else POINTS[2::2])
        between(t, "L-R15 compaction that leaves deletes", ("v2 p", "format=v2&partition=p"), ("compact_files",), POINTS[2::3])


def case_compaction_between(t):
    """L-R16 compactions between our commits: rows are found where they are now, with the index and without."""
    if not have_java(t):
        return
    for what, options in (("v2 p", "format=v2&partition=p"), V3_BUCKET) + ((V2,) if LONG else ()):
        flow = LakeFlow(t, "L-R16 compaction " + what, ROWS + "create table k (a int, b text); alter table k replica identity"
                        " full; insert into k select i % 9, 'k' from generate_series(1, 90) i;", options)
        flow.once("snapshot is read")
        for k in range(1, 6):
            command = ("compact", "compact_files")[k % 2 if "v2" in what else 0]
            flow.sql(CHANGE.format(k) + "; delete from k where ctid in (select ctid from k where a = %d limit 3); update k set"
                     " b = 'u' where ctid in (select ctid from k where a = 7 limit 2)" % k)
            flow.once("changes %d" % k)
            foreign(flow, command)
            foreign(flow, command, table="public.k")
            flow.same("%s %d" % (command, k), "t", "k", only=("DuckDB",))
            if k == 4:
                foreign(flow, command)
                flow.state += "_lost"
        flow.sql(CHANGE.format(9) + "; update k set a = a + 1; update t set n = n + 100")
        flow.once("all change")
        flow.same("all", "t", "k")
        flow.nothing_lost("files")


def case_foreign_delete(t):
    """L-R17 somebody else deletes rows that we know: others are as they are; what cannot be told any more is a clear stop,
    never a default for the cells that the log leaves out (moonlink)."""
    if not have_java(t):
        return
    for what, options in (V2, V3_BUCKET):
        flow = LakeFlow(t, "L-R17 foreign delete " + what, ROWS, options)
        flow.once("snapshot is read")
        flow.sql(CHANGE.format(1))
        flow.once("changes")
        foreign(flow, "delete", "id", "5")
        foreign(flow, "delete", "id", "6")
        flow.sql(CHANGE.format(2) + "; delete from t where id = 5; update t set n = 1, big = 'whole' where id = 6")
        flow.once("its delete, and an update of the whole row")
        flow.same("follows", "t")
        flow.sql("update t set n = 5 where id = 10; update t set n = 6 where id = 12")
        met = stands_still(flow, [("iceberg.after_seal", 1, ("delete", "id", "10"))], "once", "",
                           act=lambda words: foreign(flow, *words))
        said = (flow.job.wait(60), "somebody else deleted it" in flow.job.stderr_text(), met)
        flow.equal("stops", said, (1, True, ["iceberg.after_seal"]))
        flow.once("stops again", 1, "cure:")
        rows = {row["id"]: row["n"] for row in flow.read("DuckDB", "t")}
        flow.equal("and nothing of it is in the lake", ("10" in rows, rows.get("12") != "6"), (False, True))
    flow = LakeFlow(t, "L-R17 keyless", "create table t (a int, b text); alter table t replica identity full; insert into t"
                    " select i, 'b' from generate_series(1, 20) i", "format=v2")
    flow.once("snapshot is read")
    foreign(flow, "delete", "a", "5")
    flow.sql("update t set b = 'c' where a = 6")
    flow.once("another row")
    flow.sql("delete from t where a = 5")
    flow.once("stops", 1, "somebody else")


def count_at(flow, snapshot, where):
    url = flow.lake.tables()["public.t"]
    return len(readers().ask(do="rows", reader="DuckDB", metadata=url, snapshot=snapshot, where=where))


def case_large_delete(t):
    """L-R18 a DELETE of 91,000 rows (split over many commits by others, seen half done): one transaction is one commit;
    ninety-one transactions are several, each of whole ones."""
    if not have_readers(t):
        return
    fill = "insert into t select i, 0 from generate_series(0, 99999) i;"
    flow = LakeFlow(t, "L-R18 large delete", "create table t (id int primary key, n int);" + fill, "format=v3&freshness=1s")
    flow.run()
    first = flow.lake.metadata("public.t")["current-snapshot-id"]
    flow.sql("delete from t where id < 91000")
    flow.sql(fill.replace("99999", "90999"))
    flow.sql("update t set n = 1 where id % 100 = 7")
    with flow.server.session(flow.database) as session:
        for k in range(91):
            if k % 30 == 29:
                seq = flow.lake.commit()[1]
                wait_until(lambda: flow.lake.commit()[1] > seq or not flow.job.running(), 30, "a commit")
            session.execute("delete from t where id between %d and %d" % (1000 * k, 1000 * k + 999))
    flow.stop()
    flow.once("catches up")
    seen, halves = [], []
    for snapshot in [s["snapshot-id"] for s in flow.lake.snapshots("public.t")]:
        if seen or snapshot == first:
            low, high = (count_at(flow, snapshot, "id %% 1000 = %d" % rest) for rest in (0, 999))
            seen.append(low)
            if low != high:
                halves.append((snapshot, low, high))
    flow.equal("no half transaction", halves, [])
    flow.check("several commits", len(set(seen)) >= 4, seen)
    flow.same("large delete", "t")


def case_disk_full_in_spool(t):
    """L-R21 the disk of held rows is full while a snapshot is read: it goes on, and each row is there once."""
    if not have_readers(t):
        return
    disk = small_disk(4 << 20)
    if disk is None:
        t.skip("L-R21 disk full in spool", "no small file system can be mounted here")
        return
    flow = LakeFlow(
        t,
        "L-R21 disk full in spool",
        "create table t (id int primary key, n int, big text); alter table t alter big set storage external; insert into t"
        " select i, 0, repeat('b', 1500) from generate_series(1, 3000) i; analyze",
        "format=v2&freshness=1s",
        chunk_rows=1000,
        lanes=1,
    )
    flow.state = os.path.join(disk, "state")
    source, sink = flow.words()
    job = flow.job = t.tailrace("run", "--memory", "64MiB", source, sink, state=flow.state,
                                failpoints="lane.after_rows=sleep(6000)@2")
    job.start()
    wait_until(lambda: "lane.after_rows" in job.failpoints_reached()[1] or not job.running(), 30, "a lane that sleeps")
    filler = fill_disk(disk)
    os.truncate(filler, os.path.getsize(filler) - (1 << 20))
    with flow.server.session(flow.database) as session:
        for k in range(20):
            session.execute("update t set n = %d, big = repeat('%d', 1500) where id %% 2 = %d" % (k, k, k % 2))
    wait_until(lambda: "spill_disk_full" in job.stderr_text() or flow.lake.consistent() or not job.running(), 60, "a full disk")
    flow.check("the disk was full", "spill_disk_full" in job.stderr_text(), job.stderr_text()[-700:])
    wait_until(lambda: flow.lake.consistent() or not job.running(), 90, "a consistent commit")
    flow.check("it goes on", job.running(), job.stderr_text()[-700:])
    os.unlink(filler)
    flow.stop()
    flow.once("catches up")
    flow.same("each row once", "t")


# ---- definitions ----


def case_enum_key(t):
    """L-R19 enum primary keys crash the backfill (sequin#2149); bit columns and keys are refused (ingestr)."""
    each(
        t,
        "L-R19 enum key",
        "create type mood as enum ('sad', 'ok', 'a,b', 'happy'); create table e (m mood primary key, n int); insert into e"
        " values ('sad', 1), ('ok', 2), ('a,b', 3); create table p (m mood, id int, n int, big text, primary key (m, id));"
        " alter table p alter big set storage external; insert into p select (array['sad', 'ok', 'happy'])[1 + i % 3]::mood,"
        " i, 0, repeat('b', 2500) from generate_series(1, 1500) i; create table b (k bit(4), v varbit, n int, primary key (k,"
        " v)); insert into b values ('0001', '1', 1), ('0001', '01', 2), ('1000', '', 3);",
        ("e", "p", "b"),
        (
            "stream",
            "update e set m = 'happy' where m = 'ok'; delete from e where m = 'sad'; insert into e values ('ok', 5); update p"
            " set n = 1 where m = 'ok'; update p set m = 'sad' where id % 10 = 1; delete from p where m = 'happy' and id % 7 ="
            " 0; update b set n = 9 where v = '01'; delete from b where v = '1'; update b set k = '1111' where k = '1000'",
        ),
        (
            "a label is added",
            "alter type mood add value 'new' before 'ok'; insert into e values ('new', 7); update p set m = 'new' where id % 5"
            " = 0; update p set n = n + 1 where m = 'new'",
        ),
        chunk_rows=1000,
    )


def case_definitions_in_transaction(t):
    """L-R20 a table's definition changes inside a large transaction: rows before and after it, each by its own."""
    each(
        t,
        "L-R20 DDL in a transaction",
        ROWS,
        ("t",),
        (
            "large",
            "begin; insert into t (id, n, p) select i, 1, 'before' from generate_series(1001, 9000) i; alter table t add column"
            " c int default 7; insert into t (id, n, p, c) select i, 2, 'with', i from generate_series(9001, 12000) i; update"
            " t set n = -1 where id % 50 = 0; alter table t drop column p; update t set c = 8 where id % 70 = 0; alter table t"
            " alter column n type bigint; update t set n = 5000000000 + id where id % 90 = 0; delete from t where id % 13 = 0;"
            " alter table t add column p text; update t set p = 'again' where id % 40 = 0; insert into t (id, p) values (20000,"
            " 'after'); commit",
        ),
        ("rolled back", "begin; alter table t add column never int; update t set never = 1 where id = 1; rollback; begin;"
         " savepoint a; alter table t drop column c; update t set n = 2 where id = 2; rollback to a; update t set c = 99 where"
         " id = 3; commit"),
    )


def case_definitions_and_kills(t):
    """L-R26 a definition that was applied to the target before the commit is applied again after a crash, and fails there
    (Flink CDC: AddColumnEvent is already existed)."""
    if not have_readers(t):
        return
    flow = LakeFlow(t, "L-R26 definition and crash", ROWS, "format=v2&partition=bucket(4,id)")
    flow.once("snapshot is read")
    points = ("commit.before_apply_schema", "commit.before_commit", "iceberg.after_seal", "iceberg.before_settle",
              "iceberg.before_commit", "iceberg.after_commit", "commit.after_commit")
    for k, point in enumerate(points):
        flow.sql(CHANGE.format(k) + "; alter table t add column c%d int default %d; update t set c%d = -1 where id %% 9 = %d;"
                 % (k, k, k, k) + ("alter table t drop column c%d; update t set n = 0 where id = 1" % (k - 2) if k >= 2 else ""))
        job = t.tailrace("once", *flow.words(), state=flow.state, failpoints=point + "=kill@1")
        flow.equal("killed at " + point, (job.run(60).code, point in job.failpoints_reached()[1]), (-9, True))
        flow.once("goes on")
        flow.same(point, "t", only=("DuckDB",))
    flow.same("after all", "t")


def case_dedupe_after_evolution(t):
    """L-R22 updates after a schema change double the rows from before it (OLake#788): the key's type, its columns' order,
    columns beside it."""
    each(
        t,
        "L-R22 dedupe after evolution",
        ROWS + "create table c (a int, b text, v int, primary key (a, b)); insert into c select i, 'b', 0 from"
        " generate_series(1, 50) i;",
        ("t", "c"),
        ("a column", "alter table t add column c text; update t set n = 1 where id <= 30; update t set c = 'c' where id = 40"),
        ("a wider key", "alter table t alter id type bigint; alter table c alter a type bigint; update t set n = 2 where id %"
         " 2 = 0; update c set v = 1 where a % 2 = 0; delete from t where id = 3; insert into t (id, n) values (3, 3),"
         " (5000000000, 1)"),
        ("a column goes", "alter table t drop column c, drop column p; update t set n = 4 where id % 3 = 0; update t set id ="
         " id + 300 where id % 5 = 0; insert into t (id, n) values (5, 5); delete from c where a = 7"),
        ("all again", "update t set n = n + 1; update c set v = v + 1; update c set b = 'moved' where a < 10"),
        forms=(V2, V3),
    )


def case_partition_evolution(t):
    """L-R23 updates after a change of schema and of partition write to the wrong partition or leave rows (OLake#350); the
    partition is changed by another program."""
    if not have_java(t):
        return
    for what, options in (("v2 day", "format=v2&partition=day(created_at)"), ("v3 bucket", "format=v3&partition=bucket(4,id)")):
        flow = LakeFlow(t, "L-R23 partition evolution " + what, ROWS, options)
        flow.once("snapshot is read")
        steps(flow, ("t",), ("after a schema change", "alter table t add column c int; update t set c = id, created_at ="
                             " created_at + interval '40 days' where id % 3 = 0;" + CHANGE.format(1)))
        foreign(flow, "partition", "p")
        steps(flow, ("t",), ("after another partition", CHANGE.format(2) + "; update t set p = 'q' || id % 3 where id % 4 = 0"),
              ("all rows", "update t set n = n + 1; update t set p = 'all' where id % 2 = 0; delete from t where id % 11 = 0"))
        foreign(flow, "compact")
        steps(flow, ("t",), ("after compaction", "alter table t add column d text default 'd'; update t set p = 'last', n = 0"
                             " where id % 3 = 0; update t set id = id + 5000 where id % 7 = 0"))
        flow.nothing_lost("files")


def case_another_key(t):
    """L-R24 the key becomes other columns, by constraint and by replica identity (moonlink knows no change of them)."""
    each(
        t,
        "L-R24 another key",
        "create table t (id int not null, code text not null, n int, big text); alter table t add primary key (id); alter table"
        " t alter big set storage external; create unique index t_code on t (code); insert into t select i, 'c' || i, 0,"
        " repeat('b', 3000) from generate_series(1, 60) i;",
        ("t",),
        ("by another index", "alter table t replica identity using index t_code; update t set n = 1 where id % 2 = 0; update t"
         " set code = 'x' || code where id % 3 = 0; update t set id = id + 1000 where id % 5 = 0; delete from t where id = 7"),
        ("by another primary key", "alter table t drop constraint t_pkey; alter table t add primary key (code, id); alter table"
         " t replica identity default; update t set id = id + 2000, n = 2 where id % 4 = 0; insert into t values (9001, 'c900',"
         " 9, null), (9002, 'c901', 9, null); delete from t where id = 11"),
        ("back", "delete from t where code in ('c900', 'c901') or id > 1000; alter table t drop constraint t_pkey; alter table t"
         " add primary key (id); update t set code = 'y' || id where id % 2 = 1; update t set n = n + 1"),
        ("full", "alter table t replica identity full; update t set n = 8 where id % 3 = 1; update t set id = -id where id % 2"
         " = 1; delete from t where id = -13"),
    )


def case_rows_of_the_old_key(t):
    """L-R25 changes that were logged under the old key and are read when the table has another, under which they would be
    changes of other rows: while the job runs, while it does not, and with rows that say nothing of a key."""
    make = (
        "create table t (id int not null, code text not null, n int, primary key (code, id)); %s insert into t values"
        " (1, 'c900', 9), (2, 'c901', 9), (3, 'c902', 9); insert into t select i, 'c' || i, 0 from generate_series(1, 60) i"
    )
    change = (
        "update t set n = n + 1 where id = 4; delete from t where code in ('c900', 'c901', 'c902'); insert into t values (5,"
        " 'again', 7); delete from t where code = 'c5'; alter table t drop constraint t_pkey, add primary key (id);"
        " update t set n = n + 1 where id between 5 and 9; update t set id = id + 100, code = 'moved' || id where id > 50"
    )
    for what, identity in (("key", ""), ("full", "alter table t replica identity full;")):
        for live in (False, True):
            label = "L-R25 %s %s" % (what, "running" if live else "stopped")
            flow = LakeFlow(t, label, make % identity, "format=v2&freshness=1s")
            if live:
                flow.run()
            else:
                flow.once("snapshot is read")
            flow.sql(change)
            flow.stop()
            flow.once("changes are read")
            flow.same("rows of the old key", "t")
            flow.sql("update t set n = n - 1 where id % 3 = 0; delete from t where id = 8; insert into t values (8, 'c8', 1)")
            flow.once("more changes")
            flow.same("after it", "t")
    flow = LakeFlow(
        t,
        "L-R25 keyless",
        "create table t (id int not null, code text); alter table t replica identity full; insert into t values (1, 'a'),"
        " (1, 'b'), (1, 'a'), (2, 'c')",
        "format=v3",
    )
    flow.once("snapshot is read")
    flow.sql(
        "insert into t values (2, 'd'), (3, 'e'), (3, 'e'); delete from t where code in ('b', 'c'); delete from t where ctid"
        " in (select max(ctid) from t where id in (1, 3) group by id); alter table t add primary key (id); update t set"
        " code = code || '!'"
    )
    flow.once("changes are read")
    flow.same("it got a key", "t")
