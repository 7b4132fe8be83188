"""The lake follows the source's schema: columns added, dropped, renamed, widened; defaults; types that Iceberg cannot change;
tables that are emptied, made again, added, or have no key."""

import json
import random
import time

from harness import wait_until
from lake import LakeFlow, have_readers, seconds
from lake_readers import readers

FAST = False
TIMEOUT = seconds(300)

MAKE = (
    "create table t (id int primary key, created_at timestamptz default '2026-01-02 03:04:05+00', a int, b text, big"
    " text);alter table t alter column big set storage external;insert into t select i, '1969-12-31'::timestamptz + i *"
    " interval '6 hours', i, 'b' || i, repeat('z', 5000) from generate_series(1, 60) i;"
)
CHANGE = (
    "update t set a = a + 1 where id % 3 = 0; delete from t where id % 10 = {0}; insert into t (id, a) values (1000 + {0},"
    " {0});"
)
FORMS = (("v2 bucket", "format=v2&partition=bucket(4,id)"), ("v3 day", "format=v3&partition=day(created_at)"))


def each(t, number, act):
    if not have_readers(t):
        return
    for what, options in FORMS:
        flow = LakeFlow(t, "%s %s" % (number, what), MAKE, options)
        flow.once("snapshot is read")
        act(flow)


def steps(flow, *wanted):
    """SQL, then `once`, then the readers; before and after each there are changes."""
    for at, (what, sql) in enumerate(wanted):
        flow.sql(CHANGE.format(at * 2 + 1) + sql + ";" + CHANGE.format(at * 2 + 2))
        flow.once(what)
        flow.same(what, "t")


def ids(flow, table="public.t"):
    metadata = flow.lake.metadata(table)
    schema = [s for s in metadata["schemas"] if s["schema-id"] == metadata["current-schema-id"]][0]
    return {f["name"]: f["id"] for f in schema["fields"]}


def case_columns(t):
    """Add, drop, add again under the same name, rename, widen."""

    def act(flow):
        first = ids(flow)
        steps(
            flow,
            ("add", "alter table t add column c text; update t set c = 'c' || id where id % 2 = 0"),
            ("drop", "alter table t drop column c"),
            ("add again", "alter table t add column c text; update t set c = 'again' where id % 4 = 0"),
            ("widen", "alter table t alter column a type bigint; update t set a = 5000000000 where id = 2"),
            (
                "add with values",
                "alter table t add column d numeric(10,2), add column e int[]; update t set d = id * 1.5, e = array[id]",
            ),
            ("drop two", "alter table t drop column d, drop column b"),
        )
        now = ids(flow)
        flow.equal(
            "kept ids",
            {n: now[n] for n in ("id", "created_at", "a", "big")},
            {n: first[n] for n in ("id", "created_at", "a", "big")},
        )
        flow.check("no id twice", now["c"] > max(first.values()), now)

    each(t, "LS1", act)


def case_partition_column(t):
    """A column that the table is partitioned by is dropped, and comes back."""
    if not have_readers(t):
        return
    for what, options in (
        ("v2 day", "format=v2&partition=day(created_at)"),
        ("v3 both", "format=v3&partition=bucket(4,a),day(created_at)"),
    ):
        flow = LakeFlow(t, "LS10 " + what, MAKE, options)
        flow.once("snapshot is read")
        flow.sql(CHANGE.format(1) + "alter table t drop column created_at;" + CHANGE.format(2))
        flow.once("dropped")
        flow.same("dropped", "t", kept=("created_at",))
        flow.sql(
            "alter table t alter column a type bigint; update t set a = 5000000000 where id = 6; delete from t where id = 7"
        )
        flow.once("widened")
        flow.same("widened", "t", kept=("created_at",))


def case_rename(t):
    """A rename is a column that went and one that came: the rows keep their values."""
    each(
        t,
        "LS2",
        lambda flow: steps(
            flow,
            ("rename", "alter table t rename column b to renamed"),
            ("rename back", "alter table t rename column renamed to b"),
        ),
    )


