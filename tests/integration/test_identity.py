"""Identities, unchanged TOAST values, partitions, definitions that change, names (catalogue, T118 to T136)."""

from flows import Flow
from harness import SqlError

FAST = False

LONG = "(select string_agg(md5(g::text), '') from generate_series(1, 800) g)"  # 25 kB that no compression makes small


def shapes(lines):
    """(op, key, sorted names of before, of after, unchanged) of each line."""
    return [(l["op"], l["key"], sorted(l["before"] or {}), sorted(l["after"] or {}), l.get("unchanged", [])) for l in lines]


def case_toast(t):
    """T118, T119: values that an update leaves where they are."""
    flow = Flow(t, "T118", "create table t (id int primary key, n int, body text, more bytea); alter table t alter body set "
        "storage external;"
                "create table moved (id int primary key, n int, body text); create table keyed (body text primary key, n int)")
    flow.once("empty")
    flow.sql("begin; insert into t values (1, 0, %s, %s::bytea); update t set n = 1; update t set n = 2, body = body; commit;"
        % (LONG, LONG))
    flow.once("one transaction")
    flow.sql("insert into t values (2, 0, %s, 'x'); update t set n = 3; update t set more = 'y' where id = 1" % LONG)
    flow.once("one commit")
    flow.same("stream", "t")
    flow.equal("unchanged is named", [l.get("unchanged", []) for l in flow.lines("t", "u")],
               [["body", "more"], ["body", "more"], ["body", "more"], ["body"], ["body"]])
    flow.label = flow.label.replace("T118", "T119")
    flow.sql("insert into moved values (10, 0, %s)" % LONG)
    flow.once("insert")
    flow.sql("update moved set id = 11; update moved set n = 1 where id = 11; update moved set id = 12, n = 2; delete from "
        "moved where id = 99")
    flow.once("key moved")
    flow.same("stream", "moved")
    flow.equal("row 10 is gone, 12 has the text", [(r["id"], len(r["body"])) for r in flow.folder.rows("public.moved")], [(12,
        25600)])
    flow.equal("the new key does not carry the text", shapes(flow.lines("moved", "u"))[0],
               ("u", {"id": 11}, ["id"], ["id", "n"], ["body"]))
    # The key itself lies out of line: the old tuple comes although no key changed.
    flow.sql("insert into keyed select left(string_agg(md5(g::text), ''), 2600), 0 from generate_series(1, 90) g; update "
        "keyed set n = 1;"
             "update keyed set n = 2; update keyed set body = 'short'")
    flow.once("key out of line")
    flow.same("key out of line", "keyed")
    flow.equal("key out of line is known", [len(l["key"]["body"]) for l in flow.lines("keyed", "u")], [2600, 2600, 5])


def case_toast_in_snapshot(t):
    """T118: the same for rows that the snapshot read, moved while the job was down."""
    flow = Flow(t, "T118", "create table t (id int primary key, n int, body text); insert into t select g, 0, %s from "
        "generate_series(1, 3) g" % LONG)
    flow.once("snapshot")
    flow.sql("update t set n = 1 where id = 1; update t set id = 20 where id = 2; delete from t where id = 3; insert into t "
        "values (3, 5, 'new'); update t set n = 6 where id = 3")
    flow.once("updates")
    flow.same("snapshot rows", "t")


