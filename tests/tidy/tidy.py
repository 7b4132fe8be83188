#!/usr/bin/python3
"""The rules of the house that a machine can check.

    tests/tidy/tidy.py [--sources] [--built] [--root DIR] [--all]

--sources: what can be seen in the tree. --built: what can be seen in build/ (symbols, generated docs). Both, if neither is
named. --all: every breach, not the first 20 of a rule. Each rule is a function `rule_NAME(tree)` that returns problems
("file:line: what"); one result line a rule.
test_tidy.py beside it plants a breach of each source rule and must see it found."""

import os
import re
import shutil
import subprocess
import sys

LINES_MAX = 900
COLUMNS_MAX = {".c": 110, ".h": 110, ".py": 130}
BYTES_MAX = 256 * 1024
SHOWN_MAX = 20
PRODUCT = ("cdc/", "connectors/", "engine/", "sinks/", "config/")
SHARED_SINK_ROOMS = ("sinks/encode", "sinks/objects", "sinks/rest", "sinks/parquet")
BANNED_NAMES = {"util", "utils", "common", "misc", "helper", "helpers"}
BANNED_EVERYWHERE = ("strcpy", "strcat", "sprintf", "vsprintf", "gets", "strtok", "alloca", "setjmp", "longjmp", "system",
                     "popen")
BANNED_OUTSIDE_OS = ("usleep", "sleep", "nanosleep", "clock_nanosleep", "time", "gettimeofday", "clock_gettime", "rand",
                     "srand", "random", "srandom", "drand48")
# Headers of libraries that belong to one room (folders that may include them).
HEADERS_OF_ROOMS = {
    "pthread.h": ("cdc/base/os/", "tests/"), "ucontext.h": ("tests/sim/",), "setjmp.h": (), "alloca.h": (),
    "libpq-fe.h": ("connectors/postgres/", "tests/"), "openssl/ssl.h": ("connectors/postgres/", "sinks/rest/"),
}
# Mutable objects that cdc and engine may have at file scope: {symbol: why}. None so far.
GLOBALS_ALLOWED = {}
# Who may call a table of functions: the dispatchers that check it, the decorators that wrap it, and the tests of one sink
# that also does what no caller may.
DOOR_CALLERS = ("cdc/source_call.h", "cdc/sink_call.h", "cdc/spool.h", "cdc/base/files.h",
                "tests/sim/faulty_source.c", "tests/sim/faulty_sink.c", "tests/sim/sinks_jsonl.c", "tests/sim/sinks_iceberg.c",
                "tests/unit/u_sink_jsonl.c", "tests/unit/u_sink_parquet.c", "tests/unit/u_sink_folder.h",
                "tests/unit/u_ice_commit.c", "tests/unit/u_ice_commit.h", "tests/unit/u_ice_commit_expiry.c")
CHANGELOG_PARTS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


