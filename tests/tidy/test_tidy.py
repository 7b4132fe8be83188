#!/usr/bin/python3
"""Plants a breach of each source rule of tidy.py in a small clean tree and must see it found, there and only there.
Prints `ok tidy:finds:RULE` lines and a count."""

import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import tidy  # noqa: E402

CLEAN = {
    "README.md": "cdc/ sinks/ engine/ connectors/ tests/ [the rooms](cdc/README.md)\n",
    "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n### Added\n- a thing\n",
    "CMakeLists.txt": "room(c DIRS cdc )\nroom(e DIRS engine )\nroom(s DIRS sinks/jsonl )\nroom(p DIRS connectors/pg )\n",
    "cdc/README.md": "thing\n",
    "engine/README.md": "motor\n",
    "sinks/README.md": "out\n",
    "connectors/README.md": "in\n",
    "cdc/thing.h": "/* A thing. */\n#pragma once\nint thing(void);\n",
    "cdc/thing.c": '/* A thing: strcpy( in words is no call. */\n#include "cdc/thing.h"\n'
    'int thing(void) { return "time("[0]; }\n',
    "engine/motor.c": '/* Motor. */\n#include "cdc/thing.h"\nint env_time(int x) { return env->time(x); }\n',
    "sinks/jsonl/out.c": '/* Out. */\n#include "cdc/thing.h"\n',
    "connectors/pg/in.c": '/* In. */\n#include "cdc/thing.h"\n',
    "tests/x.py": "pass\n",
}

# rule: files put over the clean tree (None: removed)
BREACHES = {
    "file_length": {"cdc/thing.c": '/* A thing. */\n#include "cdc/thing.h"\n' + "int x;\n" * 900},
    "line_length": {"engine/motor.c": "/* " + "x" * 120 + " */\n"},
    "include_direction": {"engine/motor.c": '/* Motor. */\n#include "cdc/thing.h"\n#include "connectors/pg/in.c"\n'},
    "include_from_root": {"cdc/thing.c": '/* A thing. */\n#include "thing.h"\n#include "cdc/thing.h"\n'},
    "library_headers": {"engine/motor.c": "/* Motor. */\n#include <pthread.h>\n"},
    "pragma_once": {"cdc/thing.h": "/* A thing. */\nint thing(void);\n"},
    "header_comment": {"engine/motor.c": "int motor;\n"},
    "banned_calls": {"engine/motor.c": "/* Motor. */\nint f(void) { return time (0); }\n"},
    "doors": {"engine/motor.c": "/* Motor. */\nvoid f(struct source *s) { s->ops->close(s); }\n"},
    "file_names": {"tests/string_util.py": "pass\n"},
    "file_size": {"tests/big.bin": "x" * 300000},
    "folder_readmes": {"engine/README.md": "nothing\n"},
    "root_readme": {"README.md": "cdc/ sinks/ engine/ connectors/ tests/ [gone](cdc/gone.md)\n"},
    "dead_files": {"cdc/unused.h": "/* Unused. */\n#pragma once\n"},
    "machine_paths": {"engine/motor.c": '/* Motor. */\nconst char *p = "/wo' + 'rk/x";\n'},
    "unfinished_words": {"tests/x.py": "pass  # TO" + "DO\n"},
    "whitespace": {"tests/x.py": "pass \n"},
    "changelog": {"CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n- a thing\n"},
}
# Further breaches of a rule that has several ways to be broken.
MORE = [
    ("include_direction", {"sinks/jsonl/out.c": '/* Out. */\n#include "connectors/pg/in.c"\n'}),
    ("include_direction", {"cdc/thing.c": '/* A thing. */\n#include "engine/motor.c"\n#include "cdc/thing.h"\n'}),
    ("include_direction", {"connectors/pg/in.c": '/* In. */\n#include "sinks/jsonl/out.c"\n'}),
    ("banned_calls", {"engine/motor.c": "/* Motor. */\nint f(void) { return pthread_self(); }\n"}),
    ("banned_calls", {"cdc/thing.c": '/* A thing. */\n#include "cdc/thing.h"\nvoid g(char *a) { strcat(a, a); }\n'}),
    ("doors", {"engine/motor.c": "/* Motor. */\nvoid f(struct sink *s) { jsonl_ops.close(s); }\n"}),
    ("doors", {"engine/motor.c": "/* Motor. */\nint f(struct job *j) { return j->source->rewritten (0, 0); }\n"}),
    (
        "dead_files",
        {"CMakeLists.txt": "room(cdc DIRS cdc LINK x)\nroom(s DIRS sinks/jsonl )\nroom(p DIRS connectors/pg )\n"},
    ),
    ("changelog", {"CHANGELOG.md": "# Changelog\n\n## [0.1.0] - 2026-01-01\n\n## [0.2.0] - 2026-01-02\n"}),
]


