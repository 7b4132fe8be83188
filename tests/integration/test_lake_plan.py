"""What `plan` says of a lake before a job starts, and `status` of one that is there. No reader is needed."""

import json
import os

from lake import Lake

TABLES = """create table a (id int primary key, b numeric(14,2), at timestamptz not null default now(), n numeric, l int[]);
create table keyless (x int); alter table keyless replica identity full;
create table other (id int primary key, v text); insert into a select i, i from generate_series(1, 100) i"""


class Plan:
    """`plan` of a database into a warehouse, as text and as JSON."""

    def __init__(self, t, database, lake, options=""):
        words = [t.server.url(database), "%s?job=planned%s" % (lake.sink, options)]
        text, said = t.tailrace("plan", *words).run(), t.tailrace("plan", "--json", *words).run()
        self.code, self.text = text.code, text.stdout
        self.json = json.loads(said.stdout)

    def findings(self, missing):
        return [f["what"] for f in self.json["findings"] if f["missing"] == missing]


def case_forms_and_notes(t):
    database, lake = t.database(TABLES), Lake(os.path.join(t.temp(), "lake"))
    plan = Plan(t, database, lake, "&partition=bucket(4,id),day(at)")
    t.equal("lake plan: ready", (plan.code, plan.json["ready"]), (0, True))
    tables = {table["table"]: table for table in plan.json["target_tables"]["tables"]}
    t.equal("lake plan: what columns are stored as", tables["public.a"]["columns"],
            {"id": "int", "b": "decimal(14,2)", "at": "timestamptz", "n": "string", "l": "list<int>"})
    t.equal("lake plan: partitions", {name: table["partition"] for name, table in tables.items()},
            {"public.a": ["id_bucket", "at_day"], "public.keyless": [], "public.other": ["id_bucket"]})
    t.check("lake plan: the same as text", "numeric(14,2) -> decimal(14,2); " in plan.text and
            "\npartitioned by id_bucket, at_day: public.a\n" in plan.text and "\nnot partitioned: public.keyless\n" in plan.text,
            plan.text)
    notes = "\n".join(plan.findings(False))
    t.check("lake plan: the keyless table", "without a key" in notes and "public.keyless" in notes, notes)
    t.check("lake plan: columns that can stop the job", "1 of dates and timestamps (infinity), 1 of decimals (NaN), 1 of arrays"
            in notes and "public.a.b, public.a.at, public.a.l" in notes, notes)
    text = Plan(t, database, lake, "&text=public.a.b,public.a.at,public.a.l")
    t.check("lake plan: none once they are text", "can hold some" not in text.text and
            text.json["target_tables"]["tables"][0]["columns"]["at"] == "string", text.text)
    t.check("lake plan: nothing was written", not os.path.exists(lake.path))


def case_partition_that_fits_nothing(t):
    database, lake = t.database(TABLES), Lake(os.path.join(t.temp(), "lake"))
    plan = Plan(t, database, lake, "&partition=day(created)")
    t.check("lake plan: a column that no table has", plan.code == 0 and
            any("none is partitioned" in n for n in plan.findings(False)), plan.text)
    plan = Plan(t, database, lake, "&partition=hour(v)")
    t.check("lake plan: a transform that the type has not", plan.code == 3 and len(plan.findings(True)) == 1 and
            "column \"v\" of type string has no hour" in plan.findings(True)[0], plan.text)


def case_sort(t):
    database, lake = t.database(TABLES), Lake(os.path.join(t.temp(), "lake"))
    plan = Plan(t, database, lake, "&sort=id+desc,v")
    tables = {table["table"]: table.get("sort") for table in plan.json["target_tables"]["tables"]}
    t.equal("lake plan: sort orders", tables, {"public.a": ["id"], "public.keyless": None, "public.other": ["id", "v"]})
    t.check("lake plan: sorted files", plan.code == 0 and "\nfiles sorted by id+desc,v: public.a, public.other\n" in plan.text,
            plan.text)
    plan = Plan(t, database, lake, "&sort=elsewhere&partition=nowhere")
    notes = plan.findings(False)
    t.check("lake plan: an order and a partition that fit nothing", plan.code == 0 and
            any("no file is sorted" in n for n in notes) and any("none is partitioned" in n for n in notes), plan.text)
    plan = Plan(t, database, lake, "&sort=l")
    t.check("lake plan: a column of lists", plan.code == 3 and len(plan.findings(True)) == 1 and
            "column \"l\" holds lists" in plan.findings(True)[0], plan.text)
    words = [t.server.url(database), "%s?job=planned&sort=id" % lake.sink]
    t.equal("lake plan: the tables are made", t.tailrace("once", *words, state=t.temp()).run(60).code, 0)
    plan = Plan(t, database, lake, "&sort=id")
    t.check("lake plan: as they are", "files sorted by id: public.a, public.other\n" in plan.text and
            not any("sort=" in n for n in plan.findings(False)), plan.text)
    plan = Plan(t, database, lake, "&sort=v")
    t.check("lake plan: tables keep their order", plan.code == 0 and
            any(n.startswith("sort= is for tables that are made") for n in plan.findings(False)), plan.text)


def case_lake_that_is_there(t):
    database, lake = t.database(TABLES), Lake(os.path.join(t.temp(), "lake"))
    words = [t.server.url(database), "%s?job=planned" % lake.sink]
    t.equal("lake status: nothing yet", t.tailrace("status", *words).run().code, 0)
    t.equal("lake status: once", t.tailrace("once", *words).run().code, 0)
    t.server.sql("update a set b = b + 1 where id <= 7; delete from a where id > 90", database)
    t.equal("lake status: once more", t.tailrace("once", *words).run().code, 0)
    said = t.tailrace("status", *words).run()
    t.check("lake status: the last commit and its tables", said.code == 0 and "lake: commit planned-2-" in said.stdout and
            ", 3 of 3 tables consistent, " in said.stdout and
            "public.a: 90 rows (data files: 2, rows deleted in them: 17, size: " in said.stdout, said)
    job = t.tailrace("run", *words).start()
    job.wait_log(" job started", 30)
    running = t.tailrace("status", *words, state=job.state).run()
    t.check("lake status: of a running job", running.code == 0 and ": running, " in running.stdout and
            "lake: commit planned-2-" in running.stdout, running)
    t.equal("lake status: it ends", job.terminate(), 0)
    found = json.loads(t.tailrace("status", "--json", *words).run().stdout)["target_has"]
    t.equal("lake status: as JSON", (found["commit"][:10], found["tables"], found["consistent"]), ("planned-2-", 3, 3))
    plan = Plan(t, database, lake, "&partition=id")
    t.check("lake plan: tables keep their partition", plan.code == 0 and
            any(n.startswith("partition= is for tables that are made") for n in plan.findings(False)), plan.text)
    t.server.sql("alter table a alter b type text", database)
    plan = Plan(t, database, lake)
    t.check("lake plan: a change that Iceberg forbids", plan.code == 3 and
            "field of type decimal(14,2)" in plan.findings(True)[0], plan.text)


def case_impossible(t):
    database = t.database("create table t (id int primary key, _tailrace_op int)")
    lake = Lake(os.path.join(t.temp(), "lake"))
    plan = Plan(t, database, lake)
    t.check("lake plan: a reserved name", plan.code == 3 and "\"_tailrace_op\"" in plan.findings(True)[0], plan.text)