def case_default(t):
    """A column added with a default has its value in rows that no log entry touches; a volatile one rewrites the table."""
    each(
        t,
        "LS3",
        lambda flow: steps(
            flow,
            ("constant default", "alter table t add column c int default 7"),
            ("not null default", "alter table t add column d text not null default 'déf'"),
            ("volatile default", "alter table t add column e text default md5(random()::text)"),
        ),
    )


DEFAULTED = (  # of types whose values JSON can say: no row is read for them
    ("boolean", "true"),
    ("smallint", "-7"),
    ("integer", "2147483647"),
    ("bigint", "-9223372036854775808"),
    ("real", "0.1"),
    ("real", "-1e30"),
    ("double precision", "0.1"),
    ("double precision", "5"),
    ("double precision", "1.7976931348623157e308"),
    ("numeric(10,2)", "12.3"),
    ("numeric(38,10)", "-1234567890123456789012345678.0000000001"),
    ("numeric(5,0)", "77"),
    ("numeric", "1.500"),
    ("date", "'1969-12-31'"),
    ("date", "'9999-12-31'"),
    ("time", "'04:05:06.789'"),
    ("time", "'23:59:59.999999'"),
    ("timestamp", "'1969-12-31 23:59:59.999999'"),
    ("timestamp", "'2026-01-02 03:04:05'"),
    ("timestamptz", "'2026-01-02 03:04:05.000006+05:30'"),
    ("timestamptz", "now()"),
    ("text", "''"),
    ("text", "'a ' || chr(34) || 'quoted' || chr(34) || E' \\\\ line\\nbreak, d\u00e9f \U0001f600 {NULL}'"),
    ("text", "'NULL'"),
    ("varchar(10)", "'v'"),
    ("char(5)", "'c'"),
    ("uuid", "'00112233-4455-6677-8899-aabbccddeeff'"),
    ("bytea", "'\\x00ff80'"),
    ("bytea", "''"),
    ("mood", "'b c'"),
    ("plain", "8"),
    ("interval", "'1 month 2 days'"),
    ("timetz", "'04:05:06+02'"),
    ("jsonb", """'{"a": [1, "x"]}'"""),
    ("inet", "'10.0.0.0/8'"),
    ("bit(3)", "b'101'"),
)
READ_AGAIN = (  # what is not proven, or JSON cannot say
    ("volatile", "add column {0} text default md5(random()::text)"),
    ("a list", "add column {0} int[] default '{{1,2}}'"),
    ("NaN", "add column {0} double precision default 'NaN'"),
    ("a far year", "add column {0} date default '10000-01-01'"),
    ("a long text", "add column {0} text default repeat('x', 3000)"),
    ("rewritten since", "add column {0} int default 5; vacuum full t"),
    ("added twice", "add column {0} int default 5; alter table t drop column {0}; alter table t add column {0} int default 6"),
    ("a column less", "drop column {1}, add column {0} int default 5"),
    ("typed anew", "add column {0} int default 5; alter table t alter column {0} type bigint"),
)
KINDS = "create type mood as enum ('a', 'b c'); create domain plain as int; "
OLD_AND_NEW = (
    "update t set a = a + 1 where id % 3 = {0}; update t set b = 'b' where id = 50; delete from t where id = 10 + {0};"
    "insert into t (id, a) values (2000 + {0}, {0}); update t set id = 3000 + {0} where id = 20 + {0};"
    "delete from k where ctid in (select ctid from k where v = {0} limit 3); insert into k (v) values ({0});"
    "update k set v = v + 1 where ctid in (select ctid from k where v = {0} limit 2)"
)


def generation(flow, table):
    """How often the table was begun to be read."""
    oid = flow.server.value("select 'public.%s'::regclass::oid" % table, flow.database)
    [(position,)] = flow.lake.query("select position from tailrace_jobs where job = ?", flow.name)
    entries = json.loads(position)["tables"]["except"]
    return next((entry.get("gen", 1) for entry in entries if str(entry["id"]) == oid), 1)


def defaults(flow, table="public.t"):
    metadata = flow.lake.metadata(table)
    schema = [s for s in metadata["schemas"] if s["schema-id"] == metadata["current-schema-id"]][0]
    return {f["name"]: f["initial-default"] for f in schema["fields"] if "initial-default" in f}


