"""Running a program and knowing what it cost: wall time, processor time (user and system, of it and its waited-for
children, from wait4), peak memory. Thread: main; a sampler of anonymous memory runs one of its own."""

import os
import re
import signal
import statistics
import subprocess
import threading
import time

from harness import HarnessError, PeakSampler, processes, tailrace_binary, temporary_folder

MIB = 1 << 20
NEUTRAL = ("PG", "TAILRACE_", "XDG_")  # variables that would change what is measured


class Ended:
    """A program that ran to its end. Seconds; bytes. `anonymous` is None unless it was sampled."""

    def __init__(self, wall, usage, out, err, anonymous):
        self.wall = wall
        self.cpu = usage.ru_utime + usage.ru_stime
        self.resident = usage.ru_maxrss * 1024
        self.anonymous = anonymous
        self.out = out
        self.err = err

    def cost(self, rows):
        """For a comment line."""
        text = "%.2f s, %.3f CPU s a million rows, peak %.0f MiB" % (self.wall, self.cpu / rows * 1e6, self.resident / MIB)
        return text + (" (anonymous %.0f)" % (self.anonymous / MIB) if self.anonymous is not None else "")


def run(command, timeout, sample=False):
    """Runs it; fails unless it exits with 0 within `timeout` seconds."""
    folder = temporary_folder()
    env = {k: v for k, v in os.environ.items() if not k.startswith(NEUTRAL)}
    env["HOME"] = folder
    paths = [os.path.join(folder, name) for name in ("out", "err")]
    with open(paths[0], "wb") as out, open(paths[1], "wb") as err:
        began = time.monotonic()
        process = subprocess.Popen(processes.dies_with_us(command), env=env, cwd=folder, stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=err)
    sampler = PeakSampler(process.pid) if sample else None
    timer = threading.Timer(timeout, os.kill, (process.pid, signal.SIGKILL))  # not Popen: it would reap
    timer.start()
    try:
        _pid, status, usage = os.wait4(process.pid, 0)
    except BaseException:  # interrupted: it ends before we do
        process.kill()
        raise
    finally:
        timer.cancel()
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    anonymous = sampler.stop() if sampler else None
    texts = []
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            texts.append(file.read())
    if process.returncode != 0:
        raise HarnessError("%s: exit code %d after %.0f s (limit %.0f s): %s" % (
            " ".join(command), process.returncode, wall, timeout, texts[1][-3000:]))
    return Ended(wall, usage, texts[0], texts[1], anonymous)


class Job:
    """A tailrace job of one table, run with `once` from nothing."""

    def __init__(self, source, sink, table):
        self.folder = temporary_folder()
        self.file = os.path.join(self.folder, "bench_%s.sync" % table.split(".")[-1])
        with open(self.file, "w", encoding="utf-8") as file:
            file.write("%s -> %s\n*: skip\n%s: keep\n" % (source, sink, table))

    def _run(self, words, timeout, sample=False):
        command = [os.path.abspath(tailrace_binary())] + words + ["--state", os.path.join(self.folder, "state")]
        return run(command, timeout, sample)

    def once(self, timeout, sample=False):
        return self._run(["once", self.file], timeout, sample)

    def drop(self):
        """What it keeps in the server, so that the next round begins anew."""
        self._run(["drop", self.file, "--yes"], 60)


def program(name):
    """A program that the build makes beside the product."""
    path = os.path.join(os.path.dirname(os.path.abspath(tailrace_binary())), "tests", "bench", name)
    if not os.access(path, os.X_OK):
        raise HarnessError("no program %s: run ./check build" % path)
    return path


def counts(text):
    """`name=number` pairs of a line, as floats."""
    return {name: float(value) for name, value in re.findall(r"\b(\w+)=(\d+(?:\.\d+)?)(?=\s|$)", text)}


def summary(ended):
    """The counters that discard: prints at the end."""
    found = re.findall(r"^.* summary (rows .*)$", ended.err, re.M)
    if not found:
        raise HarnessError("tailrace printed no summary: %s" % ended.err[-2000:])
    return counts(found[-1])


def expect(what, got, want):
    """A figure of something else than what was asked for is none."""
    if got != want:
        raise HarnessError("%s: %s where %s was expected" % (what, got, want))


median = statistics.median
