"""Data files that are sorted (sort=): each file that says so is, as pyarrow reads it; and rows are the server's after many
commits, kills, big snapshots in little memory and changes of the columns that files are sorted by."""

import random
import time

from lake import FORMATS, LakeFlow, have_readers, seconds
from lake_readers import readers
from test_lake_changes import Changes, TABLES, many_commits

FAST = False
TIMEOUT = seconds(300)
SORT = "&sort=note+desc+nulls+first,created_at,v,b%20nulls%20last"
KEYLESS = (
    "create table k (a int, b text); alter table k replica identity full;"
    "insert into k select i % 40, 'b' || i % 7 from generate_series(1, 500) i;"
)
CHANGE_KEYLESS = (
    "insert into k select i, 'new' from generate_series({0}, {0} + 9) i;"
    "update k set a = a + 1 where ctid in (select ctid from k where a % 5 = {0} % 5 limit 20);"
    "delete from k where ctid in (select ctid from k order by a limit 3)"
)
COLUMNS = {
    "bool": "i % 2 = 0",
    "int2": "(i * 7919) % 60000 - 30000",
    "int4": "((i * 7919) % 100 - 50) * 40000000",
    "int8": "((i * 7919) % 100 - 50) * 90000000000000000",
    "float4": "(array[0, '-0', 'NaN', '-infinity', 'infinity', i * -1.5, i])[1 + i % 7]",
    "float8": "(array[0, '-0', 'NaN', '-infinity', 'infinity', i * -1.5, i * 1e100])[1 + i % 7]",
    "numeric(9,2)": "(i % 300) * 1.25 - 150",
    "numeric(38,10)": "((i * 7919) % 200 - 100) * 12345678901234567890.5",
    "date": "date '1970-01-01' + (i * 7919) % 90000 - 45000",
    "time": "time '00:00' + i * interval '7919 seconds'",
    "timestamp": "timestamp '1970-01-01' + ((i * 7919) % 1000 - 500) * interval '7 hours 1.000001 seconds'",
    "timestamptz": "timestamptz '1970-01-01' + ((i * 7919) % 1000 - 500) * interval '7 hours 1.000001 seconds'",
    "text": "(array['', 'a', 'b', 'aa', 'é', 'zz', '🦝', '気'])[1 + i % 8] || (i % 9)",
    "bytea": "substr(decode(md5(i::text), 'hex'), 1, i % 5)",
    "uuid": "md5(i::text)::uuid",
}


def files_sorted(flow, table):
    """[marked, unmarked] files of the table; a check that each marked one is sorted."""
    marked, unmarked, wrong = readers().ask(do="sorted", metadata=flow.lake.tables()["public." + table])
    flow.equal("%s: files that say they are sorted" % table, wrong[:2], [])
    return [marked, unmarked]


def all_sorted(flow, *tables):
    for table in tables:
        marked, unmarked = files_sorted(flow, table)
        flow.check("%s: files are marked" % table, marked > 0 and unmarked == 0, (marked, unmarked))


def histories(t, number, form):
    what, options = FORMATS[form]
    flow = many_commits(t, "%s %s sorted" % (number, what), options + SORT, 30)
    if flow:
        all_sorted(flow, "t", "u", "f")


def case_v2(t):
    histories(t, "LO1", 0)


def case_v3_partitioned(t):
    histories(t, "LO1", 3)


def case_types(t):
    """Columns of each type, with nulls, either way; each table is sorted by its own."""
    if not have_readers(t):
        return
    fill = "create table {0} (id int primary key, c {1}); insert into {0} select i, case when i % 11 > 0 then ({2})::{1} end"
    fill += " from generate_series(1, 900) i;"
    names = {"c_" + kind.split("(")[0] + kind[-3:-2].strip("(,"): kind for kind in COLUMNS}
    sql = "".join(fill.format(name, kind, COLUMNS[kind]) for name, kind in names.items())
    for number, words in enumerate(("c,id+desc", "c+desc", "c+nulls+last", "c+desc+nulls+first")):
        flow = LakeFlow(t, "LO2 %s" % words, sql, "format=v%d&sort=%s" % (2 + number % 2, words))
        flow.once("snapshot is read")
        flow.sql("".join("update %s set id = -id where id %% 3 = 0; delete from %s where id = 7;" % (n, n) for n in names))
        flow.once("changes are read")
        all_sorted(flow, *names)
        if number == 0:
            flow.same("rows", *names)


def case_kills(t):
    """kill -9 while it commits each second, several times: tables with and without key."""
    if not have_readers(t):
        return
    for what, options in (FORMATS[1], FORMATS[2]):
        flow = LakeFlow(t, "LO3 %s" % what, TABLES + KEYLESS, options + "&freshness=1s" + SORT + ",a")
        changes, draw = Changes("kills " + what), random.Random(what)
        flow.run()
        session = flow.server.session(flow.database)
        for kill in range(6):
            end = time.monotonic() + draw.random() * 2.5
            while time.monotonic() < end:
                session.execute(changes.transactions(4) + CHANGE_KEYLESS.format(changes.fresh()))
            flow.job.kill()
            if kill < 5:
                flow.start()
        flow.once("after six kills")
        flow.same("after six kills", "t", "u", "f", "k")
        all_sorted(flow, "t", "u", "f", "k")
        flow.nothing_lost("files")