def case_identity_full(t):
    """T121: with REPLICA IDENTITY FULL the value of an unchanged TOAST cell is in the old row."""
    columns = "id int primary key, n int, body text, a int[], j jsonb, u uuid[], y bytea"
    values = ("0, %s, (select array_agg(g) from generate_series(1, 9000) g), (select jsonb_agg(md5(g::text)) from "
        "generate_series(1, 900) g),"
              "(select array_agg(md5(g::text)::uuid) from generate_series(1, 900) g), %s::bytea" % (LONG, LONG))
    flow = Flow(t, "T121", "create table t (%s); alter table t replica identity full;"
                "alter table t alter body set storage external; alter table t alter a set storage external; alter table t "
                "alter u set storage external;"
                "create table nokey (id int, n int, body text); alter table nokey replica identity full;"
                "insert into t select 1, %s" % (columns, values))
    flow.once("snapshot")
    flow.sql("insert into t select 2, %s; update t set n = 1; update t set id = 7 where id = 2; update t set body = 'short' "
        "where id = 1;"
             "insert into nokey values (1, 0, %s), (1, 0, %s); update nokey set n = 1; delete from nokey where ctid = "
             "(select min(ctid) from nokey)"
             % (values, LONG, LONG))
    flow.once("stream")
    rows = {row["id"]: row for row in flow.folder.rows("public.t")}
    for name in ("body", "a", "j", "u", "y"):
        want = {int(k): v for k, v in flow.sql("select id, md5(%s::text) from t" % (name if name != "y" else
            "encode(y, 'base64')"))}
        flow.check("value of %s after its move" % name, sorted(rows) == sorted(want) and rows[7].get(name) is not None
                   and len(str(rows[7][name])) > 20000)
    flow.check("before-images are full", all(len(l["before"]) == 7 for l in flow.lines("t", "u")), shapes(flow.lines("t", "u")))
    flow.equal("texts and arrays equal", [rows[7]["body"], rows[7]["a"], rows[7]["u"]],
               [flow.server.value("select body from t where id = 7", flow.database), list(range(1, 9001)),
                flow.server.value("select array_to_string(u, ',') from t where id = 7", flow.database).split(",")])
    flow.equal("jsonb equal", rows[7]["j"], flow.server.value("select j::text from t where id = 7", flow.database))
    flow.same("no key", "nokey")
    flow.equal("exactly once", flow.folder.state().problems, [])


def case_identity_index(t):
    """T122: REPLICA IDENTITY USING INDEX; the key's columns are read by their flags."""
    flow = Flow(t, "T122", "create table t (id int primary key, code text not null, part int not null, body text);"
                "create unique index t_code on t (part, code); alter table t replica identity using index t_code;"
                "insert into t select g, 'c' || g, g %% 3, 'x' from generate_series(1, 9) g".replace("%%", "%"))
    flow.once("snapshot")
    flow.equal("key of the snapshot", flow.lines("t", "r")[0]["key"].keys(), {"part": 0, "code": 0}.keys())
    flow.sql("update t set body = 'y' where id = 1; update t set code = 'new' where id = 2; update t set part = 7, body = "
        "null where id = 3;"
             "update t set id = 100 where id = 4; delete from t where id = 5; insert into t values (5, 'c5', 5 % 3, 'again')")
    flow.once("stream")
    flow.same("stream", "t")
    flow.equal("delete by the index", flow.lines("t", "d")[0]["before"], {"code": "c5", "part": 2})
    flow.equal("key change", [l["before"] for l in flow.lines("t", "u")],
               [None, {"code": "c2", "part": 2}, {"code": "c3", "part": 0}, None])


def case_no_identity(t):
    """T124: a table that the server would not let be updated once it is published is never added."""
    flow = Flow(t, "T124", "create table good (id int primary key); create table bad (id int, b text); insert into bad "
        "values (1, 'a');"
                "create table nothing (id int primary key); alter table nothing replica identity nothing;"
                "create table swap (id int primary key deferrable)")
    plan = flow.plan()
    flow.equal("plan", plan.code, 3)
    for table in ("bad", "nothing", "swap"):
        flow.check("plan advises ALTER for " + table, 'ALTER TABLE "public"."%s" REPLICA IDENTITY FULL' % table in plan.stdout,
            plan.stdout)
        flow.check("plan advises skip for " + table, 'public.%s: skip' % table in plan.stdout, plan.stdout)
        flow.check("plan advises append for " + table, 'public.%s: append' % table in plan.stdout, plan.stdout)
    refused = flow.once("once refuses", code=3)
    flow.check("once names the table", "bad" in refused.stderr, refused.stderr)
    flow.sql("update bad set b = 'b'; delete from bad; insert into bad values (2, 'c')")
    flow.equal("the application's updates go on", flow.sql("select id, b from bad"), [["2", "c"]])
    flow.rules = "bad: append\nnothing: skip\nswap: skip"
    flow.once("with rules")
    flow.sql("insert into bad values (3, 'd'); update bad set b = 'e' where id = 2; insert into good values (1)")
    flow.equal("updates go on while published for inserts", flow.sql("select id, b from bad order by id"), [["2", "e"], ["3",
        "d"]])
    flow.once("append")
    flow.same("append's neighbour", "good")
    flow.equal("append holds inserts", sorted((r["id"], r["b"]) for r in flow.folder.rows("public.bad")), [(2, "c"), (3, "d")])
    flow.equal("skipped", flow.lines("nothing"), [])


