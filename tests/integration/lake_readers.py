"""Independent readers of the lake's tables: PyIceberg, DuckDB and Iceberg's own Java library, each behind one process that
serves all cases. One function a reader gives the rows of a table at a snapshot as [{column: text or None}], in the forms
of lake.py. tests/servers/lake_readers.sh installs them; what this machine cannot have is missing in `readers()` and is
skipped loudly. TAILRACE_LAKE_READERS names their folder. With TAILRACE_LAKE_MORE=1 those of ../lake/readers.py's more() judge
too: ClickHouse, Spark, Polars and others, which `lake_readers.sh --more` installs. Thread: main."""

import atexit
import filecmp
import json
import os
import re
import subprocess
import sys

from harness import HarnessError, processes
from harness.tailrace import ROOT

sys.path.insert(1, os.path.join(ROOT, "tests", "lake"))
from readers import kinds_of, more, transforms_of  # noqa: E402

INSTALL = os.path.join(ROOT, "tests", "servers", "lake_readers.sh")
INSTALL_SECONDS = 900
WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lake_worker.py")
_DAY = re.compile(r"^([+-]?\d{4,})-(\d\d)-(\d\d)$")
_made = None


class ReaderError(Exception):
    """What a reader said instead of rows."""


def days_of(text):
    """2000-01-01 as days since 1970-01-01, any year; other texts stay as they are."""
    found = _DAY.match(text)
    if not found:
        return text
    year, month, day = (int(part) for part in found.groups())
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return str(era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468)


class Process:
    """A child that answers each line of its input."""

    def __init__(self, words):
        self.child = subprocess.Popen(
            processes.dies_with_us(words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        atexit.register(self.close)

    def send(self, line):
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()

    def line(self):
        line = self.child.stdout.readline()
        if not line:
            raise HarnessError("a reader's process ended with %s" % self.child.wait())
        return line.rstrip("\n")

    def close(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()


class Readers:
    """Those that are installed. `names`: of those that judge always; `more`: {name: reader} of the others; `missing`: {name:
    why}."""

    def __init__(self, folder):
        self.worker = Process([os.path.join(folder, "venv", "bin", "python"), WORKER])
        self.names, self.missing, self.java, self.more = ["PyIceberg", "DuckDB"], {}, None, {}
        java = os.path.join(folder, "java")
        if os.path.exists(os.path.join(java, "cp.txt")):
            with open(os.path.join(java, "cp.txt"), encoding="utf-8") as file:
                path = os.path.join(java, "classes") + ":" + file.read().strip()
            self.java = Process(["java", "-Xmx256m", "-cp", path, "tailrace.Scan"])
            self.names.append("Java")
        else:
            self.missing["Java"] = "Iceberg's Java library is not installed (tests/servers/lake_readers.sh says why)"
        if os.environ.get("TAILRACE_LAKE_MORE"):
            found, missing = more(folder)
            self.more = {reader.name: reader for reader in found}
            self.missing.update(missing)

    def ask(self, **request):
        self.worker.send(json.dumps(request))
        answer = json.loads(self.worker.line())
        if "error" in answer:
            raise ReaderError(answer["error"])
        return answer["answer"]

    def rows(self, reader, metadata, snapshot=None):
        """The rows that `reader` finds in the table of that metadata URL: [{column: text or None}]."""
        if reader in self.more:
            try:
                found = self.more[reader].rows(metadata, snapshot)
            except RuntimeError as error:
                raise ReaderError(str(error)) from error
            return [{name: self._cell(text) for name, text in row.items()} for row in found]
        return {"PyIceberg": self.pyiceberg, "DuckDB": self.duckdb, "Java": self.iceberg_java}[reader](metadata, snapshot)

    def filtered(self, reader, metadata, where):
        """Those of them under a filter in the reader's own words."""
        if reader not in self.more:
            return self.ask(do="rows", reader=reader, metadata=metadata, snapshot=None, where=where)
        try:
            return self.more[reader].rows(metadata, None, where)
        except RuntimeError as error:
            raise ReaderError(str(error)) from error

    def pyiceberg(self, metadata, snapshot=None):
        return self.ask(do="rows", reader="PyIceberg", metadata=metadata, snapshot=snapshot)

    def duckdb(self, metadata, snapshot=None):
        return self.ask(do="rows", reader="DuckDB", metadata=metadata, snapshot=snapshot)

    def iceberg_java(self, metadata, snapshot=None):
        self.java.send("\t".join(["scan", metadata, "any.name"] + ([str(snapshot)] if snapshot else [])))
        rows = []
        while True:
            line = self.java.line()
            if line == ".":
                return rows
            if line.startswith("! "):
                raise ReaderError(line[2:])
            rows.append({name: self._cell(text) for name, text in (cell.split("=", 1) for cell in line.split("\t"))})

    @staticmethod
    def _cell(text):
        """As lake.py has it: None for null; dates as days, alone and in lists."""
        if text == "null":
            return None
        if text.startswith("["):
            return "[%s]" % ",".join(days_of(part) for part in text[1:-1].split(","))
        return days_of(text)


def refusal(reader, metadata):
    """Why a reader of `more` cannot have the table of that parsed metadata file; None."""
    return reader.refuses(metadata["format-version"], kinds_of(metadata), transforms_of(metadata))


def told(reader, metadata, names, rows):
    """Rows that are wanted, [(text or None)], as far as that reader of `more` can say them."""
    kinds = kinds_of(metadata)
    kinds = [kinds.get(name, "string") for name in names]

    def cell(kind, text):
        text = reader.said(kind, "null" if text is None else text)
        return None if text == "null" else text

    return sorted((tuple(map(cell, kinds, row)) for row in rows), key=repr)


def _old_programs(installed):
    """Whether the programs around Iceberg's library were made from another source than this tree's."""
    own, programs = os.path.join(ROOT, "tests", "lake", "java"), os.path.join("src", "main", "java", "tailrace")
    names = [os.path.join(programs, name) for name in os.listdir(os.path.join(own, programs))] + ["pom.xml"]
    return bool(any(filecmp.cmpfiles(own, installed, names, shallow=False)[1:]))


def readers():
    """The one Readers of this run; installs what is missing first. None where nothing can be had."""
    global _made
    if _made is None:
        folder = (
            os.environ.get("TAILRACE_LAKE_READERS")
            or subprocess.run([INSTALL, "--where"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
            .stdout.decode()
            .strip()
        )
        have = os.path.exists(os.path.join(folder, "java", "cp.txt")) and os.path.exists(os.path.join(folder, "venv"))
        if not have or _old_programs(os.path.join(folder, "java", "source")):
            subprocess.run(
                [INSTALL],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                check=False,
                timeout=INSTALL_SECONDS,
                env=dict(os.environ, TAILRACE_LAKE_READERS=folder),
            )
        usable = os.access(os.path.join(folder, "venv", "bin", "python"), os.X_OK)
        _made = Readers(folder) if usable else False
    return _made or None
