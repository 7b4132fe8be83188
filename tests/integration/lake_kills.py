#!/usr/bin/python3
"""Kills tailrace -> iceberg until it has been killed often enough with rows in flight; then independent readers travel to
every commit that the tables keep.

    lake_kills.py --kills 200 [--seed N] [--seconds-max S] [--format v2|v3]

Bank transfers over three tables, a ledger row in every transaction, texts that updates leave alone, keys that move
(workload.py's clients). A third of the kills are failpoints of the sink, each at least once, the others SIGKILL at random
moments; every third restart finds no local state. A kill counts as in flight if the instance had begun a data file that
no snapshot names. Each EPISODE is a job from its first start on, with another format and partition.
Judged at the end of an episode, with the workload at rest: at every commit at which all tables say tailrace.consistent=true,
each table taken at its newest snapshot with tailrace.seq at or below that commit's: the balances have the constant sum, and
the ledger of each client is 1 .. n without a gap or a double, n never falling from commit to commit; snapshots of one seq
name one commit and one position; at the end every reader gives what the server selects, and every file that a retained
snapshot names exists. The last line: kills=N in_flight=N looks=N wrong=N. Thread: main; clients have their own."""

import argparse
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import HarnessError, Postgres, Tailrace, processes, tailrace_binary  # noqa: E402
from kill_loop import failpoint_names  # noqa: E402
from lake import Lake, ServerTable, path_of  # noqa: E402
from lake_readers import ReaderError, readers  # noqa: E402
from workload import ACCOUNTS, BALANCE, BANK_SUM, SESSION, TABLES, Client, Workload, create_sql  # noqa: E402

EPISODE_KILLS = 40
FORMS = ("format=v2", "format=v3", "format=v2&partition=bucket(4,id)", "format=v3&partition=bucket(3,id)")
BANKS = ("bank_a", "bank_b", "bank_c")
NAMES = BANKS + ("ledger", "docs", "churn", "labels")
CATCH_UP_SECONDS = 180
ODD_ENDS_MAX = 3
FIRST_LIFE = ("iceberg.before_claim", "iceberg.after_claim")


class LakeClient(Client):
    """workload.py's client, and a TRUNCATE that rows follow."""

    def churn_anew(self):
        return "truncate churn; insert into churn select i, %d from generate_series(1, 40) i" % self.version()


class LakeWorkload(Workload):
    """Clients whose tables all have keys."""

    def __init__(self, open_session, seed, clients=3, rate=40.0):
        self.clients, self._paces, self._open_session, self._lost = [], [], open_session, []
        share = [(Client.transfer, 45), (Client.document, 20), (Client.churn, 20), (Client.label, 15)]
        for number in range(1, clients + 1):
            self._add(LakeClient(number, open_session(), seed * 1000 + number, share), clients / rate)
        self._add(LakeClient(clients + 1, open_session(), seed * 1000 + clients + 1, [(LakeClient.churn_anew, 1)]), 6.0)
        self._stop, self._going, self._lock = threading.Event(), threading.Event(), threading.Condition()
        self._busy, self._threads, self.error = 0, [], None


def setup(session):
    session.execute(SESSION)
    for name in NAMES:
        columns, key, more = TABLES[name]
        session.execute(create_sql(name, columns, key, more))
    for name in BANKS:
        session.execute("insert into %s select i, %d, 0 from generate_series(1, %d) i" % (name, BALANCE, ACCOUNTS))
    session.execute("insert into docs select i, 'doc ' || i, repeat(md5(i::text), 90), 0 from generate_series(1, 300) i")
    session.execute("insert into labels select 'Label ' || md5(i::text), 'x', 0 from generate_series(1, 500) i")
    session.execute("insert into churn select i, 0 from generate_series(1, 400) i")