def case_key_order(t):
    """T125: keys in another order than the columns."""
    flow = Flow(t, "T125", "create table t (a int, b text, c int, d text, primary key (c, a)); insert into t select g % 5, "
        "'b' || g, g, 'd' from generate_series(1, 2500) g",
                chunk_rows=1000)
    flow.once("snapshot")
    flow.same("snapshot", "t")
    flow.equal("order of the key", {tuple(l["key"]) for l in flow.lines("t", "r")}, {("c", "a")})
    flow.sql("update t set d = 'u' where c <= 10; update t set a = 77 where c = 11; update t set c = -1 where c = 12; "
        "delete from t where c = 13")
    flow.once("stream")
    flow.same("stream", "t")
    flow.equal("delete's key", flow.lines("t", "d")[0]["key"], {"c": 13, "a": 3})


def case_filters(t):
    """T127, T128: a publication that carries only some rows or columns would make the snapshot lie: refused, with
    the table named."""
    flow = Flow(t, "T127", "create table t (id int primary key, a int, b text); insert into t values (1, 1, 'x'), (200, 2, 'y');"
                "create publication some_rows for table t where (id < 100); create publication some_columns for table t (id, a);"
                "create publication whole for table t", publication="some_rows")
    refused = flow.once("row filter refused", code=3)
    flow.check("row filter named", "some of its rows" in refused.stderr + flow.plan().stdout, refused.stderr)
    flow.label = flow.label.replace("T127", "T128")
    flow.keys = {"publication": "some_columns"}
    refused = flow.once("column list refused", code=3)
    flow.check("column list named", "some of its columns" in refused.stderr + flow.plan().stdout, refused.stderr)
    flow.keys = {"publication": "whole"}
    flow.once("whole publication")
    flow.sql("update t set id = 300 where id = 1; update t set b = 'z' where id = 200")
    flow.once("stream")
    flow.same("?publication=", "t")
    flow.equal("its owner's publication is as it was", flow.sql("select tablename, attnames from pg_publication_tables "
        "where pubname = 'whole'"), [["t", "{id,a,b}"]])
    flow.sql("alter publication whole set table t (id, a); update t set b = 'q'")
    result = flow.once("list changed in mid-stream stops", code=3)
    flow.check("list changed is named", "some of its columns" in result.stderr + flow.plan().stdout, result.stderr)


case_filters.since = 15  # older servers have neither filters nor lists


def case_no_columns_published(t):
    """T128: a table without columns in a publication of all tables."""
    flow = Flow(t, "T128", "create table t (); alter table t replica identity full; insert into t default values; create "
        "table u (id int primary key);"
                "insert into u values (1); create publication everything for all tables", publication="everything")
    flow.once("publication of all tables")
    flow.same("publication of all tables", "u")
    flow.equal("rows without columns", [l["after"] for l in flow.lines("t", "r")], [{}])


def case_partitions(t):
    """T130: rows that move between partitions, detached and later partitions."""
    flow = Flow(t, "T130", "create table t (id int, part int, body text, primary key (id, part)) partition by list (part);"
                "create table t_1 partition of t for values in (1); create table t_2 (body text, part int not null, id int "
                "not null);"
                "alter table t attach partition t_2 for values in (2); insert into t select g, 1 + g % 2, LONG from "
                "generate_series(1, 6) g".
                    replace("LONG", LONG))
    flow.once("snapshot")
    flow.same("snapshot", "t")
    flow.equal("partitions are not tables of their own", sorted(flow.folder.state().tables), ["public.t"])
    flow.run()
    flow.sql("update t set part = 2 where id = 2; insert into t values (50, 2, 'other column order'); update t set body = "
        "'b' where id = 50")
    flow.sql("create table t_3 partition of t for values in (3); insert into t values (60, 3, 'later partition'); update t "
        "set part = 1 where id = 60")
    flow.wait_rows("t", 8)
    flow.finish("stream", "t")
    moved = [l["op"] for l in flow.lines("t") if l["key"].get("id") == 2]
    flow.check("a move is one row", moved[0] == "r" and moved[1:] in (["d", "c"], ["u"]), moved)
    flow.sql("truncate t; insert into t values (1, 1, 'after truncate')")
    flow.once("truncate")
    flow.same("truncate of the root", "t")