class Tree:
    """The files of a tree (tracked and new, not ignored), read once."""

    def __init__(self, root):
        self.root = root
        self.files = sorted(self._list())
        self._texts = {}

    def _list(self):
        if shutil.which("git"):  # otherwise, or in an unpacked archive: what lies there
            done = subprocess.run(["git", "-C", self.root, "ls-files", "-co", "--exclude-standard", "-z"],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
            if done.returncode == 0:
                names = done.stdout.decode().split("\0")
                return [n for n in names if n and os.path.isfile(os.path.join(self.root, n))]
        found = []
        for folder, folders, names in os.walk(self.root):
            folders[:] = [f for f in folders if f not in (".git", ".cache", "__pycache__")
                          and not re.match(r"build(?:-|$)", f)]
            found += [os.path.relpath(os.path.join(folder, n), self.root) for n in names]
        return found

    def text(self, name):
        if name not in self._texts:
            with open(os.path.join(self.root, name), "rb") as file:
                self._texts[name] = file.read().decode("utf-8", errors="surrogateescape")
        return self._texts[name]

    def lines(self, name):
        return self.text(name).split("\n")

    def with_ending(self, *endings):
        return [n for n in self.files if n.endswith(endings)]

    def c_files(self):
        return self.with_ending(".c", ".h")

    def product_c(self):
        return [n for n in self.c_files() if n.startswith(PRODUCT)]

    def exists(self, name):
        return os.path.exists(os.path.join(self.root, name))


def code_only(text):
    """C text with comments and the contents of literals blanked, line numbers kept."""
    def blank(match):
        piece = match.group(0)
        if piece[0] in "\"'":
            return piece[0] + piece[0]
        return re.sub(r"[^\n]", " ", piece)
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", blank, text, flags=re.S)


def includes(text):
    """(line number, bracket, name) of each #include."""
    return [(number, m.group(1), m.group(2)) for number, line in enumerate(text.split("\n"), 1)
            for m in [re.match(r"\s*#\s*include\s*([<\"])([^>\"]+)[>\"]", line)] if m]


def room(name):
    """The room a file belongs to."""
    if name.startswith("cdc/base/os/"):
        return "os"
    if name.startswith("cdc/base/"):
        return "base"
    if name.startswith(("connectors/", "sinks/")):
        return "/".join(name.split("/")[:2])
    return name.split("/")[0]


def may_include(name, included):
    """Whether the direction of DESIGN (base <- cdc <- {connectors, sinks, engine} <- config) allows it."""
    here, there = room(name), room(included)
    if here in ("tests", "config"):
        return there != "tests" or here == "tests"
    if there == here or there == "base":
        return True
    if here in ("base", "os"):
        return False
    if there == "cdc":
        return True
    if here.startswith("connectors/") and included == "cdc/base/os/wait_fd.h":
        return True
    if here.startswith("sinks/"):
        return there in SHARED_SINK_ROOMS or re.fullmatch(r"connectors/\w+/session\.h", included) is not None
    return False


# ---- rules on sources ----------------------------------------------------------------------------------------------------

def rule_file_length(tree):
    return ["%s: %d lines, at most %d" % (n, tree.text(n).count("\n"), LINES_MAX)
            for n in tree.c_files() if tree.text(n).count("\n") > LINES_MAX]


def rule_line_length(tree):
    return ["%s:%d: %d columns, at most %d" % (name, number, len(line), limit)
            for ending, limit in COLUMNS_MAX.items() for name in tree.with_ending(ending)
            for number, line in enumerate(tree.lines(name), 1) if len(line) > limit]


def rule_include_direction(tree):
    problems = []
    for name in tree.c_files():
        for number, bracket, included in includes(tree.text(name)):
            if bracket == '"' and tree.exists(included) and not may_include(name, included):
                problems.append("%s:%d: %s may not include %s" % (name, number, room(name), included))
    return problems


def rule_include_from_root(tree):
    return ["%s:%d: %s is no path from the repository root" % (name, number, included)
            for name in tree.c_files() for number, bracket, included in includes(tree.text(name))
            if bracket == '"' and not tree.exists(included)]


def rule_library_headers(tree):
    return ["%s:%d: <%s> belongs to %s" % (name, number, included, " ".join(HEADERS_OF_ROOMS[included]) or "nobody")
            for name in tree.c_files() for number, _bracket, included in includes(tree.text(name))
            if included in HEADERS_OF_ROOMS and not name.startswith(HEADERS_OF_ROOMS[included] or ("\0",))]


def rule_pragma_once(tree):
    return ["%s:1: no #pragma once" % n for n in tree.with_ending(".h")
            if not re.search(r"^#pragma once$", tree.text(n), re.M)]


def rule_header_comment(tree):
    """A file begins by saying what it is; a .c may leave it to the header of the same name."""
    begins = {n for n in tree.product_c() if tree.text(n).startswith("/*")}
    return ["%s:1: no comment that says what, why, thread" % n for n in tree.product_c()
            if n not in begins and (n.endswith(".h") or n[:-2] + ".h" not in begins)]


def rule_banned_calls(tree):
    everywhere = re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(BANNED_EVERYWHERE))
    outside_os = re.compile(r"(?<![\w.>])(%s|pthread_\w+)\s*\(" % "|".join(BANNED_OUTSIDE_OS))
    problems = []
    for name in tree.c_files():
        if not name.startswith(PRODUCT + ("tests/sim/", "tests/fuzz/", "tests/fake/", "tests/bench/")):
            continue
        patterns = [everywhere]
        if name.startswith(PRODUCT) and not name.startswith("cdc/base/os/"):
            patterns.append(outside_os)
        for number, line in enumerate(code_only(tree.text(name)).split("\n"), 1):
            for pattern in patterns:
                problems += ["%s:%d: %s()" % (name, number, m.group(1)) for m in pattern.finditer(line)]
    return problems


