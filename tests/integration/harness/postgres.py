"""A throwaway PostgreSQL server on loopback, in a folder of its own.

As root it runs under an unprivileged account, because PostgreSQL refuses root. fsync is off: these servers are killed
as processes, never by a power cut. Thread: main."""

import glob
import os
import shutil
import signal
import socket
import subprocess

from . import processes
from .processes import HarnessError, Timeout, wait_until
from .psql import Session, SqlError

SETTINGS = {
    "wal_level": "logical", "max_wal_senders": "20", "max_replication_slots": "20", "max_connections": "60",
    "fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB", "listen_addresses": "127.0.0.1",
    "logging_collector": "off", "log_min_messages": "warning", "log_line_prefix": "%m [%p] %a ",
    "autovacuum_naptime": "1h", "jit": "off", "timezone": "UTC", "lc_messages": "C",
    "dynamic_shared_memory_type": "posix", "max_wal_size": "2GB", "checkpoint_timeout": "1h",
}


def programs_folder():
    """Where initdb and postgres are: TAILRACE_PG_BIN, else the newest of Debian's, else the PATH's."""
    if os.environ.get("TAILRACE_PG_BIN"):
        return os.environ["TAILRACE_PG_BIN"]
    found = [path for path in glob.glob("/usr/lib/postgresql/*/bin") if os.path.exists(path + "/initdb")]
    if found:
        return max(found, key=lambda path: int(path.split("/")[4]))
    initdb = shutil.which("initdb")
    if not initdb:
        raise HarnessError("no PostgreSQL server programs found: install postgresql-15 or set TAILRACE_PG_BIN")
    return os.path.dirname(os.path.realpath(initdb))