def case_attach_and_detach(t):
    """T130: rows that come and go with a partition are in no log: the table is read again."""
    flow = Flow(t, "T130", "create table t (id int, part int, primary key (id, part)) partition by list (part);"
                "create table t_1 partition of t for values in (1); create table t_2 partition of t for values in (2);"
                "insert into t select g, 1 + g % 2 from generate_series(1, 10) g")
    flow.once("snapshot")
    flow.sql("alter table t detach partition t_2; drop table t_2; insert into t values (11, 1)")
    flow.once("detach")
    flow.same("detach", "t")
    flow.sql("create table t_3 (id int not null, part int not null); insert into t_3 select g, 3 from generate_series(1, 4) g;"
             "alter table t_3 add primary key (id, part); alter table t attach partition t_3 for values in (3); insert into "
             "t values (12, 1)")
    flow.once("attach")
    flow.same("attach", "t")


def case_definitions(t):
    """T131, T133, T134: what no log shows is read again as a new generation."""
    flow = Flow(t, "T131", "create table t (id int primary key, a int); insert into t select g, g from generate_series(1, 100) g;"
                "create table plain (id int primary key, a int, gone text); insert into plain values (1, 1, 'x')")
    flow.run()
    flow.sql("alter table t add column d int default 7; insert into t (id, a) values (101, 1); update t set a = 5 where id = 1")
    flow.wait_rows("t", 101)
    flow.stop()
    flow.once("add column default")
    flow.same("add column default", "t")
    flow.equal("old rows have the default", {r["d"] for r in flow.folder.rows("public.t")}, {7})
    generations = [l["source"]["gen"] for l in flow.lines("t")]
    flow.check("a new generation, begun by t", max(generations) >= 2 and next(l for l in flow.lines("t") if l["source"]["gen"]
        == 2)["op"] == "t", set(generations))
    flow.sql("alter table plain add column b text; alter table plain drop column gone; insert into plain values (2, 2, "
        "'b'); alter table plain rename a to c;"
             "update plain set c = 9 where id = 1; alter table plain alter c type bigint using c * 2; insert into plain "
             "values (3, 12345678901, 'c')")
    flow.once("other definitions")
    flow.same("add, drop, rename, type", "plain")
    flow.label = flow.label.replace("T131", "T133")
    lines = len(flow.lines("t"))
    flow.sql("begin; insert into t values (900, 1, 1); alter table t add column never int; insert into t values (901, 1, 1, "
        "1); alter table t drop column a; rollback;"
             "insert into t values (102, 1, 1)")
    flow.once("rolled back")
    flow.same("DDL rolled back", "t")
    flow.equal("only what was committed", [l["key"] for l in flow.lines("t")[lines:]], [{"id": 102}])
    flow.label = flow.label.replace("T133", "T134")
    flow.sql("insert into t values (103, 1, 1); drop table t; create table t (id int primary key, other text); insert into "
        "t values (1, 'new table'), (2, 'b')")
    flow.once("dropped and created")
    flow.same("dropped and created", "t")
    flow.sql("update t set other = 'c' where id = 2; insert into t values (3, 'd')")
    flow.once("goes on")
    flow.same("goes on", "t")


def case_definitions_while_running(t):
    """T131, T134 with a job that runs all the time, and on_rewrite=stop."""
    flow = Flow(t, "T134", "create table t (id int primary key, a int); insert into t select g, g from generate_series(1, "
        "2000) g", chunk_rows=1000)
    flow.run()
    flow.sql("alter table t alter a type text using 'v' || a; insert into t values (5000, 'x')")
    flow.wait_rows("t", 2001)
    flow.sql("drop table t; create table t (id int primary key, b text); insert into t values (1, 'one')")
    flow.wait_rows("t", 1)
    flow.sql("vacuum full t; insert into t values (2, 'two'); cluster t using t_pkey; update t set b = 'zwei' where id = 2")
    flow.wait_rows("t", 2)
    flow.finish("rewritten while it runs", "t")
    stopped = Flow(t, "T131", "create table t (id int primary key); insert into t values (1)", on_rewrite="stop")
    stopped.once("snapshot")
    stopped.sql("alter table t add column d int default 7; insert into t values (2)")
    result = stopped.once("on_rewrite=stop", code=1)
    stopped.check("on_rewrite=stop names the table", "public.t" in result.stderr and "cure:" in result.stderr, result.stderr)