def adding(table, columns):
    return "alter table %s %s" % (table, ", ".join("add column %s %s default %s" % column for column in columns))


KEYLESS = (
    "create table k (id int, v int); alter table k replica identity full;"
    "insert into k (v) select i % 4 from generate_series(1, 90) i;"
)


def case_initial_default(t):
    """Format v3: a column added with a default is told to the lake as the field's, where it is proven what old rows have in it;
    the table is not read again."""
    if not have_readers(t):
        return
    columns = [("d%d" % n, kind, value) for n, (kind, value) in enumerate(DEFAULTED)]
    for what, options in (("v3", "format=v3"), ("v3 bucket", "format=v3&partition=bucket(4,id)")):
        flow = LakeFlow(t, "LS13 " + what, KINDS + MAKE + KEYLESS, options)
        flow.once("snapshot is read")
        flow.sql(";".join((OLD_AND_NEW.format(0), adding("t", columns), adding("k", columns), OLD_AND_NEW.format(1))))
        flow.once("many types")
        flow.same("many types", "t", "k")
        flow.equal("many types: all are told", sorted(defaults(flow)), sorted(name for name, _kind, _value in columns))
        flow.sql(OLD_AND_NEW.format(2))
        flow.once("more of old rows")
        flow.same("more of old rows", "t", "k")
        flow.equal("not read again", (generation(flow, "t"), generation(flow, "k")), (1, 1))


def wrongly_filtered(flow):
    """Filters must not leave out files that lack the column."""
    wrong = []
    for where in ("c = 7", "c > 7", "c is null", "d = 'd\u00e9f' and f = 3", "e <> 1", "h = 9", "i = 10 and a > 0"):
        wanted = sorted(row[0] for row in flow.sql("select id from t where " + where))
        more = [name for name in readers().more if readers().more[name].holds(where) and not flow.refused(name, "t")]
        for reader in ["DuckDB", "PyIceberg"] + more:
            rows = readers().filtered(reader, flow.lake.tables()["public.t"], where)
            got = sorted(row["id"] for row in rows)
            wrong += [] if got == wanted else [(reader, where, len(got), len(wanted))]
    return wrong


def case_initial_default_steps(t):
    """The same column by column: several ALTERs between rows, another default later, nulls, one transaction with rows of both
    shapes, a new key of it, a column that comes back."""
    if not have_readers(t):
        return
    for what, options in (("v3", "format=v3"), ("v3 day soft", "format=v3&partition=day(created_at)&truncate=ignore")):
        flow = LakeFlow(t, "LS14 " + what, MAKE, options)
        flow.once("snapshot is read")
        steps(
            flow,
            ("constant", "alter table t add column c int default 7"),
            ("not null", "alter table t add column d text not null default 'd\u00e9f'"),
            ("two, and another default", "alter table t add column e int default 1; alter table t alter column e set default 2;"
             " alter table t add column f int default 3, add column g int"),
            ("another default later", "alter table t alter column c set default 8; alter table t alter column d drop not null"),
            ("in a transaction", "begin; update t set a = -a where id % 4 = 0; alter table t add column h int default 9; "
             "update t set h = id where id % 5 = 0; insert into t (id, h) values (4000, null); commit"),
            ("no row of it in the log", "alter table t add column i int default 10"),
        )
        flow.equal("told", defaults(flow), {"c": 7, "d": "d\u00e9f", "e": 1, "f": 3, "h": 9, "i": 10})
        flow.equal("not read again", generation(flow, "t"), 1)
        flow.equal("filters", wrongly_filtered(flow), [])
        flow.sql(CHANGE.format(5) + "alter table t drop column c, drop column i")
        flow.once("columns went")
        flow.sql(CHANGE.format(6))
        flow.once("rows without them")
        flow.sql("alter table t add column c int default 70;" + CHANGE.format(7))
        flow.once("one comes back")
        flow.same("one comes back", "t")
        flow.equal("as another one", defaults(flow).get("c"), 70)
        flow.equal("not read again even so", generation(flow, "t"), 1)
        flow.sql(
            "alter table t drop constraint t_pkey, add column j int not null default 11, add primary key (id, j);"
            "update t set j = 12 where id % 7 = 0; update t set a = 0 where id % 7 = 1; delete from t where id % 7 = 2"
        )
        flow.once("a key of it")
        flow.same("a key of it", "t")
        flow.equal("another key is read again", generation(flow, "t"), 2)


