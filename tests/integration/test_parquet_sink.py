"""parquet: folders, judged by pyarrow and DuckDB: contents against the server, every commit for itself, kills at each
failpoint, two instances, local state that is gone."""

import glob
import json
import os
import shutil
import subprocess

from harness import wait_until
from harness.tailrace import ROOT
from kill_loop import failpoint_names
from lake_readers import INSTALL, readers

FAST = False
TIMEOUT = 400
SERVER = {"settings": {"wal_sender_timeout": "3s"}}

BANK = ("create table a (id int primary key, n int not null); create table b (id int primary key, n int not null); "
    "insert into a select g, 100 from generate_series(1, 300) g; insert into b select g, 100 from generate_series(1, 300) g;")
TOTAL = 60000
TRANSFERS = ("do $$ begin for i in 1..%d loop update a set n = n - i %% 7 where id = 1 + i %% 300; "
    "update b set n = n + i %% 7 where id = 1 + (i * 31) %% 300; commit; perform pg_sleep(0.002); end loop; end $$")


class Folder:
    """A job into a parquet: folder, and what others read there."""

    count = 0

    def __init__(self, t, what, sql, keys, options=""):
        Folder.count += 1
        self.t, self.keys = t, keys
        self.label = "parquet pg%d %s" % (t.server.version(), what)
        self.database = t.database(sql)
        self.path = os.path.join(t.temp(), "changes")
        self.words = [t.server.url(self.database),
                      "parquet://%s?job=parquet_%d&freshness=200ms%s" % (self.path, Folder.count, options)]

    def once(self, what, code=0, **keys):
        result = self.t.tailrace("once", *self.words, **keys).run(120)
        self.check(what, result.code == code, "exit %s: %s" % (result.code, result.stderr[-800:]))
        return result

    def start(self, **keys):
        return self.t.tailrace("run", *self.words, **keys).start()

    def commits(self):
        """Commit lines, oldest first."""
        found = []
        for path in sorted(glob.glob(os.path.join(self.path, "_commits", "[0-9]*.jsonl"))):
            with open(path, encoding="utf-8") as file:
                found.append(json.loads(file.read().rstrip("\n").rsplit("\n", 1)[-1])["commit"])
        return found

    def rows(self):
        return sum(commit["rows"] for commit in self.commits())

    def consistent(self, job):
        def stands():
            commits = self.commits()
            return commits and commits[-1]["schema"] and not commits[-1]["inconsistent"] or not job.running()
        wait_until(stands, 60, "a consistent commit")

    def read(self, bank=()):
        python = os.path.join(where(), "venv", "bin", "python")
        script = os.path.join(ROOT, "tests", "integration", "parquet_fold.py")
        done = subprocess.run([python, script, self.path], input=json.dumps({"keys": self.keys, "bank": list(bank)}),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", check=False, timeout=120)
        self.t.require(self.label + " is read", done.returncode == 0, done.stderr[-2000:])
        return json.loads(done.stdout)

    def same(self, what, bank=(), forms=None):
        """Every table as the server has it now, by pyarrow commit by commit and by DuckDB over the visible files."""
        seen = self.read(bank)
        self.equal(what + ": nothing odd", seen["problems"], [])
        self.equal(what + ": nothing staged is left", seen["hidden"], [])
        for table, rows in sorted(seen["tables"].items()):
            cells = ", ".join((forms or {}).get(name, '"%s"::text' % name) for name in seen["columns"][table])
            want = sorted(self.t.server.sql("select %s from %s" % (cells, table), self.database), key=str)
            want = [list(row) for row in want]
            self.check("%s: %s by pyarrow" % (what, table), rows == want, difference(rows, want))
            if table in seen["duckdb"]:
                self.check("%s: %s by DuckDB" % (what, table), seen["duckdb"][table] == want,
                           difference(seen["duckdb"][table], want))
        if bank:
            self.equal(what + ": the bank's sum in every consistent commit", set(seen["banks"]), {TOTAL})
        return seen

    def equal(self, what, got, want):
        return self.t.equal("%s %s" % (self.label, what), got, want)

    def check(self, what, condition, why=""):
        return self.t.check("%s %s" % (self.label, what), condition, why)


def where():
    """The folder of the readers that are not ours."""
    return os.environ.get("TAILRACE_LAKE_READERS") or subprocess.run(
        [INSTALL, "--where"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout.decode().strip()


def difference(got, want):
    return "%d rows, want %d; only there: %s; missing: %s" % (
        len(got), len(want), [row for row in got if row not in want][:3], [row for row in want if row not in got][:3])


def usable(t):
    if readers():
        return True
    t.skip("parquet folders read by DuckDB and pyarrow", "tests/servers/lake_readers.sh cannot install them here")
    return False


def case_snapshot_and_stream(t):
    """Inserts, updates, deletes, keys that move, TRUNCATE, a table without a key, columns that come and go."""
    if not usable(t):
        return
    folder = Folder(t, "contents",
        "create table t (id int primary key, n int, body text); insert into t select g, g, 'b' || g from generate_series(1, 500)"
        " g; create table k (a int, b text); alter table k replica identity full; insert into k values (1, 'x'), (1, 'x');"
        " create table \"Odd/one\" (id int primary key, v text); insert into \"Odd/one\" values (1, 'q');"
        " create table gone (id int primary key); insert into gone select generate_series(1, 9);",
        {"public.t": ["id"], "public.gone": ["id"]})
    job = folder.start()
    folder.consistent(job)
    steps = (
        "insert into t values (1001, 1, 'new'); update t set n = n + 1 where id <= 100; delete from t where id > 450",
        "update t set id = id + 2000 where id between 200 and 210; update t set id = 450 where id = 1001",
        "insert into k values (2, null), (3, 'z'); update k set b = 'y' where a = 2; delete from k where ctid = '(0,1)'",
        "alter table t add column more numeric(10,2); update t set more = 12.30 where id < 10",
        "truncate gone; insert into gone values (77)",
        "begin; update t set n = 0 where id = 5; update t set n = 1 where id = 5; delete from t where id = 5;"
        " insert into t values (5, 5, 'again', 1); commit",
        "alter table t drop column n; insert into t values (9000, 'last', null)",
    )
    for step in steps:
        before = folder.rows()
        t.server.sql(step, folder.database)
        wait_until(lambda: folder.rows() > before or not job.running(), 60, "a commit with rows")
    folder.equal("stops", job.terminate(), 0)
    folder.once("catches up")
    folder.keys.pop("public.gone")  # counted below: its columns are the same before and after
    seen = folder.read()
    folder.equal("nothing odd", seen["problems"], [])
    folder.keys["public.gone"] = ["id"]
    names = sorted(name for name in os.listdir(folder.path))
    folder.equal("folders", names, ["_commits", "public.Odd%2Fone", "public.gone", "public.k", "public.t"])
    seen = folder.read()
    for table in ("t", "k", "gone"):
        columns = seen["columns"]["public." + table]
        want = sorted(([str(c) if c is not None else None for c in row] for row in t.server.sql(
            "select %s from %s" % (", ".join("%s::text" % name for name in columns), table), folder.database)), key=str)
        got = seen["tables"]["public." + table]
        folder.check(table + " by pyarrow", got == want, difference(got, want))
        if table != "k":
            got = seen["duckdb"]["public." + table]
            folder.check(table + " by DuckDB", got == want, difference(got, want))


def case_types(t):
    """Values as lake types; unchanged TOAST cells are named."""
    if not usable(t):
        return
    big = "(select string_agg(md5(g::text || i), '') from generate_series(1, 400) g)"
    folder = Folder(t, "types",
        "create table v (id bigint primary key, i2 smallint, f8 float8, d numeric(20,4), w numeric, b bool, day date,"
        " at timestamptz, u uuid, j jsonb, l int[], big text);"
        " insert into v select i, i, i / 4.0, i * 1.0001, i, i % 2 = 0, date '2020-01-01' + i, timestamptz '2020-01-01Z' + i *"
        " interval '1 hour', md5(i::text)::uuid, json_build_object('i', i), array[i, null], " + big +
        " from generate_series(1, 40) i; insert into v (id) values (1000);", {})
    folder.keys = {"public.v": ["id"]}
    folder.once("snapshot")
    t.server.sql("update v set i2 = 7 where id <= 20; update v set id = -id where id between 30 and 35; "
                 "update v set big = 'short' where id = 3", folder.database)
    folder.once("stream")
    seen = folder.read()
    folder.equal("nothing odd", seen["problems"], [])
    forms = {"at": "(extract(epoch from at) * 1000000)::bigint::text", "b": "case when b then 't' when not b then 'f' end",
             "l": "'[' || array_to_string(l, ',', 'null') || ']'"}
    columns = seen["columns"]["public.v"]
    cells = ", ".join(forms.get(name, name + "::text") for name in columns)
    want = sorted((list(row) for row in t.server.sql("select %s from v" % cells, folder.database)), key=str)
    floats = columns.index("f8")
    for row in want:
        row[floats] = None if row[floats] is None else repr(float(row[floats]))
    got = seen["tables"]["public.v"]
    folder.check("by pyarrow", got == want, difference(got, want))
    toast = columns.index("big")
    carried = [row[:toast] + row[toast + 1:] for row in seen["duckdb"]["public.v"]]
    want = [row[:toast] + row[toast + 1:] for row in want]
    folder.check("by DuckDB, but for the cells that are named unchanged", carried == want, difference(carried, want))


def case_killed_at_each_failpoint(t):
    """kill -9 at every failpoint of the sink and around commits, while a bank transfers; local state gone each third time."""
    if not usable(t):
        return
    folder = Folder(t, "kills", BANK, {"public.a": ["id"], "public.b": ["id"]})
    points = sorted(name for name in failpoint_names() if name.startswith("parquet.")) + ["commit.after_commit"]
    folder.check("failpoints are known", len(points) >= 16, points)
    load = t.server.session(folder.database)
    load.send(TRANSFERS % 12000)
    job = t.tailrace("run", *folder.words)
    for number, point in enumerate(points):
        if number % 3 == 2:
            shutil.rmtree(job.state, ignore_errors=True)
        job.failpoints = "%s=kill@%d" % (point, 1 if "claim" in point or "schema" in point else 2)
        job.start()
        # A schema comes with the first commits only, an idle position only where nothing happens: they need not fire here.
        seconds = 3 if "idle" in point or "schema" in point else 20
        try:
            wait_until(lambda: not job.running(), seconds, "the kill at " + point)
        except Exception:  # pylint: disable=broad-except
            pass
        job.kill()
    load.receive(200)
    for point in ("parquet.before_idle", "parquet.after_idle"):
        folder.once("before " + point)
        t.server.sql("select pg_current_xact_id()", folder.database)  # the log moves, no table does
        result = t.tailrace("once", *folder.words, failpoints=point + "=kill", folder=job.folder).run(60)
        folder.equal("killed at " + point, result.code, -9)
    fired = job.failpoints_reached()[1]
    wanted = {point for point in points if "schema" not in point}
    folder.equal("failpoints that did not fire", sorted(wanted - fired), [])
    folder.once("after the kills")
    folder.same("after the kills", bank=("public.a", "public.b"))
    shutil.rmtree(job.state, ignore_errors=True)
    folder.once("without local state")
    folder.same("without local state", bank=("public.a", "public.b"))
    epochs = [commit["epoch"] for commit in folder.commits()]
    folder.equal("epochs never go back", epochs, sorted(epochs))


def case_killed_between_commit_and_names(t):
    """The commit stands, its files have no names yet: readers of the visible files see none of it, and the next start
    completes it."""
    if not usable(t):
        return
    for point in ("parquet.after_dir_sync", "parquet.after_name"):
        folder = Folder(t, point, BANK, {"public.a": ["id"], "public.b": ["id"]})
        folder.once("snapshot")
        t.server.sql("begin; update a set n = n - 5; update b set n = n + 5; commit", folder.database)
        # The claim passes after_dir_sync too, and looks after the names of the commit below it.
        result = t.tailrace("once", *folder.words,
                            failpoints="%s=kill@%d" % (point, 2 if point.endswith("sync") else 3)).run(60)
        folder.equal("was killed", result.code, -9)
        staged = glob.glob(os.path.join(folder.path, "public.*", ".*"))
        folder.equal("files without a name", len(staged), 2 if point.endswith("sync") else 1)
        newest = folder.commits()[-1]
        folder.equal("the commit stands", newest["rows"], 600)
        folder.once("next start")
        folder.same("next start", bank=("public.a", "public.b"))


def case_two_instances(t):
    """The older stands still between its commit and the names; a newer one completes them and goes on; the older ends with
    4."""
    if not usable(t):
        return
    for point in ("parquet.after_dir_sync", "parquet.before_rename", "parquet.after_name", "parquet.after_seal"):
        folder = Folder(t, "two at " + point, BANK, {"public.a": ["id"], "public.b": ["id"]})
        folder.once("snapshot")
        load = t.server.session(folder.database)
        load.send(TRANSFERS % 2000)
        older = folder.start(failpoints="%s=stop@3" % point)
        wait_until(lambda: older.is_stopped() or not older.running(), 40, "the stop at " + point)
        newer = folder.start()
        newer.wait_log("job started", 60)
        epoch = folder.commits()[-1]["epoch"]
        wait_until(lambda: folder.commits()[-1]["rows"] > 0 and folder.commits()[-1]["epoch"] >= epoch or not newer.running(),
                   60, "a commit of the newer instance")
        older.resume()
        folder.equal("the older ends with 4", older.wait(60), 4)
        load.receive(120)
        folder.equal("the newer stops", newer.terminate(), 0)
        folder.once("catches up")
        folder.same("taken over", bank=("public.a", "public.b"))
