"""A database, a jsonl: folder and one job between them: what most cases of the catalogue do. Thread: main."""

import json
import os

from harness import wait_until
from harness.checks import compare_table


def pg(t):
    """`pg15`: the server of a check's name."""
    return "pg%d" % t.server.version()


class Flow:
    """A job from a new database to a new folder. `number`: the catalogue's, in front of every check's name."""

    count = 0

    def __init__(self, t, number, sql=None, server=None, database=None, rules=None, arguments=(), **keys):
        self.t = t
        self.server = server or t.server
        self.label = "%s pg%d" % (number, self.server.version())
        self.database = database or t.database(sql, self.server)
        self.folder = t.jsonl()
        self.keys = keys
        self.arguments = list(arguments)
        self.rules = rules
        self.job = None
        self._rows = {}
        Flow.count += 1
        self.name = "flow_%d" % Flow.count

    def job_words(self, port=None):
        """The job as arguments: SOURCE and SINK, or a file when there are rules."""
        source, sink = self.server.url(self.database, port=port, **self.keys), self.folder.sink + "?job=" + self.name
        if self.rules is None:
            return [source, sink] + self.arguments
        path = os.path.join(self.t.temp(), "case.sync")
        with open(path, "w", encoding="utf-8") as file:
            file.write("%s -> %s\n%s\n" % (source, sink, self.rules))
        return [path] + self.arguments

    def start(self, port=None, **keys):
        """`run`, not waited for."""
        self.job = self.t.tailrace("run", *self.job_words(port), **keys).start()
        return self.job

    def run(self, port=None, **keys):
        """`run`, and waits until every table is consistent."""
        self.start(port, **keys)
        self.consistent()
        return self.job

    def windows(self, steps, timeout=60):
        """`run` that stands still (SIGSTOP) at failpoints while something happens. `steps`: [(failpoint, nth time it is
        reached, SQL or function)]. Ends when all were met, or without the others once every table is consistent. Returns the
        points that fired; the job goes on."""
        self.start(failpoints=";".join("%s=stop@%d" % (point, nth) for point, nth, _act in steps))
        waiting = {}
        for point, nth, act in sorted(steps, key=lambda step: step[1]):
            waiting.setdefault(point, []).append(act)
        fired = []
        while any(waiting.values()):
            wait_until(lambda: self.job.is_stopped() or not self.job.running() or self.folder.consistent(), timeout,
                       "the points %s" % {point: len(left) for point, left in waiting.items() if left})
            if not self.job.is_stopped():
                break
            for point in self._fired()[len(fired):]:
                fired.append(point)
                act = waiting[point].pop(0)
                if callable(act):
                    act()
                elif act:
                    self.sql(act)
            self.job.resume()
        return fired

    def _fired(self):
        try:
            with open(self.job.failpoints_log, encoding="ascii") as file:
                return [line[:-1] for line in file.read().split("\n") if line.endswith("!")]
        except FileNotFoundError:
            return []

    def consistent(self, timeout=60):
        wait_until(lambda: self.folder.consistent() or not self.job.running(), timeout, "a consistent commit")
        return self.folder.consistent()

    def sql(self, sql):
        return self.server.sql(sql, self.database)

    def wait_rows(self, table, count, timeout=30):
        """Until the folder rebuilds that many rows of public.TABLE."""
        wait_until(lambda: len(self.folder.rows("public." + table)) == count or not self.job.running(), timeout,
                   "%d rows of %s" % (count, table))

    def written(self):
        """How many rows all commits hold; reads only the last line of files that are new."""
        for path in self.folder.files():
            if path not in self._rows:
                with open(path, "rb") as file:
                    file.seek(max(0, os.path.getsize(path) - 16384))
                    self._rows[path] = json.loads(file.read().rstrip(b"\n").rsplit(b"\n", 1)[-1])["commit"]["rows"]
        return sum(self._rows.values())

    def wait_written(self, count, timeout=60):
        """Until the commits hold that many rows, of all tables and operations."""
        wait_until(lambda: self.written() >= count or not self.job.running(), timeout, "%d rows in the folder" % count)

    def stop(self):
        if self.job is not None and self.job.running():
            self.t.equal(self.label + " stop", self.job.terminate(), 0)

    def once(self, what="once", code=0, port=None, **keys):
        """`once` to its end; checks its code."""
        result = self.t.tailrace("once", *self.job_words(port), **keys).run(120)
        self.t.check("%s %s" % (self.label, what), result.code == code, "exit %s, want %s: %s" % (result.code, code, result.
            stderr[-600:]))
        return result

    def plan(self):
        return self.t.tailrace("plan", *self.job_words()).run(60)

    def same(self, what, *tables):
        """Every table as the server has it now, and nothing that an exact changelog never holds."""
        state = self.folder.state()
        for table in tables:
            self.check("%s %s" % (what, table), *compare_table(state.table("public." + table), self.server, "public." + table,
                self.database))
        self.equal(what + " exactly once", state.problems[:3], [])

    def finish(self, what, *tables):
        """Stops, catches up with `once`, and compares."""
        self.stop()
        self.once(what + " catches up")
        self.same(what, *tables)

    def lines(self, table, operations="rcudt"):
        """Rows of public.TABLE in order."""
        return [line for line in self.folder.lines("public." + table) if line["op"] in operations]

    def equal(self, what, got, want):
        return self.t.equal("%s %s" % (self.label, what), got, want)

    def check(self, what, condition, why=""):
        return self.t.check("%s %s" % (self.label, what), condition, why)
