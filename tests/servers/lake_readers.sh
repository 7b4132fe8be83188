#!/usr/bin/env bash
# Installs the independent readers of tests/lake below the project's cache folder (.cache/lake, or $TAILRACE_LAKE_READERS):
#
#   tests/servers/lake_readers.sh          installs what is missing; prints `ok NAME`, `skip NAME: why`, and the folder last
#   tests/servers/lake_readers.sh --where  only prints the folder
#   tests/servers/lake_readers.sh --demo   without Java, for ./demo; where DuckDB cannot be had, PyIceberg alone
#
# venv/   PyIceberg, pyarrow, fastavro, DuckDB with its Iceberg extension as a wheel (nothing is fetched when it runs)
# java/   Iceberg's own library with small programs around it (tests/lake/java); needs a JDK 17 and Maven
# venv-pyiceberg/   PyIceberg alone, of --demo
#
# Exit code 1 if PyIceberg and DuckDB cannot be had; Java's absence is a skip, which the tests say again.
set -u
root=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd) || exit 2
where=${TAILRACE_LAKE_READERS:-$root/.cache/lake}
if [ "${1:-}" = --where ]; then
    echo "$where"
    exit 0
fi
mkdir -p "$where" || exit 1
exec 9>"$where/lock"
flock 9

install_python() {
    local wanted=$root/tests/lake/requirements.txt
    if [ -x "$where/venv/bin/python" ] && cmp -s "$wanted" "$where/venv/requirements.txt"; then
        return 0
    fi
    rm -rf "$where/venv"
    python3 -m venv "$where/venv" || return 1
    "$where/venv/bin/pip" install -q --disable-pip-version-check -r "$wanted" || return 1
    cp "$wanted" "$where/venv/requirements.txt"
}

# PyIceberg without DuckDB; one try, since the whole has failed just before.
install_pyiceberg() {
    rm -rf "$where/venv-pyiceberg"
    python3 -m venv "$where/venv-pyiceberg" || return 1
    "$where/venv-pyiceberg/bin/pip" install -q --disable-pip-version-check --retries 0 \
        $(grep -E '^(pyiceberg|pyarrow)' "$root/tests/lake/requirements.txt") || {
        rm -rf "$where/venv-pyiceberg"
        return 1
    }
}

install_java() {
    local source=$root/tests/lake/java
    if [ -s "$where/java/cp.txt" ] && diff -rq "$source" "$where/java/source" >/dev/null 2>&1; then
        return 0
    fi
    if ! { [ -s "$where/java/cp.txt" ] && cmp -s "$source/pom.xml" "$where/java/pom.xml"; }; then
        rm -rf "$where/java"
        mkdir -p "$where/java" || return 1
        cp "$source/pom.xml" "$where/java/pom.xml"
        (cd "$where/java" && mvn -B -q dependency:build-classpath -Dmdep.outputFile="$where/java/cp.tmp" </dev/null) || return 1
    else
        cp "$where/java/cp.txt" "$where/java/cp.tmp"
    fi
    rm -rf "$where/java/source"
    mkdir -p "$where/java/classes"
    javac -cp "$(cat "$where/java/cp.tmp")" -d "$where/java/classes" "$source"/src/main/java/tailrace/*.java || return 1
    cp -r "$source" "$where/java/source"
    mv "$where/java/cp.tmp" "$where/java/cp.txt"
}

if [ "${1:-}" = --demo ]; then
    install_python >"$where/python.log" 2>&1 || install_pyiceberg >>"$where/python.log" 2>&1
    exit
fi
failed=0
if install_python >"$where/python.log" 2>&1; then
    echo "ok lake readers: PyIceberg, DuckDB, fastavro"
else
    tail -n 5 "$where/python.log" >&2
    echo "not ok lake readers: PyIceberg and DuckDB cannot be installed (see $where/python.log)"
    failed=1
fi
if ! command -v javac >/dev/null || ! command -v mvn >/dev/null; then
    echo "skip lake readers: Iceberg's Java library: no javac or no mvn (Debian: openjdk-17-jdk-headless maven)"
elif install_java >"$where/java.log" 2>&1; then
    echo "ok lake readers: Iceberg's Java library"
else
    tail -n 5 "$where/java.log" >&2
    rm -rf "$where/java"
    echo "skip lake readers: Iceberg's Java library cannot be had from Maven (see $where/java.log)"
fi
echo "$where"
exit $failed
