"""What a lake must stand: a key index that is lost, damaged or old; many small commits; other writers; two instances;
a catalog that is locked; folders that cannot be written; disks that are full. After each, independent readers."""

import json
import os
import random
import re
import shutil
import sqlite3
import threading
import time

from harness import fill_disk, give_away, processes, small_disk, wait_until
from lake import LakeFlow, have_readers, path_of
from lake_readers import readers

FAST = False
TIMEOUT = 400
SERVER = {"settings": {"wal_sender_timeout": "3s"}}

NO_ROOM = re.compile("disk_full|no space|disk is full", re.IGNORECASE)

MAKE = (
    "create table t (id bigint primary key, v int, big text); alter table t alter column big set storage external;"
    "insert into t select i, 0, repeat('b', 3000) from generate_series(1, 2000) i;"
    "create table u (a text primary key, v int); insert into u select 'k' || i, i from generate_series(1, 500) i;"
)


def change(k):
    return (
        "update t set v = {0} where id % 7 = {0} % 7; delete from t where id = {0}; insert into t values (100000 + {0}, {0},"
        " 'n');update t set id = 200000 + {0} where id = 1000 + {0}; insert into u values ('n{0}', 1);update u set v = v + 1"
        " where a = 'k{0}'; delete from u where a = 'n' || ({0} - 3)"
    ).format(k)


def index_folder(flow):
    return os.path.join(flow.state, "cache", "index")


def index_files(flow):
    return sorted(os.path.join(folder, name) for folder, _folders, names in os.walk(index_folder(flow)) for name in names)


def find_index(flow):
    """The folder that holds the indexes, wherever the state folder keeps it for this job."""
    for folder, folders, _names in os.walk(flow.state):
        if folder.endswith("cache") and "index" in folders:
            return os.path.join(folder, "index")
    return None


def case_index_lost(t):
    if not have_readers(t):
        return
    for what, options in (("v2", "format=v2"), ("v3", "format=v3&partition=bucket(4,id)")):
        flow = LakeFlow(t, "LX1 " + what, MAKE, options)
        flow.once("snapshot is read")
        for k in range(1, 5):
            flow.sql(change(k))
            flow.once("changes %d" % k)
            folder = find_index(flow)
            flow.check("there is an index %d" % k, folder is not None, flow.state)
            if folder and k < 4:
                shutil.rmtree(folder)
        flow.same("index deleted", "t", "u")


def damaged(t, number, what, damage, seed=1):
    """`damage(paths, dice)` of the index files before each of some commits."""
    if not have_readers(t):
        return
    flow = LakeFlow(t, number, MAKE, "format=v3")
    dice = random.Random(seed)
    flow.once("snapshot is read")
    for k in range(1, 13):
        flow.sql(change(k))
        result = t.tailrace("once", *flow.words(), state=flow.state).run(120)
        if not flow.check("%s %d" % (what, k), result.code == 0, "exit %s: %s" % (result.code, result.stderr[-700:])):
            return
        folder = find_index(flow)
        damage(
            [os.path.join(top, name) for top, _f, names in os.walk(folder) for name in sorted(names)] if folder else [], dice
        )
    flow.once("at the end")
    flow.same(what, "t", "u")


def random_bytes(paths, dice):
    for path in paths:
        size = os.path.getsize(path)
        with open(path, "r+b") as file:
            for _ in range(dice.choice((1, 3, 50))):
                file.seek(dice.randrange(max(1, size)))
                file.write(bytes([dice.randrange(256)]))


def cut_off(paths, dice):
    for path in paths:
        os.truncate(path, dice.randrange(os.path.getsize(path) + 1))