def case_initial_default_not(t):
    """Where it is not proven what old rows have, or format and JSON cannot say it, the table is read again."""
    if not have_readers(t):
        return
    flow = LakeFlow(t, "LS15 v3", MAKE, "format=v3")
    flow.once("snapshot is read")
    flow.sql("alter table t add column n int")
    for n, (what, sql) in enumerate(READ_AGAIN):
        before = generation(flow, "t")
        flow.sql(CHANGE.format(n) + "alter table t " + sql.format("c%d" % n, "n") + ";" + CHANGE.format(9 - n))
        flow.once(what)
        flow.same(what, "t")
        flow.equal(what + " is read again", generation(flow, "t"), before + 1)
    before = generation(flow, "t")
    flow.sql("alter table t add column r0 int default 5; alter table t rename column r0 to r;" + CHANGE.format(1))
    flow.once("renamed before it was seen")
    flow.same("renamed before it was seen", "t")
    flow.equal("it is proven", (generation(flow, "t"), defaults(flow).get("r")), (before, 5))
    flow.sql(
        "create table p (id int, day date, v int, primary key (id, day)) partition by range (day);"
        "create table p1 partition of p for values from ('2026-01-01') to ('2026-02-01');"
        "create table p2 partition of p for values from ('2026-02-01') to ('2026-03-01');"
        "insert into p select i, date '2026-01-01' + i, i from generate_series(1, 50) i"
    )
    flow.once("a table of partitions")
    flow.sql("alter table p add column c int default 5; update p set v = 0 where id % 5 = 0; delete from p where id = 7")
    flow.once("its partitions")
    flow.same("its partitions", "p")
    flow.equal("its partitions are read again", generation(flow, "p"), 2)
    flow = LakeFlow(t, "LS15 v2", MAKE, "format=v2")
    flow.once("snapshot is read")
    flow.sql(CHANGE.format(1) + "alter table t add column c int default 7;" + CHANGE.format(2))
    flow.once("v2")
    flow.same("v2", "t")
    flow.equal("v2 is read again", (generation(flow, "t"), defaults(flow)), (2, {}))
    flow.options = "format=v3"  # of tables that are made: this one stays
    flow.sql("alter table t add column d int default 8;" + CHANGE.format(3))
    said = flow.once("a table of v2 under v3", 1, "format v2").stderr
    flow.check("the cure", "skip" in said, said[-500:])
    flow.options = "format=v2"
    flow.once("under v2 again")
    flow.same("under v2 again", "t")


def case_initial_default_killed(t):
    """In a running job that is killed: before the log's first row with the column, and right after it."""
    if not have_readers(t):
        return
    many = MAKE.replace("generate_series(1, 60)", "generate_series(1, 6000)").replace("repeat('z', 5000)", "'z'")
    draws = random.Random(13)
    flow = LakeFlow(t, "LS16 v3", many, "format=v3&freshness=1s", chunk_rows=1000)
    flow.run()
    for n in range(8):
        flow.sql("alter table t add column c%d int default %d" % (n, n))
        if n % 2:
            time.sleep(draws.choice((0, 0.3, 1.2)))
        flow.sql("update t set a = %d where id %% 10 = %d; delete from t where id = %d" % (n, n, 100 + n))
        time.sleep(draws.choice((0, 0.02, 0.1, 0.5, 1.5)))
        flow.check("still running", flow.job.running(), flow.job.last_stderr()[-900:])
        flow.job.kill()
        flow.sql("update t set b = 'n%d' where id %% 10 = %d" % (n, n))
        flow.start()
    wait_until(lambda: flow.lake.consistent() or not flow.job.running(), 60, "a consistent commit")
    flow.job.kill()
    flow.once("to the end")
    flow.same("to the end", "t")
    flow.equal("told", defaults(flow), {"c%d" % n: n for n in range(8)})
    flow.equal("not read again", generation(flow, "t"), 1)