def rule_doors(tree):
    """A table of functions is called through the small functions beside it, which check the contract."""
    door = re.compile(r"\b\w*ops(?:->|\.)(\w+)\s*\(|(?:->|\.)(?:source|sink)->(\w+)\s*\(")
    return ["%s:%d: ->%s() goes around the functions that check the door" % (name, number, m.group(1) or m.group(2))
            for name in tree.c_files() if name not in DOOR_CALLERS
            for number, line in enumerate(code_only(tree.text(name)).split("\n"), 1) for m in door.finditer(line)]


def rule_file_names(tree):
    problems = []
    for name in tree.files:
        stem = os.path.basename(name).split(".")[0].lower()
        if stem in BANNED_NAMES or stem.rsplit("_", 1)[-1] in BANNED_NAMES:
            problems.append("%s: the name says nothing" % name)
    return problems


def rule_file_size(tree):
    return ["%s: %d bytes, at most %d" % (n, os.path.getsize(os.path.join(tree.root, n)), BYTES_MAX)
            for n in tree.files if os.path.getsize(os.path.join(tree.root, n)) > BYTES_MAX]


def rule_folder_readmes(tree):
    """Each folder of product code has a README (its own, or its parent's) that names every .c file of it."""
    problems = []
    for folder in sorted({os.path.dirname(n) for n in tree.product_c()}):
        readme = folder + "/README.md"
        if not tree.exists(readme):
            readme = os.path.dirname(folder) + "/README.md"
        if not tree.exists(readme):
            problems.append("%s: no README.md here nor in the folder above" % folder)
            continue
        text = tree.text(readme)
        for name in tree.product_c():
            stem = os.path.basename(name)[:-2]
            if os.path.dirname(name) == folder and name.endswith(".c") and not re.search(r"\b%s\b" % re.escape(stem), text):
                problems.append("%s: does not mention %s" % (readme, name))
    return problems


def rule_root_readme(tree):
    text = tree.text("README.md") if tree.exists("README.md") else ""
    problems = ["README.md: no word about %s/" % top for top in
                sorted({n.split("/")[0] for n in tree.files if "/" in n and not n.startswith(".")}) if top + "/" not in text]
    for name in tree.with_ending(".md"):
        for number, line in enumerate(tree.lines(name), 1):
            for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", line):
                if not os.path.exists(os.path.join(tree.root, os.path.dirname(name), target)):
                    problems.append("%s:%d: no file %s" % (name, number, target))
    return problems


def rule_dead_files(tree):
    """A header that nobody includes; a folder with .c files that the build does not know."""
    used = {i for n in tree.c_files() for _l, _b, i in includes(tree.text(n)) if i != n}
    problems = ["%s: nobody includes it" % n for n in tree.with_ending(".h") if n.startswith(PRODUCT) and n not in used]
    build = tree.text("CMakeLists.txt") if tree.exists("CMakeLists.txt") else ""
    for folder in sorted({os.path.dirname(n) for n in tree.product_c() if n.endswith(".c")}):
        if not re.search(r"[\s;]%s[\s)]" % re.escape(folder), build):
            problems.append("%s: CMakeLists.txt has no room with this folder" % folder)
    return problems