def nonsense(paths, dice):
    for path in dice.sample(paths, (len(paths) + 1) // 2):
        with open(path, "wb") as file:
            file.write(dice.randbytes(dice.randrange(5000)))


def gone(paths, dice):
    for path in dice.sample(paths, (len(paths) + 1) // 2):
        os.unlink(path)


def case_index_corrupted(t):
    damaged(t, "LX2", "random bytes in the index", random_bytes)


def case_index_cut(t):
    damaged(t, "LX3", "index files cut", cut_off)


def case_index_nonsense(t):
    damaged(t, "LX4", "nonsense for index files", nonsense)


def case_index_files_gone(t):
    damaged(t, "LX5", "some index files gone", gone)


READ_AGAIN = re.compile("run the job once with the line `([^`]+): skip`, then without it")


def live_files(flow, table, content):
    """Paths of the present snapshot's files: 0 data, 1 deletes."""
    found = readers().ask(do="files", metadata=flow.lake.tables()[table])
    live = found[str(flow.lake.metadata(table)["current-snapshot-id"])]["live"]
    return [path_of(path) for path, _size, kind in live if kind == content]


def once_with(flow, line, what, **keys):
    """`once` by a job file of the flow's own job with that line more."""
    source, sink = flow.words()
    job = os.path.join(flow.t.temp(), "job")
    with open(job, "w", encoding="utf-8") as file:
        file.write("%s -> %s\n%s" % (source, sink, line))
    result = flow.t.tailrace("once", job, state=flow.state).run(120)
    flow.check(what, result.code == 0, "exit %s: %s" % (result.code, result.stderr[-900:]))
    return result


def file_lost(t, number, options, lose):
    """`lose(flow)` takes a file of public.t away; the job stops, and does what the message says."""
    flow = LakeFlow(t, number, MAKE, options)
    flow.once("snapshot is read")
    for k in range(1, 4):
        flow.sql(change(k))
        flow.once("changes %d" % k)
    lose(flow)
    shutil.rmtree(find_index(flow))
    flow.sql(change(4))
    result = t.tailrace("once", *flow.words(), state=flow.state).run(120)
    said = READ_AGAIN.search(result.stderr)
    flow.check("stops and says what helps", result.code != 0 and said, "exit %s: %s" % (result.code, result.stderr[-900:]))
    if not said:
        return
    flow.equal("of which table", said.group(1), "public.t")
    once_with(flow, said.group(1) + ": skip\n", "without the table")
    flow.sql(change(5))
    once_with(flow, "", "with it again")
    flow.same("read again", "t", "u")
    for k in range(6, 9):
        flow.sql(change(k))
        flow.once("changes %d" % k)
    flow.same("after it was read again", "t", "u")


def lose_data(flow):
    os.unlink(sorted(live_files(flow, "public.t", 0), key=os.path.getsize)[-1])


def lose_deletes(flow):
    os.unlink(live_files(flow, "public.t", 1)[0])


def damage_data(flow):
    path = sorted(live_files(flow, "public.t", 0), key=os.path.getsize)[-1]
    os.truncate(path, os.path.getsize(path) // 2)


def lose_list(flow):
    snapshot = flow.lake.snapshots("public.t")[-1]
    os.unlink(path_of(snapshot["manifest-list"]))


def lose_manifest(flow):
    found = readers().ask(do="files", metadata=flow.lake.tables()["public.t"])
    os.unlink(path_of(found[str(flow.lake.metadata("public.t")["current-snapshot-id"])]["manifests"][0]))


def case_data_file_lost(t):
    if have_readers(t):
        file_lost(t, "LX30", "format=v2", lose_data)


def case_data_file_cut(t):
    if have_readers(t):
        file_lost(t, "LX31", "format=v3&partition=bucket(4,id)", damage_data)


def case_delete_file_lost(t):
    if have_readers(t):
        file_lost(t, "LX32", "format=v2", lose_deletes)
        file_lost(t, "LX32 v3", "format=v3", lose_deletes)


def case_manifest_lost(t):
    if have_readers(t):
        file_lost(t, "LX33", "format=v2", lose_manifest)
        file_lost(t, "LX33 list", "format=v3", lose_list)


def case_index_stale(t):
    """An index of an older time is copied back, of one and of several commits ago, and one of another warehouse."""
    if not have_readers(t):
        return
    flow = LakeFlow(t, "LX6", MAKE, "format=v2")
    flow.once("snapshot is read")
    kept = []
    for k in range(1, 8):
        kept.append(os.path.join(t.temp(), "index"))
        shutil.copytree(find_index(flow), kept[-1])
        flow.sql(change(k))
        flow.once("changes %d" % k)
        if k % 2 == 0:
            folder = find_index(flow)
            shutil.rmtree(folder)
            shutil.copytree(kept[0] if k == 6 else kept[-1], folder)
    flow.sql(change(50))
    flow.once("with a stale index")
    flow.same("stale index", "t", "u")


def live_manifests(flow, table):
    metadata = flow.lake.metadata(table)
    found = readers().ask(do="files", metadata=flow.lake.tables()[table])
    return len(found[str(metadata["current-snapshot-id"])]["manifests"])


def case_many_commits(t):
    """300 small commits: few manifests live, metadata stays small, what expired is gone from disk, all else is named."""
    if not have_readers(t):
        return
    flow = LakeFlow(t, "LX7", MAKE, "format=v2&history=60s&freshness=1s")
    flow.once("snapshot is read")
    begun = time.monotonic()
    first = flow.lake.snapshots("public.t")[0]
    for k in range(300):
        flow.sql("update t set v = v + 1 where id = %d; insert into t values (%d, 1, 'x')" % (1 + k % 2000, 500000 + k))
        result = t.tailrace("once", *flow.words(), state=flow.state).run(60)
        if result.code != 0:
            flow.check("commit %d" % k, False, result.stderr[-700:])
            return
    flow.check("300 commits in %.0f s" % (time.monotonic() - begun), True)
    manifests, size = live_manifests(flow, "public.t"), os.path.getsize(flow.lake.tables()["public.t"][len("file://") :])
    flow.check("%d manifests live" % manifests, manifests <= 12)
    t.note("metadata file %d bytes, %d snapshots" % (size, len(flow.lake.snapshots("public.t"))))
    wait = 61 - (time.monotonic() - begun)
    if wait > 0:
        time.sleep(wait)  # history is at least a minute
    flow.sql("update t set v = v + 1 where id = 5")
    flow.once("one more")
    kept = {s["snapshot-id"] for s in flow.lake.snapshots("public.t")}
    flow.check("the first snapshot expired", first["snapshot-id"] not in kept, len(kept))
    odd = flow.nothing_lost("files")
    flow.equal("files that nobody names", odd[:5], [])
    flow.same("after 300 commits", "t", "u")


def case_foreign_property(t):
    """PyIceberg sets a property between two commits, and while a job runs: ours follow, and keep it."""
    if not have_readers(t):
        return
    flow = LakeFlow(t, "LX8", MAKE, "format=v2&freshness=1s")
    flow.once("snapshot is read")
    readers().ask(do="set_property", folder=flow.lake.path, table="public.t", key="foreign.note", value="one")
    flow.sql(change(1))
    flow.once("after a foreign commit")
    flow.equal("its property is kept", flow.lake.metadata("public.t")["properties"].get("foreign.note"), "one")
    flow.run()
    for k in range(2, 7):
        flow.sql(change(k))
        readers().ask(do="set_property", folder=flow.lake.path, table="public.t", key="foreign.note", value="run %d" % k)
        seq = flow.lake.commit()[1]
        wait_until(lambda: flow.lake.commit()[1] > seq or not flow.job.running(), 60, "a commit after a foreign one")
    flow.check("the job goes on", flow.job.running(), flow.job.stderr_text()[-700:])
    flow.stop()
    flow.once("catches up")
    flow.equal("the last property is kept", flow.lake.metadata("public.t")["properties"].get("foreign.note"), "run 6")
    flow.same("foreign properties", "t", "u")


def case_foreign_rows(t):
    """PyIceberg appends rows: they stay, updates of ours find theirs, and an insert of a key that they took stops the job."""
    if not have_readers(t):
        return
    flow = LakeFlow(t, "LX9", MAKE, "format=v2")
    flow.once("snapshot is read")
    readers().ask(
        do="append",
        folder=flow.lake.path,
        table="public.t",
        rows=[{"id": 7000000, "v": 1, "big": "foreign"}, {"id": 7000001, "v": 2, "big": "foreign"}],
    )
    flow.sql(change(1))
    flow.once("after foreign rows")
    rows = {row["id"]: row for row in flow.read("DuckDB", "t")}
    flow.check("the foreign rows stay", "7000000" in rows and "7000001" in rows, len(rows))
    flow.sql("delete from t where id = 5; insert into t values (7000000, 3, 'ours')")
    said = flow.once("an insert of a key that lives stops", 1, "key that is in the lake already").stderr
    flow.check("and names the cure", "cure:" in said, said[-400:])


def case_foreign_table(t):
    """A table of the same name that is not ours is not touched."""
    if not have_readers(t):
        return
    flow = LakeFlow(t, "LX10", MAKE, "format=v2")
    readers().ask(do="create", folder=flow.lake.path, table="public.t")
    before = flow.lake.tables()["public.t"]
    said = flow.once("stops", 1, "public.t").stderr
    flow.check("the cure", "cure:" in said, said[-400:])
    flow.equal("it is as it was", flow.lake.tables()["public.t"], before)
    flow.equal("its rows", readers().rows("PyIceberg", before), [{"foreign_id": "7"}])


def case_two_jobs(t):
    """Two jobs of different names share a warehouse if their tables differ, and not if they are the same."""
    if not have_readers(t):
        return
    flow = LakeFlow(t, "LX11", MAKE, "format=v2")
    flow.once("snapshot is read")
    other = LakeFlow(
        t,
        "LX11 other",
        "create table w (id int primary key, v int); insert into w values (1, 1)",
        "format=v3",
        folder=flow.lake.path,
    )
    other.once("another job's tables")
    flow.sql(change(1))
    flow.once("the first goes on")
    flow.same("the first", "t", "u")
    other.same("the other", "w")
    third = LakeFlow(t, "LX11 third", MAKE, "format=v2", folder=flow.lake.path)
    third.once("tables of another job", 1, "public.t")
    flow.same("the first, untouched", "t", "u")


def case_fencing(t):
    """The older instance stands still, a newer one takes over; the older wakes and ends with 4; nothing is lost or doubled."""
    if not have_readers(t):
        return
    flow = LakeFlow(t, "LX12", MAKE, "format=v3&freshness=1s")
    older = flow.run()
    seq = flow.lake.commit()[1]
    flow.sql(change(1))
    wait_until(lambda: flow.lake.commit()[1] > seq or not older.running(), 30, "a commit")
    flow.sql(change(2))
    older.pause()
    newer = t.tailrace("run", *flow.words()).start()
    wait_until(lambda: flow.lake.commit()[0] > 1 or not newer.running(), 60, "the newer instance")
    flow.sql(change(3))
    epoch, seq = flow.lake.commit()
    wait_until(lambda: flow.lake.commit()[1] > seq or not newer.running(), 60, "a commit of the newer instance")
    older.resume()
    flow.equal("the older ends with 4", older.wait(60), 4)
    flow.check("and says why", "cure:" in older.stderr_text(), older.stderr_text()[-500:])
    flow.check("the newer goes on", newer.running(), newer.stderr_text()[-500:])
    flow.equal("the newer stops", newer.terminate(), 0)
    flow.once("catches up")
    flow.same("fenced", "t", "u")


def case_fenced_at_points(t):
    """The same, the older stopped within its commit."""
    if not have_readers(t):
        return
    for point in (
        "iceberg.before_settle",
        "iceberg.before_commit",
        "iceberg.after_commit",
        "iceberg.after_seal",
        "iceberg.after_stage",
    ):
        flow = LakeFlow(t, "LX13 %s" % point, MAKE, "format=v2&freshness=1s")
        flow.once("snapshot is read")
        flow.sql(change(1))
        older = flow.start(failpoints=point + "=stop@1")
        wait_until(lambda: older.is_stopped() or not older.running(), 40, point)
        newer = t.tailrace("run", *flow.words()).start()
        epoch = flow.lake.commit()[0]
        wait_until(lambda: flow.lake.commit()[0] > epoch or not newer.running(), 60, "the newer instance")
        flow.sql(change(2))
        older.resume()
        flow.equal("the older ends with 4", older.wait(60), 4)
        flow.equal("the newer stops", newer.terminate(), 0)
        flow.once("catches up")
        flow.same("fenced at it", "t", "u", only=("DuckDB",))


def case_unknown_outcomes(t):
    """An error before, at and after the catalog's transaction: the target is asked; nothing is lost, nothing doubled."""
    if not have_readers(t):
        return
    for point in (
        "iceberg.after_commit",
        "iceberg.before_commit",
        "iceberg.before_settle",
        "iceberg.after_seal",
        "iceberg.before_stage",
    ):
        flow = LakeFlow(t, "LX17 %s" % point, MAKE, "format=v3&freshness=1s")
        job = flow.start(failpoints=";".join("%s=error@%d" % (point, nth) for nth in (1, 3)))
        wait_until(lambda: flow.lake.consistent() or not job.running(), 60, "the snapshot")
        for k in range(1, 5):
            seq = flow.lake.commit()[1]
            flow.sql(change(k))
            wait_until(lambda: flow.lake.commit()[1] > seq or not job.running(), 60, "a commit")
        flow.check("it goes on", job.running(), job.stderr_text()[-700:])
        flow.check("errors were planted", point in job.failpoints_reached()[1], job.failpoints_reached())
        flow.stop()
        flow.once("catches up")
        flow.same("after errors", "t", "u")
        flow.nothing_lost("files")


STEPS = (
    "writer.before_seal",
    "iceberg.before_stage",
    "iceberg.after_stage",
    "iceberg.after_seal",
    "commit.before_commit",
    "iceberg.before_settle",
    "iceberg.before_commit",
    "iceberg.after_commit",
    "commit.after_ack",
)


def epoch_of(path):
    """Of the instance that wrote a file."""
    if path.endswith(".metadata.json"):
        with open(path) as file:
            return int(json.load(file)["properties"]["tailrace.epoch"])
    return int(os.path.basename(path).split("-")[-2])


def case_crash_matrix(t):
    """Killed at each step of a commit that appends, updates, deletes and changes a schema: before the next start every file that
    a table names is there, and what nobody names is of the killed instance; then the lake has what the server has."""
    if not have_readers(t):
        return
    for options in ("format=v2&freshness=1s", "format=v3&freshness=1s&partition=bucket(3,id)"):
        flow = LakeFlow(t, "LX20 " + options[7:9], MAKE, options)
        flow.once("snapshot is read")
        for k, point in enumerate(STEPS, 1):
            flow.sql("alter table u add column c%d int; " % k + change(k))
            epoch = flow.lake.commit()[0]
            before = set(flow.nothing_lost(point + " before"))
            killed = flow.start(failpoints=point + "=kill@1")
            flow.equal(point + " kills", killed.wait(60), -9)
            left = set(flow.nothing_lost(point)) - before
            flow.equal(point + " files of others", [path for path in left if epoch_of(path) != epoch + 1][:5], [])
            flow.once(point + " goes on", **({"state": t.temp()} if k % 3 == 0 else {}))
            flow.same(point, "t", "u", only=("DuckDB",))
        flow.same("at the end", "t", "u")


def case_many_tables(t):
    """Two hundred tables change in one transaction: all of them show it in one commit."""
    if not have_readers(t):
        return
    tables = range(200)
    flow = LakeFlow(
        t,
        "LX18",
        "".join("create table m%d (id int primary key, v int); insert into m%d values (1, 0);" % (n, n) for n in tables),
        "format=v2",
    )
    flow.once("snapshot is read")
    flow.sql("begin;" + "".join("update m%d set v = 7; insert into m%d values (2, 7);" % (n, n) for n in tables) + "commit")
    flow.once("changes are read")
    commits, wrong = set(), []
    for n in tables:
        commits.add(flow.lake.snapshots("public.m%d" % n)[-1]["summary"]["tailrace.commit"])
        rows = sorted((row["id"], row["v"]) for row in flow.read("DuckDB", "m%d" % n))
        if rows != [("1", "7"), ("2", "7")]:
            wrong.append((n, rows))
    flow.equal("one commit", len(commits), 1)
    flow.equal("rows of all", wrong[:3], [])


def case_catalog_locked(t):
    """Another process holds catalog.db for two seconds: the commit waits."""
    if not have_readers(t):
        return
    flow = LakeFlow(t, "LX14", MAKE, "format=v2")
    flow.once("snapshot is read")
    flow.sql(change(1))
    lock = sqlite3.connect(os.path.join(flow.lake.path, "catalog.db"), isolation_level=None, check_same_thread=False)
    lock.execute("begin exclusive")
    begun = time.monotonic()
    timer = threading.Timer(2.0, lambda: (lock.execute("rollback"), lock.close()))
    timer.start()
    flow.once("waits")
    took = time.monotonic() - begun
    timer.join()
    flow.check("it took %.1f s" % took, took >= 2.0)
    flow.same("locked catalog", "t", "u")


def case_read_only(t):
    """A folder that belongs to somebody else: a clear stop."""
    user = processes.server_user()
    parent = t.temp()
    os.chmod(parent, 0o555)
    flow = LakeFlow(t, "LX15", MAKE, "format=v2", folder=os.path.join(parent, "lake"))
    flow.state = t.temp()
    if user:
        give_away(flow.state)
    result = flow.once("stops", 3, parent, unprivileged=True)
    flow.check("the cure", "cure:" in result.stderr, result.stderr[-400:])


def case_full_disk(t):
    """The disk fills up at some commit: nothing is lost, nothing doubled; with room again it goes on."""
    if not have_readers(t):
        return
    disk = small_disk(24 << 20)
    if disk is None:
        t.skip("LX16 full disk", "no small file system can be mounted here")
        return
    flow = LakeFlow(t, "LX16", MAKE, "format=v2&freshness=1s", folder=os.path.join(disk, "lake"))
    job = flow.run()
    for k in range(1, 5):
        said = len(NO_ROOM.findall(job.stderr_text()))
        filler = fill_disk(disk)
        if k % 2:
            with open(filler, "r+b") as file:
                file.truncate(max(0, os.path.getsize(filler) - (8192 << k)))
        flow.sql(
            change(k)
            + "; insert into t select i, 0, md5(i::text) || repeat('q', 500) from generate_series({0}, {0} + 2000) i".format(
                300000 + k * 3000
            )
        )
        wait_until(lambda: len(NO_ROOM.findall(job.stderr_text())) > said or not job.running(), 60, "a full disk")
        os.unlink(filler)
        if not job.running():
            flow.check("it waits %d" % k, False, job.stderr_text()[-700:])
            return
        seq = flow.lake.commit()[1]
        wait_until(lambda: flow.lake.commit()[1] > seq or not job.running(), 60, "room again")
    flow.check("it goes on", job.running(), job.stderr_text()[-700:])
    flow.stop()
    flow.once("catches up")
    flow.same("full disk", "t", "u")