def case_widths(t):
    """What Iceberg widens by metadata alone, with rows before and after, and the key itself."""

    def act(flow):
        flow.sql(
            "create table w (id int primary key, f real, d numeric(6,2), i smallint);"
            "insert into w values (1, 0.1, 1234.56, 1), (2, 'NaN', -0.01, -1)"
        )
        flow.once("a table joins")
        flow.sql(
            "alter table w alter column f type double precision, alter column d type numeric(12,2), alter column i type int;"
            "insert into w values (3, 0.1, 1234567890.12, 100000); update w set i = 70000 where id = 1"
        )
        flow.once("wider columns")
        flow.same("wider columns", "w")
        flow.sql(
            "alter table w alter column id type bigint; insert into w values (5000000000, 1, 1, 1); update w set f = 2 where"
            " id = 2;delete from w where id = 1"
        )
        flow.once("wider key")
        flow.same("wider key", "w")

    each(t, "LS4", act)


def case_forbidden(t):
    """A type that Iceberg cannot change to: a clear stop, again and again; new_column goes on and keeps what was."""
    if not have_readers(t):
        return
    for kind, using in (("text", "a::text"), ("smallint", "a::smallint"), ("numeric(10,2)", "a")):
        flow = LakeFlow(t, "LS5 int to %s" % kind, MAKE, "format=v2")
        flow.once("snapshot is read")
        flow.sql("alter table t alter column a type %s using %s; update t set b = 'x' where id = 1" % (kind, using))
        if kind == "smallint":
            flow.once("smaller ints are ints")
            flow.same("smaller ints are ints", "t")
            continue
        said = flow.once("stops", 1, '"a"').stderr
        flow.check("the cure", "cure:" in said and "on_type_change=new_column" in said, said[-500:])
        flow.once("stops again", 1, '"a"')
        flow.options = "format=v2&on_type_change=new_column"
        flow.once("new_column goes on")
        wanted = flow.wanted("t")
        rows = flow.read("PyIceberg", "t")
        flow.check("the old column is kept", rows and all("a_v1" in row for row in rows), rows[:1])
        flow.check(
            "the new column's rows",
            *wanted.compare([{n: c for n, c in row.items() if n != "a_v1"} for row in sorted_columns(rows, wanted)])
        )


RETYPED = (
    ("int to text", "alter table t alter column a type text using 'a' || a; insert into t (id, a) values (2000, 'x')"),
    (
        "text to numeric",
        "alter table t alter column a type numeric(10,2) using length(a)::numeric; update t set a = 9.75 where id = 4",
    ),
    ("to another scale", "alter table t alter column a type numeric(10,4)"),
    (
        "narrower",
        "alter table t alter column a type int using a::int; alter table t alter column big type bytea using big::bytea",
    ),
    ("another column", "alter table t alter column b type int using substr(b, 2)::int; update t set b = -b where b % 7 = 0"),
    ("there and back", "alter table t alter column a type text; alter table t alter column a type int using a::int"),
)