def rule_machine_paths(tree):
    everywhere = re.compile(r"(?<![\w.])/(?:%s)/|bash_%s" % ("wo" + "rk|fa" + "rm|home/\\w+|ro" + "ot", "jobs"))
    problems = []
    for name in tree.files:
        for number, line in enumerate(tree.lines(name), 1):
            if everywhere.search(line) or (name.startswith(PRODUCT) and name.endswith((".c", ".h")) and "/tmp/" in line):
                problems.append("%s:%d: a path of one machine" % (name, number))
    return problems


def rule_unfinished_words(tree):
    words = re.compile(r"\b(?:TO%s|FIX%s)\b" % ("DO", "ME"))
    return ["%s:%d: unfinished by its own words" % (name, number) for name in tree.files if name != "LICENSE"
            for number, line in enumerate(tree.lines(name), 1) if words.search(line)]


def rule_whitespace(tree):
    problems = []
    for name in tree.with_ending(".c", ".h", ".py", ".md", ".sh", ".txt", ".json", ".yml") + ["check", "demo"]:
        if not tree.exists(name) or name.startswith("tests/golden/"):
            continue
        text = tree.text(name)
        if text and not text.endswith("\n"):
            problems.append("%s: no line feed at the end" % name)
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip() or "\t" in line and not name.endswith(".md"):
                problems.append("%s:%d: blanks at the end, or a tab" % (name, number))
    return problems


def rule_changelog(tree):
    if not tree.exists("CHANGELOG.md"):
        return ["CHANGELOG.md: not there"]
    problems, versions, part = [], [], None
    lines = tree.lines("CHANGELOG.md")
    if lines[0] != "# Changelog":
        problems.append("CHANGELOG.md:1: must be `# Changelog`")
    for number, line in enumerate(lines, 1):
        if line.startswith("## "):
            found = re.fullmatch(r"## \[(Unreleased|\d+\.\d+\.\d+)\](?: - \d{4}-\d\d-\d\d)?", line)
            if not found or (found.group(1) == "Unreleased") != (" - " not in line):
                problems.append("CHANGELOG.md:%d: neither [Unreleased] nor [x.y.z] - date" % number)
            else:
                versions.append(found.group(1))
            part = None
        elif line.startswith("### "):
            part = line[4:]
            if part not in CHANGELOG_PARTS:
                problems.append("CHANGELOG.md:%d: no part of a changelog: %s" % (number, part))
        elif line.startswith("- ") and part is None:
            problems.append("CHANGELOG.md:%d: an entry outside a part" % number)
    numbers = [tuple(map(int, v.split("."))) for v in versions if v != "Unreleased"]
    if numbers != sorted(numbers, reverse=True) or "Unreleased" in versions[1:] or not versions:
        problems.append("CHANGELOG.md: versions must fall, [Unreleased] first")
    return problems


# ---- rules on what was built -----------------------------------------------------------------------------------------

def archives(tree):
    build = os.path.join(tree.root, "build")
    return sorted(os.path.join(build, n) for n in os.listdir(build) if re.fullmatch(r"libtailrace_\w+\.a", n)) \
        if os.path.isdir(build) else []


def symbols(archive, *options):
    """(object, name, section) of each symbol, as `nm -f sysv` prints them."""
    done = subprocess.run(["nm", "-A", "-f", "sysv"] + list(options) + [archive], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=True)
    found = []
    for line in done.stdout.decode().split("\n"):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 7:
            where, _colon, name = cells[0].rpartition(":")
            found.append((where.rpartition(":")[2] or where, name.strip(), cells[6]))
    return found