class Episode:
    """One job from its first start to its judgement."""

    def __init__(self, loop, number, wanted):
        self.loop, self.number, self.wanted = loop, number, wanted
        self.job, self.options = "lake%d" % number, loop.forms[number % len(loop.forms)]
        base = os.path.join(loop.folder, self.job)
        os.mkdir(base)
        self.lake = Lake(os.path.join(base, "lake"))
        self.tailrace = Tailrace(binary=loop.binary, folder=base, state=os.path.join(base, "state"))
        self.kills = self.in_flight = self.looks = 0
        self.wrong = []

    def arm(self, command, failpoints=None):
        dice, tailrace = self.loop.dice, self.tailrace
        if tailrace.starts and tailrace.starts % 3 == 0:
            shutil.rmtree(tailrace.state, ignore_errors=True)
        keys = {"chunk_rows": dice.choice((1000, 3000, 100000)), "lanes": dice.choice((1, 2, 3))}
        sink = "%s?job=%s&freshness=1s&%s" % (self.lake.sink, self.job, self.options)
        tailrace.arguments = [command, self.loop.server.url(self.loop.database, **keys), sink]
        if dice.random() < 0.25:
            tailrace.arguments += ["--memory", "64MiB"]
        tailrace.failpoints = failpoints
        return tailrace

    def run(self):
        dice = self.loop.dice
        while self.in_flight < self.wanted and not self.loop.over():
            name = None
            if (self.kills % 3 == 0 or self.loop.missed()) and self.kills % 2 == 0:
                name = dice.choice(sorted(self.loop.missed()) or self.loop.failpoints + self.loop.others)
            command = "once" if dice.random() < 0.2 else "run"
            count = (
                1
                if name in FIRST_LIFE
                else dice.choice((1, 1, 2, 3, 9, 30)) if name and "stage" in name else dice.choice((1, 1, 2))
            )
            tailrace = self.arm(command, "%s=kill@%d" % (name, count) if name else None).start()
            deadline = time.monotonic() + (
                4.0 if name else dice.uniform(0.05, 0.6) if dice.random() < 0.3 else dice.uniform(0.6, 3.0)
            )
            while time.monotonic() < deadline and tailrace.running():
                time.sleep(0.005)
            ours = tailrace.kill()
            self.loop.fired |= tailrace.failpoints_reached()[1]
            if not ours and tailrace.process.returncode != -9 and not (command == "once" and not tailrace.process.returncode):
                self.loop.odd_ends += 1
                self.loop.say(
                    "%s ended by itself with %s: %s" % (self.job, tailrace.process.returncode, tailrace.last_stderr()[-1200:])
                )
                if self.loop.odd_ends >= ODD_ENDS_MAX:
                    raise HarnessError("tailrace ended by itself %d times" % self.loop.odd_ends)
            elif tailrace.process.returncode == -9:
                self.kills += 1
                self.in_flight += self.flying()
            if self.loop.workload.error:
                raise HarnessError("the workload ended: %r" % self.loop.workload.error)

    def flying(self):
        """Whether the dead instance had begun a data file that no snapshot names."""
        commit = self.lake.commit()
        if commit is None:
            return False
        mine = {
            path
            for path in self.lake.files()
            if "/data/" in path and re.search(r"-%05d-" % commit[0], os.path.basename(path)) and "/data/deletes-" not in path
        }
        if not mine:
            return False
        for url in self.lake.tables().values():
            mine -= {path_of(path) for path in readers().ask(do="current", metadata=url)}
        return bool(mine)

    # ---- judgement --------------------------------------------------------------------------------------------------

    def judge(self):
        result = self.arm("once").run(CATCH_UP_SECONDS)
        if result.code != 0:
            self.wrong.append("`once` ended with %s: %s" % (result.code, result.stderr[-1200:]))
            return
        self.travel()
        for name in NAMES:
            wanted = ServerTable(self.loop.server, self.loop.database, name)
            for reader in readers().names:
                try:
                    same, why = wanted.compare(readers().rows(reader, self.lake.tables()["public." + name]))
                except ReaderError as error:
                    same, why = False, str(error)
                self.looks += 1
                if not same:
                    self.wrong.append("at the end, %s of %s: %s" % (reader, name, why))
        self.files()

    def travel(self):
        """To every commit that the tables keep."""
        seen = {
            name: [(int(s["summary"]["tailrace.seq"]), s) for s in self.lake.snapshots("public." + name)] for name in NAMES
        }
        commits = {}
        for name, snapshots in seen.items():
            for seq, snapshot in snapshots:
                said = (snapshot["summary"]["tailrace.commit"], snapshot["summary"].get("tailrace.position"))
                if commits.setdefault(seq, said) != said:
                    self.wrong.append("seq %d is two commits: %s and %s" % (seq, commits[seq], said))
        cache, tops, consistent = {}, {}, 0
        for seq in sorted(commits):
            at = {}
            for name, snapshots in seen.items():
                before = [snapshot for number, snapshot in snapshots if number <= seq]
                at[name] = before[-1] if before else None
            if any(s is None or s["summary"]["tailrace.consistent"] != "true" for s in at.values()):
                continue
            consistent += 1
            self.look(seq, at, cache, tops)
        if not consistent:
            self.wrong.append("no commit was consistent")
        self.loop.say("# %s %s: %d commits, %d of them consistent" % (self.job, self.options, len(commits), consistent))

    def look(self, seq, at, cache, tops):
        def rows(name):
            key = (name, at[name]["snapshot-id"])
            if key not in cache:
                names = readers().names  # each snapshot by one of them, in turn
                reader = names[len(cache) % len(names)]
                cache[key] = readers().rows(reader, self.lake.tables()["public." + name], at[name]["snapshot-id"])
                self.looks += 1
            return cache[key]

        try:
            balances = [int(row["balance"]) for name in BANKS for row in rows(name)]
            if sum(balances) != BANK_SUM or len(balances) != len(BANKS) * ACCOUNTS:
                self.wrong.append("commit %d: %d accounts, sum %d" % (seq, len(balances), sum(balances)))
            ledgers = {}
            for row in rows("ledger"):
                ledgers.setdefault(row["client"], []).append(int(row["n"]))
            for client, numbers in ledgers.items():
                if sorted(numbers) != list(range(1, len(numbers) + 1)):
                    self.wrong.append("commit %d: the ledger of client %s is not 1 .. %d" % (seq, client, len(numbers)))
                if len(numbers) < tops.get(client, 0):
                    self.wrong.append("commit %d: the ledger of client %s fell to %d" % (seq, client, len(numbers)))
                tops[client] = len(numbers)
        except ReaderError as error:
            self.wrong.append("commit %d: %s" % (seq, error))

    def files(self):
        have, missing = self.lake.files(), []
        for table, url in self.lake.tables().items():
            for snapshot in readers().ask(do="files", metadata=url).values():
                for path in [snapshot["list"]] + snapshot["manifests"] + [live[0] for live in snapshot["live"]]:
                    if path_of(path) not in have:
                        missing.append(path)
        if missing:
            self.wrong.append("%d files named and not there: %s" % (len(missing), missing[:2]))

    def drop(self):
        monitor = self.loop.monitor
        slot = "from pg_replication_slots where slot_name = 'tailrace_%s'" % self.job
        deadline = time.monotonic() + 90
        while monitor.value("select count(*) %s and active" % slot) != "0" and time.monotonic() < deadline:
            time.sleep(0.1)
        monitor.execute("select pg_drop_replication_slot(slot_name) " + slot)
        monitor.execute("drop publication if exists tailrace_%s" % self.job)