def changed(t, number, create, change, generation):
    """A table that is read, changed while no job runs, and caught up with."""
    flow = Flow(t, number, create)
    flow.once("snapshot")
    flow.sql(change)
    flow.once("changed")
    flow.same("changed", "t")
    flow.equal("generation", max(l["source"]["gen"] for l in flow.lines("t")), generation)
    return flow


def case_other_columns_of_the_same_name(t):
    """T131: a name that means another column than before, which no log shows."""
    table = ("create table t (id int primary key, a text, b text); insert into t select g, 'a' || g, 'b' || g from "
        "generate_series(1, 5) g")
    changed(t, "T131 drop, add", table, "alter table t drop column b; alter table t add column b text", 2)
    changed(t, "T131 rename", table, "alter table t rename column b to c; insert into t values (9, 'x', 'y')", 2)
    changed(t, "T131 swap", table, "alter table t rename column b to z; alter table t rename column a to b; alter table t "
        "rename column z to a; insert into t values (9, 'x', 'y')", 2)
    changed(t, "T131 rename, add", table, "alter table t rename column b to c; alter table t add column b text; insert into "
        "t values (9, 'x', 'y', 'z')", 2)
    changed(t, "T131 drop expression", "create table t (id int primary key, a int, g int generated always as (a * 2) "
        "stored); insert into t select g, g from generate_series(1, 5) g",
            "alter table t alter g drop expression; insert into t values (9, 1, 4)", 2)
    changed(t, "T131 add", table, "alter table t add column d int; insert into t values (9, 'a', 'b', 8)", 1)
    flow = Flow(t, "T131 drop, once, add", table)
    flow.once("snapshot")
    flow.sql("alter table t drop column b")
    flow.once("dropped")
    flow.sql("alter table t add column b text")
    flow.once("added")
    flow.same("added", "t")


def case_partition_row_security(t):
    """Row-level security of a partition hides nothing from who reads the table: every row arrives. That of the table itself
    is found by plan."""
    flow = Flow(t, "row security", "create table t (id int, body text) partition by range (id);"
                "create table t_1 partition of t for values from (0) to (10000); create table t_2 partition of t for values "
                "from (10000) to (20000); alter table t replica identity full; alter table t_1 replica identity full;"
                "alter table t_2 replica identity full; insert into t select g, 'a' from generate_series(1, 19000) g;"
                "alter table t_1 enable row level security; alter table t_1 force row level security;"
                "create policy few on t_1 using (id < 5); create table keyed (id int primary key);"
                "insert into keyed values (1)", server=t.own_server())
    flow.server.sql("create role reader login replication")
    flow.sql("grant select on all tables in schema public to reader; grant create on database %s to reader" % flow.database)
    flow.sql("create publication seen for table t, keyed with (publish_via_partition_root = true)")
    flow.job_words = lambda port=None: [flow.server.url(flow.database, user="reader", publication="seen", lanes=2),
                                        flow.folder.sink + "?job=" + flow.name]
    plan = flow.plan()
    flow.check("plan finds nothing missing", plan.code == 0, plan.stdout + plan.stderr)
    flow.once("snapshot")
    flow.same("snapshot", "t", "keyed")
    flow.sql("insert into t values (100, 'b'); update t set body = 'c' where id = 101")
    flow.once("stream")
    flow.same("stream", "t")
    flow.sql("alter table t enable row level security")
    plan = flow.plan()
    flow.check("plan finds the table's own", plan.code == 3 and "row-level security" in plan.stdout, plan.stdout + plan.stderr)


def case_partitions_unseen(t):
    """T130, T131: what happens to one partition, or to all without a rewrite, is in no log."""
    table = ("create table t (id int, part int, body text, primary key (id, part)) partition by list (part);"
             "create table t_1 partition of t for values in (1); create table t_2 partition of t for values in (2);"
             "insert into t select g, 1 + g % 2, 'x' from generate_series(1, 6) g")
    changed(t, "T130 truncate of one", table, "truncate t_1; insert into t values (100, 1, 'new'), (101, 2, 'new')", 2)
    changed(t, "T131 add column default", table, "alter table t add column d int default 7; insert into t values (100, 1, "
        "'new', 8)", 2)
    changed(t, "T130 attach in its own transaction", table, "begin; create table t_3 (id int not null, part int not null, "
        "body text); insert into t_3 values (1, 3, 'z');"
            "alter table t attach partition t_3 for values in (3); commit; insert into t values (5, 3, 'q')", 2)
    changed(t, "T130 attach of a tree", table, "create table t_3 (id int not null, part int not null, body text) partition "
        "by list (part); create table t_3a partition of t_3 default;"
            "insert into t_3 values (1, 3, 'z'); alter table t attach partition t_3 for values in (3); insert into t values "
            "(5, 3, 'q')",
                2)
    changed(t, "T130 a new one", table, "create table t_3 partition of t for values in (3); insert into t values (5, 3, 'q')", 1)


