"""Many commits of random changes in the lake: keys that move and come back, several changes of one key in a transaction and
in a commit, rows that move between partitions, big texts that the log leaves out. After them, and at each commit on the
way by time travel, independent readers give what the server held then."""

import os
import random

from harness import wait_until
from lake import FORMATS, LakeFlow, have_readers, seconds
from lake_readers import ReaderError, readers

FAST = False
TIMEOUT = seconds(400)
COMMITS = 60
DAYS = 40

TABLES = """
create table t (id bigint primary key, created_at timestamptz not null, n int, amount numeric(12,2), note text, big text,
  tags int[]);
alter table t alter column big set storage external;
create table u (a text, b int, v bigint, big text, primary key (a, b));
alter table u alter column big set storage external;
create table f (id int primary key, v int, big text);
alter table f replica identity full; alter table f alter column big set storage external;
insert into t select i, '1969-12-20'::timestamptz + i * interval '3 hours', i, i * 1.25, 'n' || i, repeat(md5(i::text), 200),
  array[i, null]
  from generate_series(1, 400) i;
insert into u select 'k' || i % 20, i, i, repeat(md5(i::text), 150) from generate_series(1, 200) i;
insert into f select i, i, repeat(md5(i::text), 100) from generate_series(1, 100) i;
"""


class Changes:
    """Random transactions over TABLES, each right whatever the rows are."""

    def __init__(self, seed):
        self.random, self.next, self.n = random.Random(seed), 100000, 0

    def value(self):
        self.n += 1
        return self.n

    def fresh(self):
        self.next += 1
        return self.next

    def when(self):
        return "'1969-12-20'::timestamptz + interval '%d minutes'" % self.random.randint(0, DAYS * 1440)

    def body(self):
        r = self.random
        i, v = r.randint(1, 420), self.value()
        forms = dict(
            i=i,
            j=r.randint(1, 420),
            v=v,
            w=self.when(),
            new=self.fresh(),
            b=r.randint(1, 220),
            a=r.randint(0, 21),
            m=r.randint(2, 9),
        )
        return r.choice(
            (
                (
                    "insert into t values ({i}, {w}, {v}, {v}.5, 'new', repeat('x{v}', 3000), '{{{v}}}') on conflict (id) do"
                    " update set n = {v}"
                ),
                "update t set n = {v} where id = {i}",
                "update t set n = {v}, note = null where id between {i} and {i} + 20",
                "update t set created_at = {w} where id between {i} and {i} + 3",
                "update t set created_at = {w} where id = {i}; update t set created_at = {w} where id = {i}",
                "update t set big = repeat('b{v}', {m} * 400) where id = {i}; update t set n = -{v} where id = {i}",
                "update t set big = null where id = {i}",
                "update t set id = {new}, n = {v} where id = {i}",
                (
                    "update t set id = {new} where id = {i}; insert into t (id, created_at, n, big) select {i}, {w}, {v},"
                    " 'reused' where not exists (select from t where id = {i}); update t set n = n + 1 where id = {new}"
                ),
                (
                    "update t set id = -1 where id = {i}; update t set id = {i} where id = {j}; update t set id = {j} where"
                    " id = -1"
                ),
                "delete from t where id = {i}",
                "delete from t where id between {i} and {i} + {m}",
                (
                    "delete from t where id = {i}; insert into t (id, created_at, n) values ({i}, {w}, {v}); delete from t"
                    " where id = {i}; insert into t (id, created_at, n, big) values ({i}, {w}, {v}, 'again'); update t set n"
                    " = n * 2 where id = {i}"
                ),
                "insert into t (id, created_at, n) values ({new}, {w}, 1); delete from t where id = {new}",
                (
                    "insert into t (id, created_at, n, big) values ({new}, {w}, {v}, repeat('w', 9000)); update t set n = n +"
                    " 1 where id = {new}"
                ),
                "update t set n = n + 1, tags = tags || {v} where n % {m} = 1",
                "savepoint a; update t set n = -1 where id = {i}; rollback to a; update t set n = {v} where id = {j}",
                "insert into u values ('k{a}', {b}, {v}, repeat('u', 7000)) on conflict (a, b) do update set v = {v}",
                "update u set v = {v} where a = 'k{a}'",
                "update u set a = a || '+', v = {v} where a = 'k{a}' and b = {b}",
                (
                    "update u set b = b + 100000 where a = 'k{a}' and not exists (select from u x where x.a = u.a and x.b ="
                    " u.b + 100000)"
                ),
                "delete from u where b = {b}",
                "update f set v = {v} where id = {i} % 110",
                "update f set id = id + 1000, v = {v} where id = {i} % 110",
                "delete from f where id = {i} % 110",
                "insert into f values ({new}, {v}, repeat('f', 5000)); update f set v = 0 where id = {new}",
            )
        ).format(**forms)

    def transactions(self, count):
        return "".join(
            "begin; %s; commit;" % "; ".join(self.body() for _ in range(self.random.choice((1, 1, 2, 5))))
            for _ in range(count)
        )


def server_now(flow):
    return {table: flow.wanted(table) for table in ("t", "u", "f")}


