"""What only some versions of PostgreSQL have: publications of a schema (15), failover slots and builtin collations (17),
generated columns in publications, virtual ones, idle slots, NOT NULL NOT VALID, temporal keys (18)."""

from flows import Flow
from harness import wait_until


def since(version):
    """The case is about that version and newer; tests/run leaves it out of older ones."""
    def mark(case):
        case.since = version
        return case
    return mark


def refused(flow, what, *words, code=3):
    """`plan` and `once` both refuse, name `words` and offer a cure; nothing is made on the server."""
    plan, once = flow.plan(), flow.t.tailrace("once", *flow.job_words()).run(60)
    for name, result in (("plan", plan), ("once", once)):
        text = result.stdout + result.stderr
        flow.check("%s is refused by %s" % (what, name), result.code == code and all(word in text for word in words),
                   "exit %s: %s" % (result.code, text[-900:]))
    flow.check("%s: a cure" % what, "cure:" in once.stderr, once.stderr[-600:])


# ---- 15 and newer ---------------------------------------------------------------------------------------------------------

@since(15)
def case_schema_published(t):
    """A publication of the user's that carries a whole schema, tables that come later included."""
    flow = Flow(t, "schema", "create table t (id int primary key, a int, b text); insert into t values (1, 1, 'x');"
                "create publication p for tables in schema public", publication="p")
    flow.once("of a schema")
    flow.sql("insert into t values (2, 2, 'y'); update t set b = 'z' where id = 1; create table later (id int primary key)")
    flow.once("goes on")
    flow.sql("insert into later values (7); delete from t where id = 2")
    flow.finish("of a schema", "t", "later")


# ---- 17 and newer ---------------------------------------------------------------------------------------------------------

@since(17)
def case_failover_slot(t):
    """A slot of the user's that the server keeps for a failover is read as any other."""
    flow = Flow(t, "failover", "create table t (id int primary key); insert into t values (1); create publication p for table t;"
                "select pg_create_logical_replication_slot('failover_1', 'pgoutput', false, false, true)", slot="failover_1",
                publication="p")
    flow.once("snapshot")
    flow.sql("insert into t values (2); update t set id = 3 where id = 1")
    flow.finish("goes on", "t")
    flow.equal("it stays what it was", flow.sql("select failover::text from pg_replication_slots where slot_name = "
        "'failover_1'"), [["true"]])


@since(17)
def case_builtin_collation(t):
    """Text keys of the builtin provider are ordered by their code points: read in chunks while rows change."""
    name = "versions_builtin"
    t.server.sql("create database %s template template0 locale_provider builtin builtin_locale 'C.UTF-8'" % name)
    try:
        flow = Flow(t, "builtin", database=name, chunk_rows=1000)
        flow.sql("create table t (k text primary key, n int); insert into t select case g % 4 when 0 then 'a' when 1 then 'Z' "
            "when 2 then 'é' else U&'\\+01F600' end || g, 0 from generate_series(1, 4000) g;"
                 "create table u (k text collate ucs_basic primary key, n int); insert into u select k, n from t")
        flow.check("no note of one chunk", "one chunk" not in flow.plan().stdout, flow.plan().stdout)
        writer = flow.server.session(name)
        writer.send("do $$ begin for i in 1..300 loop update t set n = n + 1 where k like '%' || i; update u set n = n + 1 "
            "where k like '%' || i; commit; end loop; end $$")
        flow.run()
        writer.receive(60)
        writer.close()
        flow.finish("chunks", "t", "u")
    finally:
        t.server.drop_database(name)


# ---- 18 and newer ---------------------------------------------------------------------------------------------------------

GENERATED = ("create table g (id int primary key, a int, v int generated always as (a * 2), s int generated always as (a * 3) "
             "stored, b text); insert into g (id, a, b) select n, n, 'x' from generate_series(1, 50) n;")