def found_in(files):
    """{rule: problems} in a tree of these files."""
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = os.path.join(root, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        tree = tidy.Tree(root)
        return {name[5:]: function(tree) for name, function in vars(tidy).items() if name.startswith("rule_")}


def compiled(root, name, text, *flags):
    path = os.path.join(root, name)
    with open(path + ".c", "w", encoding="ascii") as file:
        file.write(text)
    subprocess.run(["cc", "-O2", *flags, path + ".c", "-o", path], check=True)
    return path


def built_rules():
    """The rules on symbols and on the binary, each on something compiled for it."""
    results = []
    with tempfile.TemporaryDirectory() as root:
        os.mkdir(os.path.join(root, "build"))
        made = compiled(root, "cdc.o", "static int count; int *next(void) { count++; return &count; }", "-c", "-fPIE")
        subprocess.run(["ar", "rc", os.path.join(root, "build", "libtailrace_cdc.a"), made], check=True)
        tree = tidy.Tree(root)
        results.append(("globals", len(tidy.built_globals(tree)) == 1, repr(tidy.built_globals(tree))))
        results.append(("threads none", tidy.built_threads(tree) == [], repr(tidy.built_threads(tree))))
        made = compiled(
            root,
            "engine.o",
            '#include <unistd.h>\nstatic const char *const names[] = { "a" };\n'
            "const char *nap(int n) { sleep(1); return names[n]; }",
            "-c",
            "-fPIE",
        )
        subprocess.run(["ar", "rc", os.path.join(root, "build", "libtailrace_engine.a"), made], check=True)
        results.append(("globals constant tables", len(tidy.built_globals(tree)) == 1, repr(tidy.built_globals(tree))))
        results.append(("threads", len(tidy.built_threads(tree)) == 1, repr(tidy.built_threads(tree))))
        program = (
            "#include <string.h>\n#include <stdio.h>\nint main(int n, char **v) { char b[9 + n]; memcpy(b, v[0], n); "
            "return printf(v[1], b); }"
        )
        hard = [
            "-fPIE",
            "-pie",
            "-fstack-protector-all",
            "-U_FORTIFY_SOURCE",
            "-D_FORTIFY_SOURCE=3",
            "-w",
            "-Wl,-z,relro,-z,now,-z,noexecstack",
        ]
        for name, flags, want in (
            ("hardening all", hard, 0),
            (
                "hardening none",
                [
                    "-no-pie",
                    "-fno-pie",
                    "-fno-stack-protector",
                    "-U_FORTIFY_SOURCE",
                    "-w",
                    "-Wl,-z,norelro,-z,lazy,-z,execstack",
                ],
                6,
            ),
        ):
            path = compiled(root, "program", program, *flags)
            text = subprocess.run(
                ["readelf", "-W", "-h", "-l", "-d", "--dyn-syms", path], stdout=subprocess.PIPE, check=True
            )
            found = tidy.missing_hardening(text.stdout.decode(), "program")
            results.append((name, len(found) == want, repr(found)))
    return results


def main():
    passed = failed = 0
    clean = {rule: problems for rule, problems in found_in(CLEAN).items() if problems}
    results = [("clean tree", not clean, repr(clean))]
    for rule, change in list(BREACHES.items()) + MORE:
        found = {r for r, problems in found_in(dict(CLEAN, **change)).items() if problems}
        results.append((rule, found == {rule}, "found %s" % sorted(found)))
    unproven = {n[5:] for n in vars(tidy) if n.startswith("rule_")} - set(BREACHES)
    results.append(("every rule is planted", not unproven, repr(sorted(unproven))))
    results += built_rules()
    for name, good, why in results:
        print("ok tidy:finds:%s" % name if good else "not ok tidy:finds:%s: %s" % (name, why))
        passed, failed = passed + good, failed + (not good)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