def built_globals(tree):
    """cdc (without base) and engine have no mutable object at file scope: a simulated process must leave nothing behind."""
    wanted = [a for a in archives(tree) if os.path.basename(a) in ("libtailrace_cdc.a", "libtailrace_engine.a")]
    if not wanted:
        return None
    problems = []
    for archive in wanted:
        for where, name, section in symbols(archive, "--defined-only"):
            mutable = section == "*COM*" or (section.startswith((".data", ".bss", ".tdata", ".tbss"))
                                             and not section.startswith(".data.rel.ro"))
            if mutable and name and name not in GLOBALS_ALLOWED:
                problems.append("%s: %s is a mutable global (%s)" % (where, name, section))
    return problems


def built_threads(tree):
    """No room but cdc/base/os calls threads, clocks, sleeps or random numbers of the system."""
    banned = re.compile(r"(?:pthread_\w+|%s)" % "|".join(BANNED_OUTSIDE_OS + BANNED_EVERYWHERE))
    wanted = [a for a in archives(tree) if not a.endswith("/libtailrace_os.a")]
    if not wanted:
        return None
    return ["%s: calls %s" % (where, name) for archive in wanted for where, name, _section in
            symbols(archive, "--undefined-only") if banned.fullmatch(name.split("@")[0])]


def built_docs(tree):
    """config/OPTIONS.md is what `tailrace help --docs` prints."""
    program = os.path.join(tree.root, "build", "tailrace")
    if not os.access(program, os.X_OK):
        return None
    done = subprocess.run([program, "help", "--docs"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False, timeout=20)
    if done.returncode != 0:
        return ["build/tailrace help --docs: exit %d: %s" % (done.returncode, done.stderr.decode(errors="replace").strip())]
    if not tree.exists("config/OPTIONS.md"):
        return ["config/OPTIONS.md: not there; cure: build/tailrace help --docs > config/OPTIONS.md"]
    if tree.text("config/OPTIONS.md") != done.stdout.decode():
        return ["config/OPTIONS.md: not current; cure: build/tailrace help --docs > config/OPTIONS.md"]
    return []


def built_hardening(tree):
    """The binary has what an attacker would miss: position independence, read-only relocations bound at start, no executable
    stack, stack protectors, checked string functions."""
    program = os.path.join(tree.root, "build", "tailrace")
    if not os.access(program, os.X_OK):
        return None
    done = subprocess.run(["readelf", "-W", "-h", "-l", "-d", "--dyn-syms", program], stdout=subprocess.PIPE, check=True)
    return missing_hardening(done.stdout.decode(), "build/tailrace")


def missing_hardening(text, name):
    wanted = {
        "position independence (PIE)": r"Type:\s+DYN",
        "read-only relocations (relro)": r"^\s+GNU_RELRO\b",
        "binding at start (now)": r"\(FLAGS_1\).*\bNOW\b|\(BIND_NOW\)",
        "a stack that is not executable": r"^\s+GNU_STACK\s.*\sRW\s+0x",
        "stack protectors": r"\b__stack_chk_fail\b",
        "checked string functions (fortify)": r"\b__\w+_chk\b(?<!stack_chk)",
    }
    return ["%s: without %s" % (name, what) for what, pattern in wanted.items() if not re.search(pattern, text, re.M)]


def main(words):
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if "--root" in words:
        root = words[words.index("--root") + 1]
    both = "--sources" not in words and "--built" not in words
    tree = Tree(root)
    kinds = (["rule_"] if both or "--sources" in words else []) + (["built_"] if both or "--built" in words else [])
    passed = failed = skipped = 0
    for kind in kinds:
        for function in [f for n, f in globals().items() if n.startswith(kind)]:
            name = "tidy:" + function.__name__[len(kind):]
            problems = function(tree)
            if problems is None:
                skipped += 1
                print("skip %s: nothing built in build/" % name)
            elif problems:
                failed += 1
                for problem in problems[:None if "--all" in words else SHOWN_MAX]:
                    print("# %s" % problem)
                print("not ok %s %s%s" % (name, problems[0], " (and %d more)" % (len(problems) - 1) if problems[1:] else ""))
            else:
                passed += 1
                print("ok %s" % name)
    print("%d passed, %d failed%s" % (passed, failed, ", %d skipped" % skipped if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