def case_resnapshot(t):
    """on_type_change=resnapshot: the table is read again, and its column has a new field; no old one is left."""
    if not have_readers(t):
        return
    for what, options in FORMS:
        flow = LakeFlow(t, "LS11 " + what, MAKE, options + "&on_type_change=resnapshot")
        flow.once("snapshot is read")
        seen = ids(flow)
        for at, (step, sql) in enumerate(RETYPED):
            flow.sql("update t set b = b where id %% 3 = 0; delete from t where id = %d; %s" % (11 + at, sql))
            flow.once(step)
            flow.same(step, "t")
            now = ids(flow)
            flow.equal(step + ": columns", sorted(now), sorted(seen))
            fresh = [n for n in now if now[n] != seen[n]]
            flow.check(step + ": no id is used again", all(now[n] > max(seen.values()) for n in fresh), (seen, now))
            if step != "there and back":
                flow.check(step + ": a new field", fresh, now)
            seen = now
        flow.sql(
            "create table w (id int primary key, d numeric(38,2)); insert into w values (1, 1.25), (2, 2.5);"
            "create table k (v int, n text); alter table k replica identity full;"
            "insert into k select i % 3, 'n' from generate_series(1, 50) i;"
        )
        flow.once("tables join")
        flow.sql(  # of w the source keeps the rows as they are
            "alter table w alter column d type numeric(40,2); update w set d = 3 where id = 1;"
            "alter table k alter column v type text; update k set n = 'm' where v = '1'; delete from k where v = '2'"
        )
        flow.once("without a rewrite, without a key")
        flow.same("without a rewrite, without a key", "w", "k", "t")
        flow.sql("alter table w alter column id type text using 'k' || id; update w set id = 'new' where id = 'k2'")
        flow.once("the key itself", *((0,) if "bucket" not in options else (1, "partitioned by")))
        if "bucket" in options:
            flow.options = options + "&on_type_change=new_column"
            flow.once("new_column takes it")
            flow.same("new_column takes it", "w", kept=("id_v1",))
        else:
            flow.same("the key itself", "w")


def case_resnapshot_killed(t):
    """The same in a running job that is killed in its midst: no snapshot that calls itself consistent has rows without values,
    or with the new field's nulls."""
    if not have_readers(t):
        return
    many = MAKE.replace("generate_series(1, 60)", "generate_series(1, 4000)").replace("repeat('z', 5000)", "'z'")
    draws = random.Random(11)
    for what, options in FORMS:
        flow = LakeFlow(
            t, "LS12 " + what, many, options + "&on_type_change=resnapshot&freshness=1s", chunk_rows=1000
        )
        flow.run()
        kinds, caught = ["text", "numeric(12,2)", "int"], 0
        for n in range(6):
            kind = kinds[n % 3]
            change = "begin; alter table t alter column a type %s using a::%s; insert into t (id, a) values (%d, '1'); commit"
            held = flow.server.session(flow.database)
            held.execute(change % (kind, kind, 90000 + n))
            if n % 3:
                time.sleep(draws.choice((0, 0.02, 0.05, 0.1)))  # some ranges have joined
            held.execute("begin; lock table t in access exclusive mode")  # what is not read yet is not read now
            time.sleep(draws.choice((0.2, 1.0, 1.5)))
            caught += not flow.lake.consistent()
            flow.check("still running", flow.job.running(), flow.job.last_stderr()[-900:])
            flow.job.kill()
            held.execute("rollback; update t set b = 'n%d' where id %% 10 = %d" % (n, n))
            held.close()
            flow.start()
            wait_until(lambda: flow.lake.consistent() or not flow.job.running(), 60, "a consistent commit")
        flow.check("killed in its midst", caught >= 2, caught)
        wait_until(lambda: flow.lake.consistent() or not flow.job.running(), 60, "a consistent commit")
        flow.job.kill()
        flow.once("to the end")
        flow.same("to the end", "t")
        for snapshot in flow.lake.snapshots("public.t")[::-1]:
            if snapshot["summary"]["tailrace.consistent"] == "true":
                found = flow.read("PyIceberg", "t", snapshot["snapshot-id"])
                bad = [row for row in found if row["a"] is None]
                good = len(found) >= 4000 and not bad
                flow.check("snapshot %s has values" % snapshot["sequence-number"], good, (len(found), bad[:2]))


def sorted_columns(rows, wanted):
    """Rows with the server's order of columns; the lake's has the new one last."""
    names = [column.name for column in wanted.columns]
    return [dict({n: row[n] for n in names if n in row}, **{n: c for n, c in row.items() if n not in names}) for row in rows]


def case_truncate(t):
    def act(flow):
        steps(
            flow,
            ("truncate", "truncate t"),
            ("rows after it", "insert into t (id, a) select i, i from generate_series(1, 9) i"),
            (
                "truncate and insert",
                "begin; insert into t (id) values (777); truncate t; insert into t (id, a) values (778, 1); commit",
            ),
            ("truncate twice", "truncate t; insert into t (id) values (1); truncate t"),
        )
        flow.nothing_lost("truncate")

    each(t, "LS6", act)