def case_partitions_in_no_log(t):
    """T130: a partition whose changes are in no log is refused, not read once and left."""
    table = ("create table t (id int primary key, body text) partition by range (id); create table t_1 partition of t for "
        "values from (1) to (10);")
    for kind, sql in (("foreign", "create extension postgres_fdw; create server other foreign data wrapper postgres_fdw; "
        "create table f (id int, body text) partition by range (id);"
                                  "alter table f replica identity full; drop table t; alter table f rename to t; create "
                                  "foreign table t_2 partition of t for values from (10) to (20) server other"),
                      ("unlogged", "create unlogged table t_2 partition of t for values from (10) to (20); insert into t "
                          "values (11, 'x')")):
        flow = Flow(t, "T130 " + kind, table + sql)
        refused = flow.once("refused", code=3)
        flow.check("named", "t_2" in refused.stderr and "in no log" in refused.stderr, refused.stderr)


def case_names(t):
    """T136: names with upper case, quotes, dots and blanks; a database with a hyphen."""
    server = t.server
    database = "Hyphen-db \u00e4 %d" % server.port
    tables = {'"Upper Case"': ('"Id"', '"Value"'), '"dotted.name"': ('"a.b"', '"c"'), "\"quo\"\"te's\"": ('"k""ey"',
        "\"v'al\""), '"select"': ('"from"', '"where"'),
              '"größe"': ('"schlüssel"', '"maß"'), '"x%41"': ('"p%"', '"\\b"'), '"' + "n" * 63 + '"': ('"' + "c" * 63 + '"',
                  '"v"')}
    server.create_database(database, "".join('create table %s (%s int primary key, %s text); insert into %s values (1, '
        '\'a\');' % (name, key, value, name)
                                             for name, (key, value) in tables.items())
                           + 'create schema "S.chema"; create table "S.chema"."T" (id int primary key); insert into '
                               '"S.chema"."T" values (1);')
    flow = Flow(t, "T136", database=database)
    flow.server = Escaped(server)
    try:
        flow.once("snapshot")
        server.sql("".join("insert into %s values (2, 'b'); update %s set %s = 'c' where %s = 1;" % (name, name, value, key)
            for name, (key, value) in tables.items())
                   + 'insert into "S.chema"."T" values (2)', database)
        flow.once("stream")
        for name, (key, value) in tables.items():
            label = name if '"' in name[1:-1] or "." in name else name[1:-1]
            key, value = [text[1:-1].replace('""', '"') for text in (key, value)]
            flow.equal("rows of %s" % name[:20], sorted((r[key], r[value]) for r in flow.folder.rows("public." + label)), [(1,
                "c"), (2, "b")])
        flow.equal("schema with a dot", sorted(r["id"] for r in flow.folder.rows('"S.chema".T')), [1, 2])
        flow.equal("exactly once", flow.folder.state().problems, [])
        dropped = t.tailrace("drop", *flow.job_words(), "--yes").run()
        flow.equal("drop", (dropped.code, server.sql("select slot_name from pg_replication_slots where database = '%s'" %
            database)), (0, []))
    finally:
        server.drop_database(database)


class Escaped:
    """The server with the database's name as a URL writes it."""

    def __init__(self, server):
        self._server = server

    def __getattr__(self, name):
        return getattr(self._server, name)

    def url(self, database, **keys):
        from urllib.parse import quote
        return self._server.url(quote(database), **keys)


def case_deferrable_and_reserved(t):
    """T124: what the server itself says when a table without identity is published by hand."""
    flow = Flow(t, "T124", "create table t (id int, b text); insert into t values (1, 'a'); create publication byhand for "
        "table t", publication="byhand")
    try:
        flow.sql("update t set b = 'b'")
        flow.check("the server refuses updates of it", False, "the update went through")
    except SqlError as error:
        flow.equal("the server refuses updates of it", error.sqlstate, "55000")
    flow.once("?publication= with a table without identity", code=3)
