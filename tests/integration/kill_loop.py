#!/usr/bin/python3
"""Kills tailrace until it has been killed often enough with rows in flight, then judges every byte it wrote.

    kill_loop.py --kills 200 [--seed N] [--seconds-max S] [--binary build/tailrace] [--keep]
    kill_loop.py --judge TRUTH.jsonl FOLDER        the oracle alone, on what a failed run left

A throwaway PostgreSQL under the workload of workload.py; tailrace streams it into jsonl: folders. Half of the kills are
failpoints (all names in the source, those not yet fired first), half SIGKILL at random moments; every third restart finds
no local state. Lanes, chunk_rows, freshness and --memory differ from start to start; some instances are stopped
(SIGSTOP) for a while before their end, some while a rival takes over, some lose their sessions (pg_terminate_backend),
and the server itself crashes now and then. An EPISODE of kills is one job from its first start on: the first rounds
try what only an early life reaches (OPENING), once it rests for what only an idle server reaches (RESTING);
then the workload rests, `once` catches up, and the oracle compares the folder with the truth of a second slot, and
with the server's SELECT. Each ERA of episodes
is a new database; jobs that serve only the failpoints left over follow the last one. A kill counts as in flight only if
rows were staged by that instance, or if transactions of the truth lie between the last commit and what the server had
sent when it died. `in_commit`: killed at a failpoint of the commit, or with a sealed file not yet renamed.
Prints ok and not ok lines, and last: kills=N in_flight=N in_commit=N missing=N doubled=N. Exit code 0 only if nothing was
found, as many kills as asked for were in flight, and every failpoint of the source has fired. Thread: main; clients have
their own."""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from bisect import bisect_right
from collections import Counter

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import HarnessError, JsonlFolder, Postgres, Tailrace, tailrace_binary, wait_until  # noqa: E402
from harness import processes  # noqa: E402
from harness.tailrace import ROOT  # noqa: E402
from oracle import Checker, Findings, applied_of  # noqa: E402
from truth import Truth, parse_lsn  # noqa: E402
from workload import BANK_COLUMNS, BANK_SUM, LEDGER, TruthReader, Workload, create_sql, server_rows, setup  # noqa: E402

EPISODE_KILLS = 50  # in flight, of one job
ERA_EPISODES = 4  # jobs on one database
EXTRA_EPISODES = 8  # jobs that serve failpoints left over
TRIES = 4  # of a failpoint that has not fired, in one job
CRASHES = 0.6  # of the server, an episode; the first has one
LIFE_SECONDS = 2.5  # of an instance whose failpoint is not reached
CHASE_SECONDS = 6.0  # the same, where that failpoint is all that is wanted
ODD_ENDS_MAX = 5  # ends that are neither our kill nor a clean one, before giving up
CATCH_UP_SECONDS = 120
EXIT_FENCED = 4
PROGRESS_SECONDS = 20
SOURCE_FOLDERS = ("cdc", "connectors", "engine", "sinks", "config")
_FAILPOINT = re.compile(r'\bFAILPOINT\(\s*[^,;]+,\s*"([^"]+)"')
OPENING = (
    "postgres.start.before_slot",
    "job.after_slot",
    "lane.after_begin",
    "lane.after_view",
    "lane.before_piece_end",
    "lane.before_end",
    "lane.after_rows",
    "lane.after_join",
)  # the last may not be reached in one life
OTHER_SINKS = ("iceberg.", "parquet.")  # lake_kills.py is the former's
RESTING = ("jsonl.before_idle", "jsonl.after_idle")


def failpoint_names(root=ROOT):
    """Every failpoint in the product's source."""
    names = set()
    for top in SOURCE_FOLDERS:
        for folder, _folders, files in os.walk(os.path.join(root, top)):
            for name in files:
                if name.endswith(".c"):
                    with open(os.path.join(folder, name), encoding="utf-8") as file:
                        names.update(_FAILPOINT.findall(file.read()))
    return sorted(names)