@since(18)
def case_virtual_generated(t):
    """T116: virtual and stored generated columns are absent in snapshot and stream alike, and plan says so."""
    flow = Flow(t, "T116", GENERATED + "create table plain (id int primary key); insert into plain values (1)")
    note = flow.plan()
    flow.check("plan names them", note.code == 0 and "generated columns are left out: v, s" in note.stdout, note.stdout)
    flow.equal("plan names no other", note.stdout.count("left out"), 1)
    flow.once("snapshot")
    flow.sql("insert into g (id, a, b) values (100, 7, 'new'); update g set a = 70 where id <= 10; delete from g where id = 11;"
             "alter table g add w int generated always as (a + 1); update g set b = 'w' where id = 12;"
             "alter table g alter s set expression as (a * 5); update g set b = 's' where id = 13; alter table g drop v;"
             "update g set b = 'd' where id = 14")
    flow.finish("plain columns only", "plain")
    want = flow.sql("select id, a, b from g order by id")
    rows = sorted(flow.folder.state().table("public.g").all_rows(), key=lambda row: int(row["id"]))
    flow.equal("the other columns", [(str(r["id"]), str(r["a"]), r["b"]) for r in rows], [tuple(w) for w in want])
    flow.equal("the same columns everywhere", {tuple(sorted(line["after"])) for line in flow.lines("g") if line["op"] in
        "rcu"}, {("a", "b", "id")})


@since(18)
def case_generated_in_identity(t):
    """The server refuses updates of a published table whose identity has generated columns: such a table is refused before it
    is published, so its writers go on; `append` and another identity are ways out."""
    flow = Flow(t, "T116 identity", GENERATED + "alter table g replica identity full; create table v (id int primary key, a int, "
                "v int generated always as (a) virtual); insert into v values (1, 1); alter table v replica identity full;"
                "create table pk (a int, k int generated always as (a * 2) stored primary key); insert into pk values (1)")
    refused(flow, "FULL with generated columns", "generated columns", "replica identity", "REPLICA IDENTITY DEFAULT")
    flow.check("no cure makes it worse", "IDENTITY FULL" not in flow.plan().stdout, flow.plan().stdout)
    flow.sql("update g set a = a + 1; update v set a = 2; update pk set a = 5")  # raises if it was published
    flow.equal("nothing was made", flow.sql("select 1 from pg_publication union all select 1 from pg_replication_slots where "
        "database = current_database()"), [])
    flow.sql("alter table v replica identity default; drop table pk")
    flow.rules = "public.g: append"
    flow.once("with append")
    flow.sql("update g set a = a + 1; delete from g where id = 1; insert into g (id, a) values (1000, 1); update v set a = 3")
    flow.once("with append, again")
    flow.equal("inserts arrive", [line["after"]["id"] for line in flow.lines("g", "c")], [1000])
    flow.equal("updates with the default identity", [line["after"] for line in flow.lines("v", "u")], [{"id": 1, "a": 3}])


@since(18)
def case_generated_in_partition(t):
    """The same of a partition whose own identity is FULL."""
    flow = Flow(t, "T116 partition", "create table p (id int primary key, a int, s int generated always as (a * 2) stored) "
                "partition by range (id); create table p1 partition of p for values from (0) to (100); create table p2 partition "
                "of p for values from (100) to (200); alter table p2 replica identity full; insert into p (id, a) select g, g "
                "from generate_series(1, 150) g")
    refused(flow, "a partition", "public.p2", "generated columns", "ALTER TABLE public.p2 REPLICA IDENTITY DEFAULT")
    flow.sql("update p set a = a + 1")  # raises if it was published
    flow.sql("alter table p2 replica identity default")
    flow.once("snapshot")
    flow.sql("update p set a = -a where id > 90; delete from p where id = 120; insert into p (id, a) values (199, 1)")
    flow.once("stream")
    want = {(int(k), int(a)) for k, a in flow.sql("select id, a from p")}
    flow.equal("rows", {(int(row["id"]), int(row["a"])) for row in flow.folder.rows("public.p")}, want)


