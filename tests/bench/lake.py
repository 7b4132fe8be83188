"""The bench `lake`: PostgreSQL into Iceberg tables, the two things that this is made of, and what readers have of the tables.
README.md defines the figures. Thread: main."""

import json
import os
import re
import shutil
import sqlite3
import subprocess

from harness import HarnessError, temporary_folder
from harness.tailrace import ROOT
from measure import MIB, Job, expect, median, program, run
import postgres
from postgres import log_seconds, note

HERE = os.path.dirname(os.path.abspath(__file__))
FIGURES = ("lake_pg.cpu_us_row", "lake_pg_1.ratio", "lake_pg_2.ratio", "parquet.us_row", "parquet.bytes_row",
           "index.probes_per_s", "index.bytes_key", "index.us_change", "index.us_insert", "upsert.rows_per_cpu_s", "lake.rss_mib",
           "lake_query.ratio")
PARTS = ("parquet", "index", "load_1", "load_2", "upsert", "query")
SCANS = 7
READERS = os.path.join(ROOT, "tests", "servers", "lake_readers.sh")
# Every column is decoded; nothing of it is answered by statistics.
SCAN = "select count(*), " + ", ".join(
    ["sum(%s)" % c for c in ("l_id", "l_orderkey", "l_partkey", "l_suppkey", "l_linenumber", "l_quantity", "l_extendedprice",
                             "l_discount", "l_tax")] +
    ["sum(length(%s))" % c for c in ("l_returnflag", "l_linestatus", "l_shipinstruct", "l_shipmode", "l_comment")] +
    ["sum(%s - date '1970-01-01')" % c for c in ("l_shipdate", "l_commitdate", "l_receiptdate")]) + " from {table}"


class Bench(postgres.Bench):
    """One server, filled once; each part measures and returns its figures."""

    def programs(self, words, figures):
        """A micro-benchmark's figures: medians of its runs; what else it prints is said."""
        command = [program(words[0])] + words[1:]
        found = []
        for number in range(self.sizes.rounds):
            found.append(dict(re.findall(r"^(\w+(?:\.\w+)+) (\S+)$", run(command, 600).out, re.M)))
            self.progress("%s: round %d of %d" % (words[0], number + 1, self.sizes.rounds))
        for figure in found[0]:
            value = median([float(pairs[figure]) for pairs in found])
            if figure in figures:
                self.figures[figure] = "%.3f" % value if value < 1000 else "%.0f" % value
            else:
                note("%s %.3f" % (figure, value))

    def parquet(self):
        self.programs(["bench_parquet_encode"], FIGURES)

    def index(self):
        folder = temporary_folder()
        self.programs(["bench_key_index", folder, str(self.sizes.index_keys)], FIGURES)
        shutil.rmtree(folder)

    # ---- a full load ------------------------------------------------------------------------------------------------

    def load(self, lanes):
        rows = self.sizes.rows

        def ours():
            folder = temporary_folder()
            job = Job(self.server.url("bench", lanes=lanes), "iceberg://" + folder, "public.lineitem")
            ended = job.once(3600, True)
            ended.phase = log_seconds(ended, "ended") - log_seconds(ended, "started")
            ended.stored = parquet_files(folder)[1] * MIB
            job.drop()
            shutil.rmtree(folder)
            return ended

        name = "lake_pg_%d" % lanes
        pairs = self.rounds(name, ours, lambda: self.receive_only(lanes))
        for ended, bare in pairs:
            note("%s tailrace %.0f rows/s to the last commit (%s, %.1f bytes a row); limit %.0f rows/s (%s); ratio %.3f" % (
                name, rows / ended.phase, ended.cost(rows), ended.stored / rows, rows / bare.phase, bare.cost(rows),
                bare.phase / ended.phase))
        self.figures[name + ".ratio"] = "%.3f" % median([bare.phase / ended.phase for ended, bare in pairs])
        self.peak(max(ended.anonymous for ended, _bare in pairs))
        if lanes == 1:
            self.figures["lake_pg.cpu_us_row"] = "%.3f" % median([ended.cpu / rows * 1e6 for ended, _bare in pairs])

    def load_1(self):
        self.load(1)

    def load_2(self):
        self.load(2)

    def peak(self, anonymous):
        """lake.rss_mib is the highest peak of all parts."""
        before = float(self.figures.get("lake.rss_mib", 0))
        self.figures["lake.rss_mib"] = "%.0f" % max(before, anonymous / MIB)

    # ---- upserts ----------------------------------------------------------------------------------------------------

    def upsert(self):
        keys, rows = self.sizes.keys, self.sizes.upserts
        self.progress("upsert: %d keys" % keys)
        self.sql("drop table if exists accounts")
        self.sql("create table accounts (id bigint primary key, branch int not null, balance bigint not null, "
                 "filler char(84) not null)")
        self.sql("insert into accounts select i, i %% 1000, 0, '' from generate_series(1, %d) i" % keys)
        self.sql("checkpoint")
        folder = temporary_folder()
        job = Job(self.server.url("bench"), "iceberg://" + folder, "public.accounts")
        job.once(3600)
        rates, total = [], 0
        for number in range(self.sizes.rounds):
            self.sql("""do $$ declare done bigint := 0; begin
                while done < %d loop
                  update accounts set balance = balance + 1
                    where id in (select 1 + (random() * %d)::bigint from generate_series(1, 1000));
                  commit;
                  done := done + 1000;
                end loop; end $$""" % (rows, keys - 1))
            before, total = total, int(self.value("select sum(balance) from accounts"))
            changed = total - before
            ended = job.once(3600, True)
            rates.append(changed / ended.cpu)
            self.peak(ended.anonymous)
            note("upsert %d rows of %d keys: %.0f rows a CPU second (%s)" % (changed, keys, rates[-1], ended.cost(changed)))
            self.progress("upsert: round %d of %d" % (number + 1, self.sizes.rounds))
        self.figures["upsert.rows_per_cpu_s"] = "%.0f" % median(rates)
        job.drop()
        shutil.rmtree(folder)
        self.sql("drop table accounts")

    # ---- what a query finds -----------------------------------------------------------------------------------------

    def query(self):
        rows = self.sizes.query_rows
        self.progress("query: %d rows" % rows)
        where = readers_folder()
        self.sql("drop table if exists changing")
        self.sql("create table changing (l_id bigint primary key, %s)" % postgres.COLUMNS)
        self.sql("insert into changing select row_number() over (), r.* from (%s) r" %
                 postgres.rows_between(postgres.ROWS, 1, rows))
        folder = temporary_folder()
        folders = [os.path.join(folder, name) for name in ("ours", "theirs")]
        job = Job(self.server.url("bench"), "iceberg://%s?history=168h" % folders[0], "public.changing")
        job.once(3600)
        loaded = snapshots(metadata_of(folders[0], "changing"))[-1]
        for number in range(self.sizes.commits):
            self.sql("""update changing set l_quantity = l_quantity + 1, l_extendedprice = l_extendedprice + 0.25,
                l_comment = substr(l_comment, 2) || 'x', l_shipdate = l_shipdate + 1
                where hashint8extended(l_id, %d) %% 100 = 0""" % number)
            self.peak(job.once(3600, True).anonymous)
            if number % 10 == 9:
                self.progress("query: %d of %d commits" % (number + 1, self.sizes.commits))
        ours = metadata_of(folders[0], "changing")
        later = [s for s in snapshots(ours) if s["sequence-number"] > loaded["sequence-number"]]
        expect("commits of the part query", len(later), self.sizes.commits)
        self.progress("query: the same by Iceberg's Java library")
        with open(os.path.join(where, "java", "cp.txt"), encoding="utf-8") as file:
            path = os.path.join(where, "java", "classes") + ":" + file.read().strip()
        theirs = run(["java", "-Xmx1g", "-cp", path, "tailrace.MergeOnRead", ours,
                      str(loaded["snapshot-id"]), "file://" + folders[1]], 3600).out.strip()
        said = run([os.path.join(where, "venv", "bin", "python"), os.path.join(HERE, "scan_lake.py"), str(SCANS), SCAN, ours,
                    theirs], 3600).out
        job.drop()
        pairs = [tuple(map(float, line.split())) for line in said.splitlines() if not line.startswith("# ")]
        expect("scans", len(pairs), SCANS)
        for line in re.findall("^# (.*)", said, re.M):
            note("query " + line)
        for mine, others in pairs:
            note("query ours %.3f s, Java's %.3f s, ratio %.3f" % (mine, others, mine / others))
        note("query ours %d files, %.1f MiB; Java's %d files, %.1f MiB (data and delete files, dead ones included)" % (
            *parquet_files(folders[0]), *parquet_files(folders[1])))
        self.figures["lake_query.ratio"] = "%.3f" % median([mine / others for mine, others in pairs])
        shutil.rmtree(folder)
        self.sql("drop table changing")


def parquet_files(folder):
    """Number and MiB of all Parquet files."""
    found = [os.path.join(where, name) for where, _folders, names in os.walk(folder) for name in names
             if name.endswith(".parquet")]
    if not found:
        raise HarnessError("no data file in %s" % folder)
    return len(found), sum(map(os.path.getsize, found)) / MIB


def metadata_of(folder, table):
    """The URL of a table's metadata in the catalogue of a warehouse."""
    connection = sqlite3.connect(os.path.join(folder, "catalog.db"))
    found = connection.execute("select metadata_location from iceberg_tables where table_name = ?", (table,)).fetchall()
    connection.close()
    expect("tables %s in %s" % (table, folder), len(found), 1)
    return found[0][0]


def snapshots(metadata):
    """Of the table, oldest first."""
    with open(metadata[len("file://"):], encoding="utf-8") as file:
        return sorted(json.load(file)["snapshots"], key=lambda s: s["sequence-number"])


def readers_folder():
    """Where tests/servers/lake_readers.sh has put DuckDB and Iceberg's Java library; installs what is missing."""
    done = subprocess.run([READERS], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False, timeout=1800)
    lines = done.stdout.decode().splitlines()
    if done.returncode != 0 or not os.path.exists(os.path.join(lines[-1], "java", "cp.txt")):
        raise HarnessError("the part query needs DuckDB and Iceberg's Java library: %s" % "; ".join(lines[:-1]))
    return lines[-1]


def main(sizes):
    """Runs the parts that `sizes.only` names and returns {figure: text}."""
    bench = Bench(sizes)
    try:
        bench.fill()
        note("server %s, shared_buffers %s, %d rows of lineitem, %d keys to upsert, %d rounds" % (
            bench.value("show server_version"), sizes.shared_buffers, sizes.rows, sizes.keys, sizes.rounds))
        for part in sizes.only:
            getattr(bench, part)()
    finally:
        bench.server.stop("fast")
    return {name: bench.figures[name] for name in FIGURES if name in bench.figures}