class Kill:
    """One death: what is needed to say later whether it hit rows in flight."""

    def __init__(self, name, staged, sealed, applied, sent):
        self.name = name  # the failpoint that fired, or None
        self.staged = staged  # bytes staged by this instance and not committed
        self.sealed = sealed  # a staged file with its commit line
        self.applied, self.sent = applied, sent

    def in_flight(self, ends):
        """`ends`: where transactions with changes end, ascending."""
        return self.staged > 0 or bisect_right(ends, self.sent) > bisect_right(ends, self.applied)

    def in_commit(self):
        return self.sealed or (self.name or "").startswith(("commit.", "jsonl."))


class Episode:
    """One job from its first start to its judgement."""

    def __init__(self, era, number, wanted):
        self.era, self.loop, self.number, self.wanted = era, era.loop, number, wanted
        self.job = "kill%d" % number
        base = os.path.join(self.loop.folder, self.job)
        os.mkdir(base)
        self.out = JsonlFolder(os.path.join(base, "out"))
        self.tailrace = Tailrace(binary=self.loop.binary, folder=base, state=os.path.join(base, "state"))
        os.mkdir(os.path.join(base, "rival"))
        self.rival = Tailrace(
            binary=self.loop.binary, folder=os.path.join(base, "rival")
        )  # has a state folder of its own
        self.tried = Counter()
        self.kills = []

    # ---- rounds -----------------------------------------------------------------------------------------------------

    def run(self):
        """Rounds until `wanted` kills are in flight; with 0 wanted, only for the failpoints left over."""
        dice = self.loop.dice
        for name in OPENING:
            if name in self.loop.missed() or (self.wanted and dice.random() < 0.3):
                self.round(name)
        crash = self.wanted and (not self.number or dice.random() < CRASHES)
        crash_at, rest_at = (dice.randint(1, max(2, self.wanted)) for _ in range(2))
        while self.estimate() < self.wanted and not self.loop.over():
            if rest_at is not None and self.estimate() >= rest_at:
                rest_at = self.rest()
            if crash and self.estimate() >= crash_at:
                crash = self.round(trouble="crash")
            self.round()
        if not self.wanted:
            self.chase()

    def estimate(self):
        """Kills in flight as far as is known now; the truth decides at the end."""
        return sum(1 for kill in self.kills if kill.staged or kill.sent > kill.applied)

    def chase(self):
        """Rounds for each failpoint that has not fired, but for those of a first start."""
        if set(RESTING) & self.loop.missed():
            self.rest()
        for name in sorted(self.loop.missed() - set(OPENING) - set(RESTING)):
            for _ in range(TRIES):
                if name in self.loop.missed() and not self.loop.over():
                    if name == "job.after_capture":
                        self.era.newcomer()
                    self.round(name, CHASE_SECONDS)

    def rest(self):
        """The workload rests, the job catches up, and dies over commits of nothing but a position. Returns None."""
        self.era.workload.pause()
        if self._arm("once", None).run(CATCH_UP_SECONDS).code != 0:
            self._ended_by_itself("once")
        for name in RESTING:
            for _ in range(TRIES):
                command = self.loop.dice.choice(("once", "run"))
                self.idle_round(command, name)
                if name in self.loop.fired:
                    break
        self.era.workload.resume()

    def idle_round(self, command, name):
        """`once`, or `run` and SIGTERM, where only the log has moved, no table."""
        self.era.monitor.execute("select pg_current_xact_id()")
        before = self._staged()
        self._arm(command, name + "=kill").start()
        if command == "run":
            self._wait(time.monotonic() + 0.5, False)
            self.tailrace.interrupt(signal.SIGTERM)
        self.tailrace.wait(CATCH_UP_SECONDS)
        self._died("once", name, False, before, 0)

    def choose(self, dice):
        """(failpoint or None, how often it is passed before, seconds to live) of an ordinary round."""
        if len(self.kills) % 2:
            return None, 0, dice.uniform(0.02, 0.3) if dice.random() < 0.1 else dice.uniform(0.3, LIFE_SECONDS)
        names = [name for name in self.loop.failpoints if name not in RESTING + OPENING[:1]]
        fresh = [name for name in names if name not in self.loop.fired and self.tried[name] < TRIES]
        name = dice.choice(fresh or names)
        self.tried[name] += 1
        count = 1 if fresh and self.tried[name] < 3 else dice.choice((1, 1, 2, 3, 5, 8))
        return name, count - 1, LIFE_SECONDS

    def round(self, name=None, seconds=LIFE_SECONDS, trouble=None):
        """Starts it, kills it: at `name`, else where the dice say. `trouble`: as of _live."""
        dice, passed = self.loop.dice, 0
        command = "run" if name or trouble or dice.random() > 0.06 else "once"
        if trouble:
            seconds = dice.uniform(0.5, LIFE_SECONDS)
        elif not name:
            name, passed, seconds = self.choose(dice)
            if not name:
                trouble = dice.choice((None, None, None, "watch", "watch", "watch", "watch", "stop", "cut", "rival"))
        self._arm(command, "%s=kill@%d" % (name, passed + 1) if name else None)
        before = self._staged()
        self.tailrace.start()
        sent = self._live(seconds, trouble)
        ours = self.tailrace.kill()
        if not ours and trouble == "rival" and self.tailrace.process.returncode == EXIT_FENCED:
            self.kills.append(Kill(None, 0, False, self._applied(), 0))  # the rival's; what it held is not known
        else:
            self._died(command, name, ours, before, sent)
        self.era.check_alive()
        self.loop.progress(self)

    def _arm(self, command, failpoints):
        """What the next start is told: the options differ each time, every third finds no local state. Returns the Tailrace."""
        dice, tailrace = self.loop.dice, self.tailrace
        if tailrace.starts and tailrace.starts % 3 == 0:
            shutil.rmtree(tailrace.state, ignore_errors=True)
        keys = {"chunk_rows": dice.choice((1000, 1000, 3000, 100000)), "lanes": dice.choice((1, 2, 2, 3))}
        if failpoints and failpoints.startswith("lane.after_join"):
            keys["lanes"] = 3  # two may each have begun a table of their own, and join nobody
        sink = "%s?job=%s&freshness=%dms" % (self.out.sink, self.job, dice.choice((20, 100, 300, 1000)))
        tailrace.arguments = [command, self.era.server.url(self.era.database, **keys), sink]
        if dice.random() < 0.25:
            tailrace.arguments += ["--memory", "64MiB"]
        tailrace.failpoints = failpoints
        return tailrace

    def _died(self, command, name, ours, before, sent):
        """Counts an end. `command`: `once` may end well. `ours`: the loop's SIGKILL, not the failpoint's. `before`: what was
        staged at its start."""
        self.loop.fired |= self.tailrace.failpoints_reached()[1]
        if not ours and self.tailrace.process.returncode != -signal.SIGKILL:
            self._ended_by_itself(command)
            return
        staged = {path: size for path, size in self._staged().items() if path not in before and size}
        self.kills.append(
            Kill(
                None if ours else name,
                sum(staged.values()),
                any(self._is_sealed(path) for path in staged),
                self._applied(),
                sent,
            )
        )

    def _live(self, seconds, trouble):
        """Waits for its end or for the time; returns the highest position that the server had sent it. `trouble` on the way:
        watch (it lives until rows are staged), stop (SIGSTOP for a while), cut (its sessions end), rival (another instance
        takes over while it stands still), crash (the server ends)."""
        begun = time.monotonic()
        sent = self._wait(begun + seconds, False)
        if not self.tailrace.running() or trouble is None:
            return sent
        self.loop.troubles[trouble] += 1
        if trouble == "watch":
            return max(sent, self._wait(time.monotonic() + 0.6, True))
        if trouble == "stop":
            self.tailrace.pause()
            time.sleep(self.loop.dice.uniform(0.2, 2.5))
            if self.loop.dice.random() < 0.5:
                return sent  # what the server sends to a stopped one is not in flight
            self.tailrace.resume()
        elif trouble == "rival":
            self._rival()
        elif trouble == "cut":
            self._cut()
        else:
            self.era.crash()
        return max(sent, self._wait(time.monotonic() + self.loop.dice.uniform(0.3, LIFE_SECONDS), False))

    def _cut(self):
        self.era.monitor.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name like "
            "'tailrace:%s:%%'" % self.job
        )

    def _rival(self):
        """The older stands still and loses its sessions; a rival works for a while; the older wakes beside it, with whatever
        it had staged or sealed; the rival is killed. Either may be told that it is fenced."""
        self.tailrace.pause()
        self._cut()
        self.rival.arguments = self.tailrace.arguments
        self.rival.start()
        self._wait(time.monotonic() + self.loop.dice.uniform(0.1, LIFE_SECONDS), False)
        self.tailrace.resume()
        self._wait(time.monotonic() + self.loop.dice.uniform(0.0, 1.0), False)
        if not self.rival.kill() and self.rival.process.returncode != EXIT_FENCED:
            self._ended_by_itself(self.rival.arguments[0], self.rival)

    def _wait(self, deadline, watch):
        """Until the deadline, or its end, or (watch) rows are staged; returns the highest position sent."""
        sent, asked = 0, 0.0
        before = self._staged() if watch else {}
        while time.monotonic() < deadline and self.tailrace.running():
            if watch and any(size and name not in before for name, size in self._staged().items()):
                break
            if time.monotonic() - asked > 0.06:
                asked = time.monotonic()
                text = self.era.monitor.value(
                    "select max(sent_lsn) from pg_stat_replication where application_name like 'tailrace:%s:%%'"
                    % self.job
                )
                sent = max(sent, parse_lsn(text) if text else 0)
            time.sleep(0.002 if watch else 0.01)
        return sent

    def _ended_by_itself(self, command, tailrace=None):
        tailrace = tailrace or self.tailrace
        if command == "once" and tailrace.process.returncode == 0:
            return
        self.loop.odd_ends += 1
        self.loop.say(
            "%s: start %d ended by itself with %s: %s"
            % (self.job, tailrace.starts, tailrace.process.returncode, tailrace.last_stderr()[-1500:])
        )
        if self.loop.odd_ends >= ODD_ENDS_MAX:
            raise HarnessError("tailrace ended by itself %d times" % self.loop.odd_ends)

    def _staged(self):
        """{name: size} of staged files."""
        found = {}
        try:
            with os.scandir(self.out.path) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        found[entry.name] = entry.stat().st_size
        except FileNotFoundError:
            pass
        return found

    def _is_sealed(self, name):
        """A data file that waits for its rename: its last line is whole and is a commit line."""
        if not re.match(r"^\.\d+\.[0-9a-f]{16}$", name):
            return False
        with open(os.path.join(self.out.path, name), "rb") as file:
            file.seek(max(0, os.path.getsize(file.name) - 65536))
            lines = file.read().split(b"\n")
        return len(lines) > 1 and lines[-1] == b"" and lines[-2].startswith(b'{"commit":')

    def _applied(self):
        """The position that the folder states now."""
        files = self.out.files()
        if not files:
            return 0
        with open(files[-1], "rb") as file:
            file.seek(max(0, os.path.getsize(files[-1]) - 65536))
            commit = json.loads(file.read().rstrip(b"\n").rsplit(b"\n", 1)[-1])["commit"]
        applied = applied_of(commit["position"])
        try:
            with open(os.path.join(self.out.path, "_idle.%s.json" % commit["epoch"]), encoding="utf-8") as file:
                idle = json.load(file)
        except FileNotFoundError:
            return applied
        idle = idle.get("commit", idle)
        same = (idle["epoch"], idle["seq"]) == (commit["epoch"], commit["seq"])
        return max(applied, applied_of(idle["position"])) if same else applied

    # ---- judgement --------------------------------------------------------------------------------------------------

    def judge(self):
        """The workload rests: catch up, compare, drop what the job left on the server. Returns (Findings, in flight)."""
        found = Findings()
        result = self._arm("once", None).run(CATCH_UP_SECONDS)
        if result.code != 0:
            found.add("missing", "`once` ended with %s: %s" % (result.code, result.stderr[-1500:]))
        truth = self.era.reader.finish()
        with open(os.path.join(self.tailrace.folder, "truth_end"), "w", encoding="ascii") as file:
            file.write("%d" % truth.last_end)  # for --judge: the slot's text goes on after it
        starts = sum(
            one.starts + len(re.findall(r" rewind ", one.stderr_text())) for one in (self.tailrace, self.rival)
        )
        checker = Checker(truth, (BANK_COLUMNS, BANK_SUM), LEDGER, starts)
        found.merge(checker.run(self.out.path))
        self._compare(found, checker, truth)
        if not checker.sums_checked:
            found.add("sum", "no commit at which the bank could be looked at")
        ends = sorted({entry[0] for entry in truth.journal if entry[2] in ("set", "put", "take", "clear")})
        in_flight = sum(1 for kill in self.kills if kill.in_flight(ends))
        self.loop.say(
            "%s kills %s: kills=%d in_flight=%d commits=%d lines=%d sums=%d states=%d transactions=%d changes=%d "
            "found=%s"
            % (
                "not ok" if found.total() else "ok",
                self.job,
                len(self.kills),
                in_flight,
                len(checker.commits),
                checker.lines,
                checker.sums_checked,
                checker.states_checked,
                len(truth.txs),
                truth.changes,
                {k: n for k, n in found.counts.items() if n} or "nothing",
            )
        )
        for kind, text in found.texts:
            self.loop.say("  %s: %s" % (kind, text))
        return found, in_flight

    def _compare(self, found, checker, truth):
        """The rebuilt tables, the truth and the server's SELECT: all three the same."""
        for name, table in sorted(truth.live().items()):
            have = Counter(frozenset(row.items()) for row in server_rows(self.era.monitor, table))
            rows = table.current.values() if table.key else (dict(row) for row in table.current.elements())
            if Counter(frozenset(row.items()) for row in rows) != have:
                raise HarnessError("the truth of %s is not what the server selects: the oracle is wrong" % name)
            rebuilt = Counter(frozenset(row.items()) for row in checker.rows(name))
            if rebuilt != have:
                found.add(
                    "state",
                    "%s: SELECT gives %d rows, the folder %d; only there %.200s, only here %.200s"
                    % (
                        name,
                        have.total(),
                        rebuilt.total(),
                        list((have - rebuilt).items())[:2],
                        list((rebuilt - have).items())[:2],
                    ),
                )

    def drop(self):
        """The slot and publications go, so that the server need not keep the log for a job that is over."""
        monitor = self.era.monitor
        slot = "from pg_replication_slots where slot_name = 'tailrace_%s'" % self.job
        wait_until(
            lambda: monitor.value("select count(*) %s and active" % slot) == "0", 90, "the job's slot to be free"
        )
        monitor.execute("select pg_drop_replication_slot(slot_name) " + slot)
        for (name,) in monitor.execute(
            "select pubname from pg_publication where pubname in ('tailrace_%s', 'tailrace_%s_append')"
            % (self.job, self.job)
        ):
            monitor.execute('drop publication "%s"' % name)