@since(18)
def case_generated_published(t):
    """T116: a publication that carries stored generated columns is refused, the user's and ours, at a start and while it runs."""
    flow = Flow(t, "T116 published", GENERATED + "create publication p for table g with (publish_generated_columns = stored)",
                publication="p")
    refused(flow, "publish_generated_columns", "carries its generated columns", "publish_generated_columns = none")
    flow.sql("drop publication p; create publication p for table g (id, a, s)")
    refused(flow, "a generated column instead of another", "only some of its columns")
    flow.sql("drop publication p; create publication p for table g (id, a, b, s)")
    refused(flow, "a generated column in a list", "carries its generated columns")
    flow.sql("drop publication p; create publication p for table g (id, a, b)")
    flow.run()
    flow.sql("update g set a = 0 where id = 1; alter publication p set table g; alter publication p set "
        "(publish_generated_columns = stored); update g set a = 0 where id = 2")
    code = flow.job.wait(40)
    flow.check("altered while it runs", code == 3 and "generated" in flow.job.stderr_text(), "exit %s: %s" % (code, flow.job.
        stderr_text()[-600:]))
    flow.equal("no generated column arrived", {tuple(sorted(line["after"])) for line in flow.lines("g")}, {("a", "b", "id")})
    flow.sql("alter publication p set (publish_generated_columns = none)")
    past = flow.once("what was published in between has the column", code=5)
    flow.check("and it is named", '"s"' in past.stderr and "cure:" in past.stderr, past.stderr[-600:])
    ours = Flow(t, "T116 ours", GENERATED)
    ours.once("snapshot")
    ours.sql("alter publication tailrace_%s set (publish_generated_columns = stored)" % ours.name)
    refused(ours, "our own publication altered", "publishes generated columns", "publish_generated_columns = none")
    ours.sql("alter publication tailrace_%s set (publish_generated_columns = none); update g set a = 5 where id = 1" % ours.name)
    ours.once("our own publication as it was")
    ours.equal("the update", [line["after"] for line in ours.lines("g", "u")], [{"id": 1, "a": 5, "b": "x"}])


@since(18)
def case_idle_slot(t):
    """A slot that the server gave up since nobody read it: an end with its cause and the cure, no silent gap."""
    server = t.own_server({"idle_replication_slot_timeout": "1s"})
    flow = Flow(t, "idle slot", "create table t (id int primary key); insert into t values (1)", server=server)
    plan = flow.plan()
    flow.check("plan warns", plan.code == 0 and "gives up a slot that nobody has read for 1s" in plan.stdout, plan)
    flow.once("snapshot")
    flow.sql("insert into t values (2)")

    def given_up():
        flow.sql("checkpoint")
        return flow.sql("select 1 from pg_replication_slots where invalidation_reason = 'idle_timeout'")
    wait_until(given_up, 60, "the server to give up the slot", 0.5)
    result = t.tailrace("once", *flow.job_words()).run(60)
    flow.check("ends with its cause", result.code == 5 and "idle_timeout" in result.stderr and "idle_replication_slot_timeout"
               in result.stderr and "cure:" in result.stderr, "exit %s: %s" % (result.code, result.stderr[-600:]))
    flow.equal("nothing was written", [line["key"]["id"] for line in flow.lines("t")], [1])


@since(18)
def case_not_null_not_valid(t):
    """A NOT NULL that was never checked leaves nulls behind: the column may be null, and is no identity."""
    flow = Flow(t, "not valid", "create table t (id int primary key, a int, k int); insert into t values (1, null, null), (2, 2, "
                "2); alter table t add constraint a_set not null a not valid; create table i (k int); insert into i values "
                "(null), (1); alter table i add constraint k_set not null k not valid; create unique index i_k on i (k);"
                "alter table i replica identity using index i_k")
    refused(flow, "an index of such a column", "may be null")
    flow.rules = "public.i: skip"
    flow.once("snapshot")
    flow.sql("update t set a = 1, k = 5 where id = 1; insert into t values (3, 3, null)")
    flow.finish("nulls", "t")
    flow.equal("the schema says so", [c["nullable"] for c in flow.folder.schemas("public.t")[0]["columns"] if c["name"] == "a"],
               [True])


@since(18)
def case_temporal_key(t):
    """A primary key WITHOUT OVERLAPS, and ids by uuidv7()."""
    flow = Flow(t, "temporal", "create extension btree_gist; create table r (id int, during daterange, n int, primary key (id, "
                "during without overlaps)); insert into r select g % 10, daterange(date '2020-01-01' + g, date '2020-01-02' + "
                "g), g from generate_series(1, 300) g; create table u (id uuid primary key default uuidv7(), n int); insert into "
                "u (n) select generate_series(1, 300)")
    flow.run()
    flow.sql("update r set n = -n where id = 3; delete from r where n = 7; update r set during = daterange('2030-01-01', null) "
        "where n = 9; insert into u (n) values (1000); delete from u where n = 5; update u set n = -1 where n = 6")
    flow.finish("keys", "r", "u")
