"""Memory ceilings and peaks of a process. Thread: PeakSampler runs one of its own."""

import os
import threading
import time

from . import processes


class MemoryCgroup:
    """A memory cgroup of `limit` bytes (swap off). Start a process in it with `prefix`; `peak()` in bytes; `out_of_memory()`
    says whether the kernel killed something in it. Made by make(), which gives None where this machine lets us make none."""

    def __init__(self, path, version):
        self.path = path
        self._version = version
        self.prefix = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', path]

    @classmethod
    def make(cls, limit):
        name = "tailrace-test-%d-%d" % (os.getpid(), time.monotonic_ns())
        for version, parent in ((2, "/sys/fs/cgroup"), (1, "/sys/fs/cgroup/memory")):
            path = os.path.join(parent, name)
            try:
                if version == 2 and "memory" not in _read(os.path.join(parent, "cgroup.subtree_control")).split():
                    continue
                os.mkdir(path)
            except OSError:
                continue
            group = cls(path, version)
            processes.current_scope().add(group._remove)
            try:
                group._write("memory.max" if version == 2 else "memory.limit_in_bytes", limit)
            except OSError:
                group._remove()
                continue
            try:
                if version == 2:
                    group._write("memory.swap.max", 0)
                else:
                    group._write("memory.memsw.limit_in_bytes", limit)
            except OSError:
                pass  # no swap accounting here: the ceiling on memory holds all the same
            return group
        return None

    def _write(self, name, value):
        with open(os.path.join(self.path, name), "w", encoding="ascii") as file:
            file.write("%d\n" % value)

    def peak(self):
        name = "memory.peak" if self._version == 2 else "memory.max_usage_in_bytes"
        try:
            return int(_read(os.path.join(self.path, name)))
        except OSError:  # kernels before 5.19 have no memory.peak
            return int(_read(os.path.join(self.path, "memory.current")))

    def out_of_memory(self):
        text = _read(os.path.join(self.path, "memory.events" if self._version == 2 else "memory.oom_control"))
        values = dict(line.split() for line in text.splitlines())
        return int(values.get("oom_kill", 0)) > 0

    def _remove(self):
        try:
            os.rmdir(self.path)
        except OSError:
            pass


def _read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def anonymous_bytes(pid):
    """Anonymous memory of a process now; None when it is gone."""
    try:
        for line in _read("/proc/%d/status" % pid).splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except (OSError, UnicodeDecodeError):
        pass
    return None


class PeakSampler:
    """Samples the anonymous memory of a process every 10 ms until it ends or stop() is called; `peak` in bytes."""

    def __init__(self, pid):
        self.peak = 0
        self.samples = 0
        self._stop = threading.Event()
        self._pid = pid
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        processes.current_scope().add(self.stop)

    def _run(self):
        while not self._stop.wait(0.01):
            now = anonymous_bytes(self._pid)
            if now is None:
                return
            self.samples += 1
            self.peak = max(self.peak, now)

    def stop(self):
        self._stop.set()
        self._thread.join()
        return self.peak
