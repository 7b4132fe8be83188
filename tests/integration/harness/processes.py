"""Processes and folders that a test made, and their end.

Every process is remembered with the way to end it and is ended by its own id: at the end of its scope (a case, a
module), at exit, and on SIGTERM or SIGINT. `setpriv --pdeathsig` covers the runner's own SIGKILL. Nothing here ever ends
a process by name. Thread: main."""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time


class HarnessError(Exception):
    """The test's surroundings failed (not the product)."""


class Timeout(HarnessError):
    """A wait reached its deadline."""


class Scope:
    """A stack of clean-ups, run in reverse order and each at most once."""

    def __init__(self):
        self._cleanups = []

    def add(self, function):
        self._cleanups.append(function)
        return function

    def remove(self, function):
        if function in self._cleanups:
            self._cleanups.remove(function)

    def close(self):
        while self._cleanups:
            function = self._cleanups.pop()
            try:
                function()
            except Exception as error:  # one that fails must not keep the others from being ended
                print("harness: clean-up failed: %s" % error, file=sys.stderr)


# Scopes are nested: what is made now belongs to the innermost.
_scopes = [Scope()]
keep_folders = bool(os.environ.get("TAILRACE_TEST_KEEP"))


def current_scope():
    return _scopes[-1]


def enter_scope():
    _scopes.append(Scope())
    return _scopes[-1]


def leave_scope(scope):
    while _scopes[-1] is not scope:
        _scopes.pop().close()
    _scopes.pop().close()


def _close_all():
    while len(_scopes) > 1:
        _scopes.pop().close()
    _scopes[0].close()


def _on_signal(number, _frame):
    _close_all()
    os._exit(128 + number)


def install_handlers():
    """Ends everything on SIGTERM, SIGINT and SIGHUP as well. Called once, by programs (not on import)."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _on_signal)


atexit.register(_close_all)


def wait_until(predicate, timeout=30.0, what="a condition", interval=0.02):
    """Calls `predicate` until it returns something true, which is returned. Raises Timeout after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        result = predicate()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise Timeout("waited %.0f s for %s" % (timeout, what))
        time.sleep(interval)


def temporary_folder(scope=None):
    """A new folder with a short path (a Unix socket's is at most 107 bytes), removed at the end of its scope."""
    folder = tempfile.mkdtemp(prefix="tr-", dir="/tmp" if os.access("/tmp", os.W_OK) else None)
    os.chmod(folder, 0o755)
    if not keep_folders:
        (scope or current_scope()).add(lambda: shutil.rmtree(folder, ignore_errors=True))
    return folder


def server_user():
    """The account servers run as: (name, uid, gid), or None when we are not root and run them ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
            return name, entry.pw_uid, entry.pw_gid
        except KeyError:
            continue
    raise HarnessError("no unprivileged account (postgres, nobody) to run a server as")


def as_user(user):
    """The words to put before a command so that it runs as that account (as returned by server_user)."""
    if user is None:
        return []
    return ["setpriv", "--reuid=%d" % user[1], "--regid=%d" % user[2], "--clear-groups"]


def dies_with_us(command):
    """`command`, started so that it gets SIGKILL when this process dies. The process id stays the same."""
    return ["setpriv", "--pdeathsig", "KILL"] + list(command)


def is_stopped(pid):
    """True when the process is in the stopped state (SIGSTOP has taken effect)."""
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] in "Tt"
    except OSError:
        return False


def end_process(process, grace=10.0, first=signal.SIGTERM):
    """Ends a Popen by its id: `first`, then SIGKILL after `grace` seconds. Returns its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.send_signal(first)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode
