#!/usr/bin/python3
"""What ./demo shows, once the binary is built: a real PostgreSQL flows into a folder of change files while rows change and
the process is killed; then a check that shares no code with tailrace rebuilds the tables and compares them with SELECTs.
Exit code 0 only when everything is equal. Ends by itself, at the latest after the waits below."""

import argparse
import os
import random
import sys
import time
from decimal import Decimal

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import HarnessError, JsonlFolder, Postgres, Tailrace, Timeout, temporary_folder  # noqa: E402
from harness import processes  # noqa: E402
from harness.checks import compare_table  # noqa: E402

ACCOUNTS, ARTICLES, LEDGER = 2000, 300, 60000
SETUP = """
create table accounts (id int primary key, owner text not null, balance numeric(14,2) not null);
create table ledger (id bigint generated always as identity primary key, source int, target int,
                     amount numeric(14,2) not null, at timestamptz not null default clock_timestamp());
create table articles (slug text primary key, title text not null, body text not null, read_count int not null default 0);
insert into accounts select n, 'owner ' || n, 1000.00 from generate_series(1, %d) n;
insert into ledger (source, target, amount) select 1 + n %% %d, 1 + (n * 7) %% %d, 0.01 * (n %% 99)
  from generate_series(1, %d) n;
insert into articles select 'article-' || n, 'Title of ' || n,
  (select string_agg(md5(n::text || k), '') from generate_series(1, 300) k) from generate_series(1, %d) n;
""" % (ACCOUNTS, ACCOUNTS, ACCOUNTS, LEDGER, ARTICLES)
TABLES = ["public.accounts", "public.ledger", "public.articles"]


class Workload:
    """People using the shop: money moves between accounts, articles are read, written and deleted."""

    def __init__(self, server, database):
        self.session = server.session(database)
        self.random = random.Random(7)
        self.transactions = 0
        self.next_article = ARTICLES

    def step(self):
        """One transaction."""
        self.transactions += 1
        kind = self.transactions % 10
        if kind < 7:
            one, two = self.random.sample(range(1, ACCOUNTS + 1), 2)
            amount = "%d.%02d" % (self.random.randrange(50), self.random.randrange(100))
            self.session.execute(
                "begin; update accounts set balance = balance - %s where id = %d; update accounts set balance = balance + %s "
                "where id = %d; insert into ledger (source, target, amount) values (%d, %d, %s); commit"
                % (amount, one, amount, two, one, two, amount))
        elif kind == 7:  # a long text that the log does not carry again
            self.session.execute("update articles set read_count = read_count + 1 where slug = 'article-%d'"
                                 % self.random.randrange(1, ARTICLES))
        elif kind == 8:
            self.next_article += 1
            self.session.execute("insert into articles values ('article-%d', 'New', repeat('lorem ipsum ', 500))"
                                 % self.next_article)
        else:
            self.session.execute("begin; delete from articles where slug = (select min(slug) from articles); "
                                 "update articles set slug = slug || '-moved' where slug = (select max(slug) from articles "
                                 "where slug not like '%moved'); commit")

    def drive(self, until, seconds, what):
        """Works until the predicate holds; raises Timeout after `seconds`."""
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                raise Timeout("waited %.0f s for %s" % (seconds, what))
            self.step()


def say(text=""):
    print(text)
    sys.stdout.flush()


def arrived(folder):
    """The ledger rows in the folder now (what a reader sees, whole files only)."""
    return folder.state().table("public.ledger").count()


def kill_and_restart(number, job, folder, workload, server, database):
    """SIGKILL, what it left behind, and a new start."""
    job.kill()
    there = int(server.value("select count(*) from ledger", database))
    here = arrived(folder)
    say("  kill -9 number %d: %d files stand, %d ledger rows of %d have arrived (%d were on their way)"
        % (number, len(folder.files()), here, there, there - here))
    for _ in range(50):
        workload.step()  # life goes on while nobody listens
    job.start()


def run_job(server, database, job, folder):
    """Snapshot, stream, two kills, a clean stop, a catch-up. Returns (transactions, results)."""
    workload = Workload(server, database)
    ended = lambda: not job.running()  # noqa: E731
    job.start()
    workload.drive(lambda: ended() or len(folder.files()) >= 2, 30, "the first change file")
    kill_and_restart(1, job, folder, workload, server, database)
    workload.drive(lambda: ended() or folder.consistent(), 40, "the snapshot to be whole")
    files = len(folder.files())
    workload.drive(lambda: ended() or len(folder.files()) >= files + 3, 30, "three more commits")
    kill_and_restart(2, job, folder, workload, server, database)
    files = len(folder.files())
    workload.drive(lambda: ended() or len(folder.files()) >= files + 3, 30, "commits after the second kill")
    if ended():
        raise HarnessError("tailrace ended by itself with %s" % job.process.returncode)
    stopped = job.terminate()
    say("  SIGTERM: exit code %d, %d files" % (stopped, len(folder.files())))
    for _ in range(100):
        workload.step()
    job.arguments[0] = "once"
    caught_up = job.run(40)
    say("  100 more transactions while it was down, then `tailrace once`: exit code %d" % caught_up.code)
    return workload.transactions, [("run ended with 0 on SIGTERM", stopped == 0, "exit code %d" % stopped),
                                   ("once ended with 0", caught_up.code == 0, str(caught_up))]


def judge(server, database, folder):
    """Rebuilds the tables file by file; returns [(what, good?, why not)] and the totals."""
    wanted = Decimal(ACCOUNTS) * 1000
    consistent = wrong_sums = lines = 0
    state = None
    for state, commit in folder.replay():
        lines += commit["rows"]
        if commit["position"] is not None and not commit["inconsistent"]:
            consistent += 1
            total = sum(Decimal(row["balance"]) for row in state.table("public.accounts").rows.values())
            wrong_sums += total != wanted
    results = []
    for table in TABLES:
        equal, why = compare_table(state.table(table), server, table, database)
        results.append(("%-16s %6d rows rebuilt, equal to SELECT" % (table, state.table(table).count()), equal, why))
    results.append(("no insert twice, no change of a row that is not there", not state.problems, state.problems[:3]))
    results.append(("the bank's sum %s holds in each of %d consistent commits" % (wanted, consistent),
                    consistent > 0 and wrong_sums == 0, "%d wrong" % wrong_sums))
    sequence = [commit["seq"] for commit in folder.commits()]
    results.append(("commits are numbered without a gap", sequence == list(range(sequence[0], sequence[0] + len(sequence))),
                    sequence))
    return results, lines


def main():
    options = argparse.ArgumentParser(description="see ./demo")
    options.add_argument("--keep", action="store_true", help="keep the folder of change files")
    keep = options.parse_args().keep
    processes.install_handlers()
    processes.keep_folders = processes.keep_folders or keep
    say("tailrace: a database flows into files while it is used, and while tailrace is killed")
    say()
    say("1. A throwaway PostgreSQL with a bank, a ledger and some long texts")
    server = Postgres().start()
    database = server.create_database("shop", SETUP)
    say("  server %s on port %d: %d accounts, %d ledger rows, %d articles"
        % (server.value("show server_version"), server.port, ACCOUNTS, LEDGER, ARTICLES))
    folder = JsonlFolder(os.path.join(temporary_folder(), "changes"))
    line = "%s -> %s" % (server.url(database), folder.sink)
    job = Tailrace("run", line)
    say()
    say("2. tailrace run '%s'" % line)
    say("  people go on working; it is killed twice and started again, with nothing but the folder to go by")
    started = time.monotonic()
    try:
        transactions, results = run_job(server, database, job, folder)
    except (HarnessError, OSError) as error:
        say("failed: %s" % error)
        say(job.last_stderr()[-3000:])
        return 1
    say("  %d transactions in %.0f s" % (transactions, time.monotonic() - started))
    say()
    say("3. What arrived, judged by a reader that shares no code with tailrace")
    judged, lines = judge(server, database, folder)
    say("  %d files, one a commit; %d rows of change; %d starts, 2 of them ended by kill -9"
        % (len(folder.files()), lines, job.starts))
    bad = 0
    for what, good, why in results + judged:
        bad += not good
        say("  %s %s%s" % ("yes" if good else "NO ", what, "" if good else ": %.600s" % (why,)))
    say()
    if bad:
        say("That is not exact: %d of the statements above are false." % bad)
        say(job.last_stderr()[-3000:])
        return 1
    say("What it proves: every row that the server has is in the files exactly once, whatever was killed in between; each file")
    say("ends where a transaction of the database ended, so a reader never sees half a transfer.")
    if processes.keep_folders:
        say("The files are in %s" % folder.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
