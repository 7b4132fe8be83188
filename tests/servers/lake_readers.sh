#!/usr/bin/env bash
# Installs the independent readers of tests/lake below the project's cache folder (.cache/lake, or $TAILRACE_LAKE_READERS):
#
#   tests/servers/lake_readers.sh          installs what is missing; prints `ok NAME`, `skip NAME: why`, and the folder last
#   tests/servers/lake_readers.sh --more   those, and ClickHouse, Spark, Polars and an older DuckDB, for ./check readers
#   tests/servers/lake_readers.sh --where  only prints the folder
#   tests/servers/lake_readers.sh --demo   without Java, for ./demo; where DuckDB cannot be had, PyIceberg alone
#
# venv/   PyIceberg, pyarrow, fastavro, DuckDB with its Iceberg extension as a wheel (nothing is fetched when it runs)
# java/   Iceberg's own library with small programs around it (tests/lake/java); needs a JDK 17 and Maven
# venv-pyiceberg/   PyIceberg alone, of --demo
# venv-NAME/   the others of --more, each with its own Python packages (tests/lake/requirements-NAME.txt); 2 GB
# spark/   Iceberg's runtime for Spark and the SQLite driver, which Spark finds the catalog with
#
# Exit code 1 if PyIceberg and DuckDB cannot be had; what else is missing is a skip, which the tests say again.
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

# install_venv [NAME [COMMAND]]: a venv with the packages that it wants, marked as whole once COMMAND has done its part too.
install_venv() {
    local wanted=$root/tests/lake/requirements${1:+-$1}.txt venv=$where/venv${1:+-$1}
    if [ -x "$venv/bin/python" ] && cmp -s "$wanted" "$venv/requirements.txt"; then
        return 0
    fi
    rm -rf "$venv"
    python3 -m venv "$venv" || return 1
    "$venv/bin/pip" install -q --disable-pip-version-check -r "$wanted" || return 1
    if [ $# -gt 1 ]; then
        "$2" || return 1
    fi
    cp "$wanted" "$venv/requirements.txt"
}

install_spark_jars() {
    local artifact
    rm -rf "$where/spark"
    for artifact in org.apache.iceberg:iceberg-spark-runtime-4.1_2.13:1.12.0 org.xerial:sqlite-jdbc:3.54.1.0; do
        (cd "$where" && mvn -B -q dependency:copy -Dartifact=$artifact -DoutputDirectory="$where/spark" </dev/null) || return 1
    done
}

# more NAME WHAT [COMMAND]: one of --more; what cannot be had is a loud skip.
more() {
    local name=$1 what=$2
    shift 2
    if install_venv "$name" "$@" >"$where/$name.log" 2>&1; then
        echo "ok lake readers: $what"
    else
        tail -n 5 "$where/$name.log" >&2
        rm -rf "$where/venv-$name"
        echo "skip lake readers: $what cannot be installed (see $where/$name.log)"
    fi
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
    install_venv >"$where/python.log" 2>&1 || install_pyiceberg >>"$where/python.log" 2>&1
    exit
fi
failed=0
if install_venv >"$where/python.log" 2>&1; then
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
if [ "${1:-}" = --more ]; then
    more clickhouse "ClickHouse (chdb)"
    more polars "Polars"
    more duckdb144 "DuckDB 1.4.4"
    if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
        echo "skip lake readers: Spark: no java or no mvn (Debian: openjdk-17-jdk-headless maven)"
    else
        more spark "Spark with Iceberg's runtime" install_spark_jars
    fi
fi
echo "$where"
exit $failed