class Era:
    """One database, its workload and its truth."""

    def __init__(self, loop, number):
        self.loop, self.server, self.number = loop, loop.server, number
        self.database = "era%d" % number
        self.newcomers = 0
        self.server.create_database(self.database)
        self.monitor = self.server.session(self.database)
        TruthReader.create_slot(self.monitor)
        setup(self.monitor, wide=True)
        self.reader = TruthReader(
            self.server.session(self.database), os.path.join(loop.folder, "truth%d.jsonl" % number)
        )
        self.workload = Workload(lambda: self.server.session(self.database), loop.seed * 100 + number, wide=True)

    def run(self):
        """Episodes of kills; then, when there are enough, jobs for the failpoints left over."""
        loop = self.loop
        self.workload.start()
        self.reader.start()
        episodes = extras = 0
        while not loop.findings.total() and not loop.over():
            wanted = max(0, min(EPISODE_KILLS, loop.kills_wanted - loop.in_flight))
            if wanted and episodes == ERA_EPISODES or not wanted and (not loop.missed() or extras == EXTRA_EPISODES):
                break
            episodes += wanted > 0
            extras += wanted == 0
            self.episode(wanted)
        self.workload.stop()
        self.reader.finish()
        loop.say("era %d: %d transactions committed, %d rolled back" % ((self.number,) + self.workload.counts()))

    def episode(self, wanted):
        episode = Episode(self, len(self.loop.episodes), wanted)
        self.loop.episodes.append(episode)
        episode.run()
        self.workload.pause()
        found, in_flight = episode.judge()
        self.loop.count(episode, found, in_flight)
        if not found.total():  # else the truth must end here, so that --judge can look at it again
            episode.drop()
            self.workload.resume()
            self.reader.start()

    def crash(self):
        """The server ends at once, under load, and comes back; slots may fall back to what was last written of them."""
        self.reader.halt()
        self.workload.expect_loss()
        self.monitor.close()
        self.server.restart("immediate")
        self.monitor = self.server.session(self.database)
        self.reader.renew(self.server.session(self.database))
        self.workload.renew()
        self.reader.start()

    def newcomer(self):
        """A table that nobody has seen yet."""
        self.newcomers += 1
        name = "newcomer%d" % self.newcomers
        self.monitor.execute(create_sql(name, {"id": "integer", "v": "bigint"}, ["id"]))
        self.monitor.execute("insert into %s select i, i from generate_series(1, 20) i" % name)

    def check_alive(self):
        if self.workload.error or self.reader.error:
            raise HarnessError("the workload ended: %r" % (self.workload.error or self.reader.error))

    def close(self):
        self.workload.close()
        self.monitor.close()
        self.reader.close()
        self.server.drop_database(self.database)


