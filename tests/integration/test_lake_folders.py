"""Readers that are given a table's folder: whether they go by version-hint.text or by the highest number of a metadata file, as
ClickHouse does, they open what the catalog names, also where other programs have committed and where commits did not come
about."""

import os
import re

from harness import wait_until
from lake import LakeFlow, have_readers, path_of, seconds
from lake_readers import readers

FAST = False
TIMEOUT = seconds(300)
MAKE = (
    "create table t (id int primary key, v int); insert into t select i, i from generate_series(1, 50) i;"
    "create table none (id int primary key, v int);"
)


def change(k):
    return "update t set v = v + 1 where id %% 5 = %d; delete from t where id = %d; insert into t values (%d, 0);" % (
        k % 5, k, 100 + k)


def newest(flow, table):
    """Names of the metadata files with the highest number in the table's folder."""
    folder = os.path.dirname(path_of(flow.lake.tables()["public." + table]))
    numbers = {}
    for name in os.listdir(folder):
        found = re.match(r"(\d+)-.*\.metadata\.json$", name)
        if found:
            numbers.setdefault(int(found.group(1)), []).append(name)
    return numbers[max(numbers)]


def opened_rightly(flow, what, tables=("t", "none")):
    for table in tables:
        url = path_of(flow.lake.tables()["public." + table])
        flow.equal("%s: %s by number" % (what, table), newest(flow, table), [os.path.basename(url)])
        with open(os.path.join(os.path.dirname(url), "version-hint.text"), encoding="utf-8") as file:
            flow.equal("%s: %s by hint" % (what, table), file.read() + ".metadata.json", os.path.basename(url))
    flow.same(what, *tables)


def case_other_programs(t):
    """Those that commit number their files one after the last; so do we, whatever the snapshots' numbers are."""
    if not have_readers(t):
        return
    flow = LakeFlow(t, "LF1", MAKE, "format=v2")
    flow.once("snapshot is read")
    opened_rightly(flow, "first")
    for k in range(1, 4):
        for _ in range(k):
            readers().ask(do="set_property", folder=flow.lake.path, table="public.t", key="foreign", value=str(k))
        flow.sql(change(k))
        flow.once("after a foreign commit")
        opened_rightly(flow, "after %d foreign commits" % k)
    flow.sql("alter table none add column w text")
    flow.once("a column of a table without rows")
    opened_rightly(flow, "a column of a table without rows")


def case_commits_that_did_not_come_about(t):
    """Killed before the catalog's transaction, of a table's first commit and of later ones: the next one has a higher number."""
    if not have_readers(t):
        return
    flow = LakeFlow(t, "LF2", MAKE, "format=v2")
    point = "iceberg.before_commit"
    for k in range(3):
        killed = flow.t.tailrace("once", *flow.words(), state=flow.state, failpoints=point + "=kill@1").start()
        killed.wait(60)
        flow.check("killed %d" % k, point in killed.failpoints_reached()[1], killed.stderr_text()[-500:])
    flow.once("snapshot is read")
    opened_rightly(flow, "killed in the first commit")
    for k in range(1, 4):
        flow.sql(change(k))
        for _ in range(k):
            killed = flow.t.tailrace("once", *flow.words(), state=flow.state, failpoints=point + "=kill@1").start()
            killed.wait(60)
        flow.once("changes are read")
        opened_rightly(flow, "killed %d times" % k)


def case_errors(t):
    """Errors at each step of a run's commits."""
    if not have_readers(t):
        return
    for point in ("iceberg.after_commit", "iceberg.before_commit"):
        flow = LakeFlow(t, "LF3 %s" % point, MAKE, "format=v2&freshness=1s")
        job = flow.start(failpoints=";".join("%s=error@%d" % (point, nth) for nth in (1, 3, 4)))
        wait_until(lambda: flow.lake.consistent() or not job.running(), 60, "the snapshot")
        for k in range(1, 4):
            seq = flow.lake.commit()[1]
            flow.sql(change(k))
            wait_until(lambda: flow.lake.commit()[1] > seq or not job.running(), 60, "a commit")
        flow.check("it goes on", job.running(), job.stderr_text()[-700:])
        flow.stop()
        flow.once("catches up")
        opened_rightly(flow, "after errors")