def many_commits(t, what, options, commits=COMMITS, **keys):
    if not have_readers(t):
        return
    flow = LakeFlow(t, "LC1 %s" % what, TABLES, options, **keys)
    flow.once("snapshot is read")
    changes = Changes(what)
    held = [
        (server_now(flow), {table: flow.lake.metadata("public." + table)["current-snapshot-id"] for table in ("t", "u", "f")})
    ]
    for commit in range(commits):
        flow.sql(changes.transactions(changes.random.choice((1, 3, 10, 30))))
        result = t.tailrace("once", *flow.words(), state=flow.state).run(120)
        if result.code != 0:
            flow.check("commit %d" % (commit + 1), False, result.stderr[-900:])
            return
        held.append(
            (
                server_now(flow),
                {table: flow.lake.metadata("public." + table)["current-snapshot-id"] for table in ("t", "u", "f")},
            )
        )
    flow.check("%d commits" % commits, True)
    flow.same("after them", "t", "u", "f")
    for reader in readers().names + [name for name in readers().more if not flow.refused(name, "t")]:
        wrong, looked = [], 0
        for at, (wanted, snapshots) in enumerate(held):
            if reader != "DuckDB" and at % 6 != 0:
                continue
            for table in ("t", "u", "f"):
                try:
                    same, why = flow.looked(reader, table, wanted[table], snapshot=snapshots[table])
                except ReaderError as error:
                    same, why = False, str(error)
                looked += 1
                if not same:
                    wrong.append("commit %d %s: %s" % (at, table, why))
        flow.check("as of each commit %s (%d looks)" % (reader, looked), not wrong, wrong[:2])
    if any("deletes" in path for path in flow.lake.files()):
        suffixes = {os.path.splitext(path)[1] for path in flow.lake.files() if "/data/deletes-" in path}
        flow.equal("the deletes' form", suffixes, {".puffin" if "v3" in options else ".parquet"})
    else:
        flow.check("the deletes' form", False, "no delete file was written")
    flow.nothing_lost("files")
    return flow


def case_v2(t):
    many_commits(t, *FORMATS[0])


def case_v2_bucket(t):
    many_commits(t, *FORMATS[1])


def case_v3(t):
    many_commits(t, *FORMATS[2])


if os.environ.get("TAILRACE_TEST_LONG"):

    def case_v3_bucket_day(t):
        many_commits(t, *FORMATS[3])


def case_no_state(t):
    """The key index is built again from the table before each commit."""
    if not have_readers(t):
        return
    for what, options in (FORMATS[1], FORMATS[2]):
        flow = LakeFlow(t, "LC2 %s" % what, TABLES, options)
        flow.once("snapshot is read")
        changes = Changes("no state")
        for commit in range(12):
            flow.sql(changes.transactions(20))
            result = t.tailrace("once", *flow.words(), state=t.temp()).run(120)
            if result.code != 0:
                flow.check("commit %d" % commit, False, result.stderr[-900:])
                return
        flow.same("12 commits without local state", "t", "u", "f")


def running(t, what, options, seconds_of=12):
    """One `run` that commits each second while changes come; then stopped and compared."""
    if not have_readers(t):
        return
    flow = LakeFlow(t, "LC3 %s" % what, TABLES, options + "&freshness=1s")
    job = flow.run()
    changes = Changes("run " + what)
    session = flow.server.session(flow.database)
    first = flow.lake.commit()[1]
    while flow.lake.commit()[1] < first + seconds_of and job.running():
        session.execute(changes.transactions(10))
    flow.check("it runs", job.running(), job.stderr_text()[-900:])
    flow.stop()
    flow.once("catches up")
    flow.same("after %d commits of one run" % seconds_of, "t", "u", "f")


def case_run_v2(t):
    running(t, *FORMATS[1])


if os.environ.get("TAILRACE_TEST_LONG"):

    def case_run_v3(t):
        running(t, *FORMATS[3])


def case_burst(t):
    """More changes of few keys in one commit than a window takes, and a large one of many."""
    if not have_readers(t):
        return
    flow = LakeFlow(
        t,
        "LC4",
        "create table t (id int primary key, v int, big text); alter table t alter column big set storage external;"
        "insert into t select i, 0, repeat('b', 3000) from generate_series(1, 3000) i",
        "format=v2",
    )
    flow.once("snapshot is read")
    flow.sql(
        "do $$ begin for i in 1..30 loop update t set v = v + 1 where id <= 1000; end loop; end $$;"
        "insert into t select i, i, 'x' from generate_series(10001, 110000) i; update t set v = -v where id > 2000;"
        "delete from t where id % 7 = 0; update t set id = id + 1000000 where id % 11 = 0"
    )
    flow.once("changes are read")
    flow.same("burst", "t")
    flow.sql("update t set v = v + 1; delete from t where id % 2 = 0; update t set big = 'y' where id % 5 = 0")
    flow.once("changes of all are read")
    flow.same("all changed", "t")
    flow.sql("delete from t")
    flow.once("deletes of all are read")
    flow.same("all deleted", "t")
    flow.sql("insert into t values (1, 1, 'new')")
    flow.once("an insert into nothing")
    flow.same("one again", "t")


def case_run_burst_of_toast(t):
    """Rows inserted and updated in the same commit, their big texts only in the insert: read back from a file being written."""
    if not have_readers(t):
        return
    flow = LakeFlow(
        t,
        "LC5",
        "create table t (id int primary key, v int, big text); alter table t alter column big set storage external;",
        "format=v3&partition=bucket(4,id)",
    )
    flow.once("empty")
    flow.sql(
        "".join(
            "begin; insert into t select i, 0, repeat(i::text, 1500) from generate_series({0}, {0} + 50) i; commit; "
            "update t set v = 1 where id >= {0}; update t set v = 2 where id % 2 = 0; update t set id = -id where id % 5 = 0;"
            .format(100 * k)
            for k in range(1, 12)
        )
    )
    flow.once("changes are read")
    flow.same("toast of one commit", "t")
    wait_until(lambda: flow.lake.consistent(), 5, "consistent")
