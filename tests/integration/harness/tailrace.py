"""The tailrace process, as a user would start it. Output goes to files, so that nothing blocks on a full pipe."""

import os
import re
import shutil
import signal
import subprocess

from . import processes
from .processes import HarnessError, Timeout, wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def tailrace_binary():
    """TAILRACE_BINARY, else build/tailrace of this tree."""
    path = os.environ.get("TAILRACE_BINARY") or os.path.join(ROOT, "build", "tailrace")
    if not os.access(path, os.X_OK):
        raise HarnessError("no program %s: run ./check build, or set TAILRACE_BINARY" % path)
    return path


class Result:
    """How a process ended: code (negative: the signal), stdout and stderr as text."""

    def __init__(self, code, stdout, stderr):
        self.code = code
        self.stdout = stdout
        self.stderr = stderr

    def __repr__(self):
        return "exit %s\n%s" % (self.code, self.stderr[-4000:])


class Tailrace:
    """One process. `Tailrace("run", source, sink)`, then start(), kill(), wait(), start() again: arguments, state folder
    and environment stay, output is kept over the starts (stderr_text: all; last_stderr: of the last start)."""

    def __init__(self, *arguments, state=None, env=None, failpoints=None, binary=None, prefix=(), folder=None,
                 unprivileged=False):
        """`state`: the --state folder (a new one if None, none given if False). `env`: more environment. `failpoints`: the
        value of TAILRACE_FAILPOINTS for the next start. `prefix`: words before the command (prlimit, a cgroup's ...).
        `unprivileged`: as the account that servers run as, with a copy of the program, where we are root (to whom no
        folder is read-only); chown what it shall write with give_away()."""
        self.folder = folder or processes.temporary_folder()
        self.state = os.path.join(self.folder, "state") if state is None else state
        self.arguments = [str(argument) for argument in arguments]
        self.env = dict(env or {})
        self.failpoints = failpoints
        self.failpoints_log = os.path.join(self.folder, "failpoints.log")
        self.binary = binary
        self.prefix = list(prefix)
        self.process = None
        self.starts = 0
        self._out = os.path.join(self.folder, "stdout")
        self._err = os.path.join(self.folder, "stderr")
        self._err_start = 0
        self._out_start = 0
        self._scope = processes.current_scope()
        if unprivileged:
            self._lower()

    def _lower(self):
        user = processes.server_user()
        if user is None:
            return
        copy = os.path.join(self.folder, "program")
        shutil.copy(self.binary or tailrace_binary(), copy)
        os.chmod(copy, 0o755)
        self.binary = copy
        self.prefix += processes.as_user(user)
        give_away(self.folder)

    def command(self):
        words = [self.binary or tailrace_binary()] + self.arguments
        if self.state:
            words += ["--state", self.state]
        return words

    def start(self):
        if self.running():
            raise HarnessError("it is running")
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "TAILRACE_", "XDG_"))}
        env["HOME"] = self.folder  # neither our .pgpass nor our state folder
        env.update(self.env)
        if self.failpoints:
            env["TAILRACE_FAILPOINTS"] = self.failpoints
        env.setdefault("TAILRACE_FAILPOINTS_LOG", self.failpoints_log)
        self._err_start, self._out_start = self._size(self._err), self._size(self._out)
        with open(self._out, "ab") as out, open(self._err, "ab") as err:
            self.process = subprocess.Popen(processes.dies_with_us(self.prefix + self.command()), env=env, cwd=self.folder,
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        self.starts += 1
        self._scope.add(self._end)
        return self

    def _end(self):
        if self.process is not None:
            processes.end_process(self.process, grace=0.0, first=signal.SIGKILL)

    def running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self):
        return self.process.pid

    def wait(self, timeout=60.0):
        """Waits for its end and returns the code (negative: the signal that ended it)."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Timeout("tailrace did not end in %.0f s; it said: %s" % (timeout, self.last_stderr()[-2000:])) from None

    def result(self, timeout=60.0):
        code = self.wait(timeout)
        return Result(code, self._read(self._out, self._out_start), self.last_stderr())

    def run(self, timeout=60.0):
        """start and result in one."""
        return self.start().result(timeout)

    def kill(self):
        """SIGKILL, and its end. Returns False when it had already ended by itself."""
        was_running = self.running()
        if was_running:
            self.process.kill()
        self.process.wait()
        return was_running

    def terminate(self, timeout=40.0):
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def interrupt(self, number=signal.SIGINT):
        self.process.send_signal(number)

    def pause(self, timeout=10.0):
        """SIGSTOP, and waits until it stands still."""
        self.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: processes.is_stopped(self.pid), timeout, "the process to stop")

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def is_stopped(self):
        return processes.is_stopped(self.pid)

    def stdout_text(self):
        return self._read(self._out, 0)

    def stderr_text(self):
        return self._read(self._err, 0)

    def last_stderr(self):
        return self._read(self._err, self._err_start)

    def wait_log(self, pattern, timeout=30.0):
        """Waits until the last start's stderr matches the regular expression; returns the match. Fails when it ends."""
        def look():
            ended = not self.running()
            found = re.search(pattern, self.last_stderr(), re.M)
            if not found and ended:
                raise HarnessError("tailrace ended (%s) before it said %r: %s"
                                   % (self.process.returncode, pattern, self.last_stderr()[-2000:]))
            return found
        return wait_until(look, timeout, "tailrace to say %r; it said: %s" % (pattern, self.last_stderr()[-2000:]))

    def failpoints_reached(self):
        """Names that were reached, and names that fired, over all starts: two sets."""
        lines = self._read(self.failpoints_log, 0).split()
        return {n for n in lines if not n.endswith("!")}, {n[:-1] for n in lines if n.endswith("!")}

    @staticmethod
    def _size(path):
        try:
            return os.path.getsize(path)
        except FileNotFoundError:
            return 0

    @staticmethod
    def _read(path, start):
        try:
            with open(path, "rb") as file:
                file.seek(start)
                return file.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return ""


def give_away(path):
    """Makes an unprivileged process the owner of a folder or file; nothing to do when we are not root."""
    user = processes.server_user()
    if user is not None:
        os.chown(path, user[1], user[2])


def run_tailrace(*arguments, timeout=60.0, **keys):
    """Runs it to its end and returns the Result. Keys as of Tailrace."""
    return Tailrace(*arguments, **keys).run(timeout)