def programs_version():
    """The major version of those programs, as an int."""
    done = subprocess.run([os.path.join(programs_folder(), "postgres"), "--version"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, check=True)
    return int(done.stdout.decode().split()[2].split(".")[0])


def free_port():
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postgres:
    """One server. Superuser `postgres` (password `postgres` where auth is scram-sha-256)."""

    USER = "postgres"
    PASSWORD = "postgres"

    def __init__(self, settings=None, auth="trust", folder=None, keep=False):
        """`settings`: {name: value} over SETTINGS. `auth`: trust or scram-sha-256 (sockets and TCP). `folder`: an empty or
        new folder, or one that a server was in before. `keep`: the server outlives this process (the command-line form);
        then `folder` is required."""
        self._scope = processes.current_scope()
        self._keep = keep
        self.bin = programs_folder()
        self.folder = folder or processes.temporary_folder()
        self.data = os.path.join(self.folder, "data")
        self.log = os.path.join(self.folder, "server.log")
        self.auth = auth
        self.settings = dict(SETTINGS, **(settings or {}))
        self.port = None
        self._process = None
        self._user = processes.server_user()
        self._initialise()

    # ---- life -------------------------------------------------------------------------------------------------------

    def _initialise(self):
        if os.path.exists(os.path.join(self.data, "PG_VERSION")):
            return
        os.makedirs(self.folder, mode=0o755, exist_ok=True)
        if self._user:
            os.chown(self.folder, self._user[1], self._user[2])
        password_file = os.path.join(self.folder, "password")
        with open(password_file, "w", encoding="ascii") as file:
            file.write(self.PASSWORD + "\n")
        self._run(["initdb", "-D", self.data, "-U", self.USER, "-A", self.auth, "--pwfile", password_file, "-E", "UTF8",
                   "--locale=C.UTF-8", "--no-sync", "--no-instructions"])

    def _run(self, command):
        command = processes.as_user(self._user) + [os.path.join(self.bin, command[0])] + command[1:]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              cwd="/", check=False, env=self._environment())
        if done.returncode != 0:
            raise HarnessError("%s failed: %s" % (" ".join(command), done.stdout.decode(errors="replace")))

    @staticmethod
    def _environment():
        return {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))}

    def start(self, settings=None, timeout=60.0):
        """Starts it and waits until it answers. Keeps its port over restarts. `settings` are kept for later starts."""
        if settings:
            self.settings.update(settings)
        for attempt in range(5):
            self.port = self.port or free_port()
            log_size = os.path.getsize(self.log) if os.path.exists(self.log) else 0
            self._spawn()
            try:
                wait_until(lambda: self._answers() or self._process.poll() is not None, timeout, "PostgreSQL to start")
            except Timeout:
                self.stop("immediate")
                raise HarnessError("PostgreSQL did not start: %s" % self.log_text()[log_size:]) from None
            if self._process.poll() is None:
                return self
            text = self.log_text()[log_size:]
            if "Address already in use" not in text or attempt == 4:
                raise HarnessError("PostgreSQL ended at start: %s" % text)
            self.port = None
        return self

    def _spawn(self):
        settings = dict(self.settings, port=str(self.port), unix_socket_directories=self.folder)
        command = processes.as_user(self._user)
        if not self._keep:
            command = (command or ["setpriv"]) + ["--pdeathsig", "QUIT"]
        command += [os.path.join(self.bin, "postgres"), "-D", self.data]
        for name, value in sorted(settings.items()):
            command += ["-c", "%s=%s" % (name, value)]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                                             env=self._environment(), start_new_session=True)
        if not self._keep:
            self._scope.add(self._end)

    def _end(self):
        self.stop("immediate")

    def _answers(self):
        if self._process.poll() is not None:
            return False
        done = subprocess.run([self._client("pg_isready"), "-q", "-h", self.folder, "-p", str(self.port)],
                              stdin=subprocess.DEVNULL, check=False)
        return done.returncode == 0

    def _client(self, program):
        path = os.path.join(self.bin, program)
        return path if os.path.exists(path) else program

    def stop(self, mode="fast", timeout=60.0):
        """smart, fast or immediate, as of pg_ctl. Does nothing when it is not running."""
        self._scope.remove(self._end)
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Timeout("PostgreSQL did not stop (%s) in %.0f s and was killed" % (mode, timeout)) from None

    def standby(self, settings=None):
        """A new standby of this server, which is stopped for a moment to be copied; not started yet. `settings`: over those
        of this server."""
        folder = processes.temporary_folder()
        self.stop("fast")
        shutil.copytree(self.data, os.path.join(folder, "data"), symlinks=True)
        self.start()
        with open(os.path.join(folder, "data", "standby.signal"), "w", encoding="ascii"):
            pass
        with open(os.path.join(folder, "data", "postgresql.auto.conf"), "a", encoding="ascii") as file:
            file.write("primary_conninfo = 'host=127.0.0.1 port=%d user=%s'\n" % (self.port, self.USER))
        if self._user:
            for path, folders, files in os.walk(folder):
                for name in [path] + [os.path.join(path, name) for name in folders + files]:
                    os.chown(name, self._user[1], self._user[2], follow_symlinks=False)
        return Postgres(dict(self.settings, **(settings or {})), self.auth, folder)

    def restart(self, mode="fast", settings=None):
        self.stop(mode)
        return self.start(settings)

    def kill(self):
        """SIGKILL to the postmaster; its children notice it and end. The next start recovers."""
        self._scope.remove(self._end)
        self._process.kill()
        self._process.wait()
        self._process = None
        wait_until(lambda: not self._children_left(), 30, "the server's processes to end")

    def _children_left(self):
        """Whether a process still holds the data folder (children outlive a killed postmaster for a moment)."""
        marker = os.path.realpath(self.data)
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    if os.readlink("/proc/%s/cwd" % entry) == marker:
                        return True
                except OSError:
                    continue
        return False

    def running(self):
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self):
        return self._process.pid

    def signal_backend(self, pid, number):
        """Sends a signal to one process of the server (a walsender: SIGSTOP, SIGCONT), by its id."""
        os.kill(int(pid), number)

    def configure(self, **settings):
        """ALTER SYSTEM and reload; a setting given as None is reset."""
        for name, value in settings.items():
            if value is None:
                self.sql("alter system reset %s" % name)
            else:
                self.sql("alter system set %s = '%s'" % (name, value))
        self.sql("select pg_reload_conf()")

    def enable_tls(self):
        """Gives the server a certificate for 127.0.0.1 and localhost from an authority of its own, and restarts it. Returns
        the authority's certificate (for sslrootcert). Loopback clients may then ask for TLS; plain stays allowed."""
        def openssl(*words):
            done = subprocess.run(["openssl"] + list(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, cwd=self.folder, check=False)
            if done.returncode != 0:
                raise HarnessError("openssl: %s" % done.stdout.decode(errors="replace"))
        with open(os.path.join(self.folder, "san"), "w", encoding="ascii") as file:
            file.write("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=tailrace test authority",
                "-days", "2")
        openssl("req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
        openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", "1", "-days", "2",
                "-extfile", "san", "-out", "server.crt")
        for name in ("server.key", "server.crt"):
            path = os.path.join(self.folder, name)
            os.chmod(path, 0o600)
            if self._user:
                os.chown(path, self._user[1], self._user[2])
        self.restart("fast", {"ssl": "on", "ssl_cert_file": os.path.join(self.folder, "server.crt"),
                              "ssl_key_file": os.path.join(self.folder, "server.key")})
        return os.path.join(self.folder, "ca.crt")

    def allow_only(self, *lines):
        """Replaces pg_hba.conf by these lines and reloads, e.g. "hostssl all all 127.0.0.1/32 scram-sha-256". Sockets stay
        open to the superuser."""
        with open(os.path.join(self.data, "pg_hba.conf"), "w", encoding="ascii") as file:
            file.write("\n".join(("local all postgres trust", "local replication postgres trust") + lines) + "\n")
        os.kill(self.pid, signal.SIGHUP)

    def log_text(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    # ---- use --------------------------------------------------------------------------------------------------------

    def conninfo(self, database="postgres", user=None, password=None):
        """A libpq connection string over TCP."""
        text = "host=127.0.0.1 port=%d dbname='%s' user=%s" % (self.port, database, user or self.USER)
        if password or self.auth != "trust":
            text += " password='%s'" % (password or self.PASSWORD)
        return text

    def url(self, database="postgres", user=None, password=None, port=None, **keys):
        """A tailrace SOURCE; `keys` become ?key=value. `port`: another than the server's (a Proxy's)."""
        login = user or self.USER
        if password or self.auth != "trust":
            login += ":" + (password or self.PASSWORD)
        query = "&".join("%s=%s" % pair for pair in keys.items())
        return "postgres://%s@127.0.0.1:%d/%s%s" % (login, port or self.port, database, "?" + query if query else "")

    def session(self, database="postgres", user=None, password=None):
        """A new persistent psql session (Session); it ends with the current case."""
        return Session(self.conninfo(database, user, password), program=self._client("psql"))

    def sql(self, sql, database="postgres", user=None, password=None, timeout=120.0):
        """Runs SQL in a session of its own (each statement its own transaction) and returns the rows."""
        with self.session(database, user, password) as session:
            return session.execute(sql, timeout)

    def value(self, sql, database="postgres", **keys):
        rows = self.sql(sql, database, **keys)
        if len(rows) != 1:
            raise HarnessError("%d rows where one was expected: %s" % (len(rows), sql))
        return rows[0][0]

    def create_database(self, name, sql=None):
        """A new database (template0, UTF8, C.UTF-8), and `sql` run in it."""
        self.sql('create database "%s" template template0' % name)
        if sql:
            self.sql(sql, name)
        return name

    def drop_database(self, name):
        """Drops a database with its connections and slots."""
        for (slot, active) in self.sql("select slot_name, active_pid from pg_replication_slots where database = '%s'" % name):
            if active:
                self.sql("select pg_terminate_backend(%s, 10000)" % active)
            self.sql("select pg_drop_replication_slot('%s')" % slot)
        self.sql('drop database if exists "%s" with (force)' % name)

    def version(self):
        """The major version, as an int."""
        return int(self.value("show server_version_num")) // 10000


__all__ = ["Postgres", "SqlError", "programs_folder", "programs_version", "free_port"]
