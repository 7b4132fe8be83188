"""Independent readers of the lake's tables: PyIceberg, DuckDB and Iceberg's own Java library, each behind one process that
serves all cases. One function a reader gives the rows of a table at a snapshot as [{column: text or None}], in the forms
of lake.py. tests/servers/lake_readers.sh installs them; what this machine cannot have is missing in `readers()` and is
skipped loudly. TAILRACE_LAKE_READERS names their folder. Thread: main."""

import atexit
import json
import os
import re
import subprocess

from harness import HarnessError, processes
from harness.tailrace import ROOT

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
    """Those that are installed. `names`: of them; `missing`: {name: why}."""

    def __init__(self, folder):
        self.worker = Process([os.path.join(folder, "venv", "bin", "python"), WORKER])
        self.names, self.missing, self.java = ["PyIceberg", "DuckDB"], {}, None
        java = os.path.join(folder, "java")
        if os.path.exists(os.path.join(java, "cp.txt")):
            with open(os.path.join(java, "cp.txt"), encoding="utf-8") as file:
                path = os.path.join(java, "classes") + ":" + file.read().strip()
            self.java = Process(["java", "-Xmx256m", "-cp", path, "tailrace.Scan"])
            self.names.append("Java")
        else:
            self.missing["Java"] = "Iceberg's Java library is not installed (tests/servers/lake_readers.sh says why)"

    def ask(self, **request):
        self.worker.send(json.dumps(request))
        answer = json.loads(self.worker.line())
        if "error" in answer:
            raise ReaderError(answer["error"])
        return answer["answer"]

    def rows(self, reader, metadata, snapshot=None):
        """The rows that `reader` finds in the table of that metadata URL: [{column: text or None}]."""
        return {"PyIceberg": self.pyiceberg, "DuckDB": self.duckdb, "Java": self.iceberg_java}[reader](metadata, snapshot)

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
            rows.append(
                {
                    name: None if text == "null" else self._days(text)
                    for name, text in (cell.split("=", 1) for cell in line.split("\t"))
                }
            )

    @staticmethod
    def _days(text):
        """Dates as days, alone and in lists."""
        if text.startswith("["):
            return "[%s]" % ",".join(days_of(part) for part in text[1:-1].split(","))
        return days_of(text)


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
        if not os.path.exists(os.path.join(folder, "java", "cp.txt")) or not os.path.exists(os.path.join(folder, "venv")):
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