class KillLoop:
    """All eras, and what they add up to."""

    def __init__(self, options):
        self.kills_wanted, self.seed = options.kills, options.seed
        self.binary = os.path.abspath(options.binary) if options.binary else tailrace_binary()
        self.deadline = time.monotonic() + options.seconds_max
        self.dice = random.Random(options.seed)
        self.failpoints = [name for name in failpoint_names() if not name.startswith(OTHER_SINKS)]
        self.folder = tempfile.mkdtemp(prefix="tr-kill-", dir="/tmp")
        os.chmod(self.folder, 0o755)
        self.server = None
        self.fired = set()
        self.troubles = Counter()
        self.begun = self.told = time.monotonic()
        self.episodes = []
        self.findings = Findings()
        self.kills = self.in_flight = self.in_commit = self.odd_ends = 0

    @staticmethod
    def say(text):
        print(text)
        sys.stdout.flush()

    def over(self):
        return time.monotonic() > self.deadline

    def missed(self):
        """Failpoints that have not fired yet."""
        return set(self.failpoints) - self.fired

    def progress(self, episode):
        """A line now and then."""
        if time.monotonic() - self.told >= PROGRESS_SECONDS:
            self.told = time.monotonic()
            self.say(
                "# %4d s %s: %d kills, some %d in flight; %d of %d failpoints"
                % (
                    self.told - self.begun,
                    episode.job,
                    self.kills + len(episode.kills),
                    self.in_flight + episode.estimate(),
                    len(self.fired & set(self.failpoints)),
                    len(self.failpoints),
                )
            )

    def count(self, episode, found, in_flight):
        self.kills += len(episode.kills)
        self.in_flight += in_flight
        self.in_commit += sum(1 for kill in episode.kills if kill.in_commit())
        self.findings.merge(found)

    def run(self):
        """Exit code."""
        self.say("seed %d, %d failpoints, folder %s" % (self.seed, len(self.failpoints), self.folder))
        trouble = None
        try:
            self.server = Postgres({"shared_buffers": "64MB"}, folder=os.path.join(self.folder, "server")).start()
            number = 0
            while (self.in_flight < self.kills_wanted or not number) and not self.over() and not self.findings.total():
                era = Era(self, number)
                era.run()
                era.close()
                number += 1
        except Exception as error:  # whatever ends the run early is a result, and the last line is printed all the same
            traceback.print_exc()
            trouble = error
        return self.verdict(trouble)

    def verdict(self, trouble):
        """Prints what there is to say, the line last; returns the exit code."""
        missed, counts = sorted(self.missed()), self.findings.counts
        others = {kind: count for kind, count in counts.items() if count and kind not in ("missing", "doubled")}
        self.say(
            "# %d s; %s"
            % (
                time.monotonic() - self.begun,
                ", ".join("%s %d times" % pair for pair in sorted(self.troubles.items())) or "no trouble",
            )
        )
        results = [
            (
                "failpoints: %d of %d fired" % (len(self.failpoints) - len(missed), len(self.failpoints)),
                missed and "not fired: %s" % " ".join(missed),
            ),
            (
                "in flight: %d of %d" % (self.in_flight, self.kills_wanted),
                self.in_flight < self.kills_wanted and "too few kills hit rows in flight",
            ),
            ("ends", self.odd_ends and "it ended by itself %d times" % self.odd_ends),
            ("run to its end", trouble is not None and "stopped: %s" % trouble),
            ("nothing else found", others and " ".join("%s=%d" % pair for pair in others.items())),
        ]
        for name, why in results:
            self.say("not ok kills %s: %s" % (name, why) if why else "ok kills %s" % name)
        self.say(
            "kills=%d in_flight=%d in_commit=%d missing=%d doubled=%d"
            % (self.kills, self.in_flight, self.in_commit, counts["missing"], counts["doubled"])
        )
        good = not any(why for _name, why in results) and not self.findings.total() and self.kills > 0
        return 0 if good else 1