def case_soft_deletes(t):
    if not have_readers(t):
        return
    make = "create table s (id int primary key, c text, big text); alter table s alter column big set storage external;"
    make += "insert into s select i, 'c' || i % 20, repeat('x', 3000) from generate_series(1, 400) i;"
    flow = LakeFlow(t, "LO4", make + KEYLESS, "deletes=soft&sort=c,a+desc,b")
    flow.once("snapshot is read")
    for step in range(1, 5):
        flow.sql(
            "update s set c = c || 'u' where id % 7 = {0}; delete from s where id % 9 = {0}; insert into s values (9 * 200 +"
            " {0}, 'back', 'y'); update s set c = 'again' where id = 9 * 200 + {0};".format(step) + CHANGE_KEYLESS.format(step)
        )
        flow.once("changes %d are read" % step)
    for table in ("s", "k"):
        rows = [r for r in flow.read("DuckDB", table) if r["_tailrace_deleted"] == "false"]
        flow.check(table + " rows", *flow.wanted(table).compare(rows, ("_tailrace_deleted",)))
    all_sorted(flow, "s", "k")


def case_little_memory(t):
    """A snapshot whose files are sorted in runs that are spilled and merged, then changes of all of it."""
    if not have_readers(t):
        return
    make = "create table t (id int primary key, r text, v int); insert into t select i, md5(i::text) || repeat('p', 500), i"
    flow = LakeFlow(t, "LO5", make + " from generate_series(1, 40000) i", "sort=r,id+desc")
    job = t.tailrace("once", *flow.words(), "--memory", "64MiB", state=flow.state)
    result = job.run(200)
    flow.check("snapshot in 64 MiB", result.code == 0, result.stderr[-900:])
    all_sorted(flow, "t")
    flow.sql("update t set v = -v where id % 3 = 0; update t set r = md5(r) where id % 5 = 0; delete from t where id % 7 = 0")
    flow.check("changes in 64 MiB", t.tailrace("once", *flow.words(), "--memory", "64MiB", state=flow.state).run(200).code == 0)
    flow.same("rows", "t", only=["DuckDB"])
    all_sorted(flow, "t")


def case_columns(t):
    """The columns that files are sorted by become wider, get another name, go."""
    if not have_readers(t):
        return
    make = "create table t (id int primary key, a int, b text); insert into t select i, i * 31 % 100, 'b' || i % 9 from"
    flow = LakeFlow(t, "LO6", make + " generate_series(1, 300) i", "sort=a+desc,b")
    more = "insert into t (id) select i from generate_series({0}, {0} + 50) i; update t set b = 'c' || id where id % 10 = {1}"
    flow.once("snapshot is read")
    wider = "alter table t alter column a type bigint; update t set a = 5000000000 + id where id % 4 = 0; "
    flow.sql(wider + more.format(400, 1))
    flow.once("wider")
    all_sorted(flow, "t")
    flow.equal("wider: the default order", flow.lake.metadata("public.t")["default-sort-order-id"], 1)
    before = files_sorted(flow, "t")
    flow.sql("alter table t drop column b; update t set a = -id where id % 3 = 0")
    flow.once("a column goes")
    flow.same("a column goes", "t")
    flow.equal("then no order is the default", flow.lake.metadata("public.t")["default-sort-order-id"], 0)
    after = files_sorted(flow, "t")
    flow.check("and files are not marked", after[1] > before[1] == 0, (before, after))
    flow.sql("update t set a = 1 where id % 2 = 0")
    flow.once("later")
    flow.same("later", "t")


def case_refused(t):
    """What is no order is said at the start, with what to write; a column of lists when its table is made."""
    make = "create table t (id int primary key, l int[]); insert into t values (1, '{1}')"
    for words, says in (
        ("id+down", "after a column comes a comma"),
        ("day(id)", "by columns as they are"),
        ("id+nulls", "first or last"),
        ("l", "holds lists"),
    ):
        flow = LakeFlow(t, "LO7 %s" % words, make, "sort=" + words)
        result = t.tailrace("once", *flow.words(), state=flow.state).run(60)
        good = result.code == 2 and says in result.stderr and "sort=" in result.stderr
        flow.check("is refused", good, "exit %s: %s" % (result.code, result.stderr[-500:]))
        flow.equal("no table", sorted(flow.lake.tables()), [])
    flow = LakeFlow(t, "LO7 as text", make, "sort=l,elsewhere&text=l")
    flow.once("lists as text")