def case_tables(t):
    """Tables that are empty, added, emptied, dropped, made again with another definition."""

    def act(flow):
        flow.sql(
            "create table empty (id int primary key, v text); create table late (id int primary key, created_at timestamptz,"
            " v int);insert into late select i, now(), i from generate_series(1, 500) i"
        )
        flow.once("tables join")
        flow.same("an empty table is there", "empty", "late")
        flow.sql("insert into empty values (1, 'no more'); delete from late where id % 2 = 0; update late set v = -v")
        flow.once("changes of them")
        flow.same("changes of them", "empty", "late")
        flow.sql(
            "drop table late; create table late (id bigint primary key, w text); insert into late values (1, 'made'), (2,"
            " 'again')"
        )
        flow.once("made again")
        kept = ("created_at",) if "day" in flow.options else ()  # a column that the table is partitioned by stays
        flow.same("made again", "late", kept=kept)
        flow.same("made again", "empty", "t")
        flow.sql("drop table empty; update late set w = 'x' where id = 1; update t set a = -1")
        flow.once("a table went")
        flow.same("a table went", "late", kept=kept)
        flow.same("a table went", "t")

    each(t, "LS7", act)


def case_no_key(t):
    """A table without a key: a multiset of rows, by their full images."""
    if not have_readers(t):
        return
    for what, options in FORMS[:1] + (("v3", "format=v3"),):
        flow = LakeFlow(
            t,
            "LS8 " + what,
            "create table k (id int, b text, f float8); alter table k replica identity full;"
            "insert into k values (1, 'x', 'NaN'), (1, 'x', 'NaN'), (null, null, null), (2, repeat('y', 9000), -0.0);",
            options,
        )
        flow.once("snapshot is read")
        flow.same("equal rows", "k")
        flow.sql("insert into k values (1, 'x', 'NaN'), (3, 'y', 1.5), (3, 'y', 1.5)")
        flow.once("inserts")
        flow.same("inserts", "k")
        flow.sql(
            "delete from k where ctid in (select ctid from k where id = 1 limit 1); update k set b = 'z' where ctid in"
            " (select ctid from k where id = 3 limit 1); update k set id = 9 where id is null; update k set f = 0.0 where"
            " id = 2"
        )
        flow.once("changes of one of equal rows")
        flow.same("changes of one of equal rows", "k")
        flow.sql(
            "update k set id = id + 1; delete from k where id = 2; insert into k select i % 3, 'n', i % 2 from"
            " generate_series(1, 300) i;delete from k where ctid in (select ctid from k where id = 0 limit 17); update k set"
            " b = 'm' where id = 1"
        )
        flow.once("changes of many")
        flow.same("changes of many", "k")
        flow.sql("truncate k; insert into k values (5, 'again', 1), (5, 'again', 1)")
        flow.once("truncate")
        flow.same("truncate", "k")


def case_names(t):
    """Names of tables and columns that need quoting, in paths, manifests and readers."""
    if not have_readers(t):
        return
    odd = "Ta.b le ü's"  # a double quote in a path is too much for DuckDB's parser
    flow = LakeFlow(
        t,
        "LS9",
        'create table "%s" ("I d" int primary key, "größe" int, "a.b" text, "select" int);'
        "insert into \"%s\" values (1, 2, 'x', 3)" % (odd.replace('"', '""'), odd.replace('"', '""')),
        "format=v2",
    )
    flow.once("snapshot is read")
    flow.sql(
        'update "%s" set "größe" = 5; insert into "%s" values (2, 3, null, 4)'
        % (odd.replace('"', '""'), odd.replace('"', '""'))
    )
    flow.once("stream is read")
    rows = {reader: sorted(flow.read(reader, odd), key=lambda row: row["I d"]) for reader in ("PyIceberg", "DuckDB")}
    want = [{"I d": "1", "größe": "5", "a.b": "s:78", "select": "3"}, {"I d": "2", "größe": "3", "a.b": None, "select": "4"}]
    for reader, got in rows.items():
        flow.equal("odd names " + reader, got, want)