def judge(raw, folder):
    """The oracle on files alone. Without the server's SELECT; the folder must have caught up with the truth's end."""
    truth = Truth()
    with open(os.path.join(os.path.dirname(os.path.abspath(folder)), "truth_end"), encoding="ascii") as file:
        end = int(file.read())
    with open(raw, encoding="utf-8") as file:
        for line in file:
            if truth.last_end < end:
                truth.feed(*json.loads(line))
    checker = Checker(truth, (BANK_COLUMNS, BANK_SUM), LEDGER)
    found = checker.run(folder)
    for kind, text in found.texts:
        print("%s: %s" % (kind, text))
    print(
        "commits=%d lines=%d found=%s"
        % (len(checker.commits), checker.lines, {k: n for k, n in found.counts.items() if n} or "nothing")
    )
    return 1 if found.total() else 0


def main():
    parser = argparse.ArgumentParser(description="kills tailrace with rows in flight and judges what it wrote")
    parser.add_argument("--kills", type=int, default=200, help="how many must hit rows in flight")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--seconds-max", type=float, default=1500.0, help="then it ends, and fails if it is not done")
    parser.add_argument("--binary", default=None)
    parser.add_argument("--keep", action="store_true", help="keep the folder also where nothing was found")
    parser.add_argument("--judge", nargs=2, metavar=("TRUTH", "FOLDER"), help="run the oracle on what a run left")
    options = parser.parse_args()
    if options.judge:
        return judge(*options.judge)
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 20)
    processes.install_handlers()
    loop = KillLoop(options)
    code = loop.run()
    if loop.server is not None:
        loop.server.stop("immediate")
    if not options.keep:  # what a failed run left is needed to understand it, except the server's files
        shutil.rmtree(os.path.join(loop.folder, "server", "data") if code else loop.folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