class LakeKills:
    """All episodes on one database."""

    def __init__(self, kills, seed=None, seconds_max=3600.0, form=None, binary=None):
        self.kills_wanted, self.seed = kills, random.randrange(1 << 20) if seed is None else seed
        self.dice, self.deadline = random.Random(self.seed), time.monotonic() + seconds_max
        self.forms = [text for text in FORMS if form is None or "format=" + form in text]
        self.binary = os.path.abspath(binary) if binary else tailrace_binary()
        names = failpoint_names()
        self.failpoints = [name for name in names if name.startswith("iceberg.")]
        self.others = [name for name in names if not name.startswith(("iceberg.", "jsonl.", "parquet."))]
        self.folder = tempfile.mkdtemp(prefix="tr-lake-kill-", dir="/tmp")
        os.chmod(self.folder, 0o755)
        self.fired, self.odd_ends, self.episodes = set(), 0, []
        self.server = self.database = self.monitor = self.workload = None

    @staticmethod
    def say(text):
        print(text)
        sys.stdout.flush()

    def over(self):
        return time.monotonic() > self.deadline

    def missed(self):
        return set(self.failpoints) - self.fired

    def in_flight(self):
        return sum(episode.in_flight for episode in self.episodes)

    def run(self):
        """Exit code; prints a line a result."""
        self.say("# seed %d, %d failpoints, folder %s" % (self.seed, len(self.failpoints), self.folder))
        trouble = None
        try:
            self.server = Postgres({"shared_buffers": "64MB"}, folder=os.path.join(self.folder, "server")).start()
            self.database = self.server.create_database("lake")
            self.monitor = self.server.session(self.database)
            setup(self.monitor)
            self.workload = LakeWorkload(lambda: self.server.session(self.database), self.seed)
            self.workload.start()
            while self.in_flight() < self.kills_wanted and not self.over() and not self.wrong():
                self.episode(min(EPISODE_KILLS, self.kills_wanted - self.in_flight()))
            self.workload.stop()
            self.workload.close()
        except Exception as error:  # whatever ends the run early is a result
            traceback.print_exc()
            trouble = error
        return self.verdict(trouble)

    def episode(self, wanted):
        episode = Episode(self, len(self.episodes), wanted)
        self.episodes.append(episode)
        episode.run()
        self.workload.pause()
        episode.judge()
        for text in episode.wrong[:5]:
            self.say("#   " + text.replace("\n", " | ")[:1500])
        self.say(
            "%s lake kills %s %s: kills=%d in_flight=%d looks=%d"
            % (
                "not ok" if episode.wrong else "ok",
                episode.job,
                episode.options,
                episode.kills,
                episode.in_flight,
                episode.looks,
            )
        )
        episode.drop()
        self.workload.resume()

    def wrong(self):
        return [text for episode in self.episodes for text in episode.wrong]

    def verdict(self, trouble):
        missed, wrong, in_flight = sorted(self.missed()), self.wrong(), self.in_flight()
        results = [
            (
                "failpoints: %d of %d fired" % (len(self.failpoints) - len(missed), len(self.failpoints)),
                self.kills_wanted >= 40 and missed and "not fired: %s" % " ".join(missed),
            ),
            ("in flight: %d of %d" % (in_flight, self.kills_wanted), in_flight < self.kills_wanted and "too few"),
            ("ends", self.odd_ends and "it ended by itself %d times" % self.odd_ends),
            ("run to its end", trouble is not None and "stopped: %s" % str(trouble).replace("\n", " | ")),
        ]
        for name, why in results:
            self.say("not ok lake kills %s: %s" % (name, why) if why else "ok lake kills %s" % name)
        good = not wrong and not any(why for _name, why in results)
        if good:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            self.say("# kept: %s" % self.folder)
        self.say(
            "kills=%d in_flight=%d looks=%d wrong=%d"
            % (sum(e.kills for e in self.episodes), in_flight, sum(e.looks for e in self.episodes), len(wrong))
        )
        return 0 if good else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seconds-max", type=float, default=3600)
    parser.add_argument("--format", choices=("v2", "v3"))
    parser.add_argument("--binary")
    options = parser.parse_args()
    processes.install_handlers()
    if readers() is None:
        print("skip lake kills: the readers cannot be installed (tests/servers/lake_readers.sh)")
        return 0
    return LakeKills(options.kills, options.seed, options.seconds_max, options.format, options.binary).run()


if __name__ == "__main__":
    sys.exit(main())
