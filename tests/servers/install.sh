# Debian 12's packages that tailrace is built, tested and shown with. Sourced by ./check and ./demo.
#
# tailrace_install [PACKAGE...] installs what is missing of the packages named (all, if none), as root or with sudo. It
# never starts a service and never lets Debian create a PostgreSQL cluster: what it changes for that (policy-rc.d, the
# createcluster.conf of postgresql-common) is put back as it was. Without apt it only says what to install.

TAILRACE_PACKAGES_BUILD="gcc libc6-dev pkg-config cmake ninja-build libpq-dev libjansson-dev libssl-dev libdeflate-dev zlib1g-dev libzstd-dev liblz4-dev libsnappy-dev libsqlite3-dev libroaring-dev"
TAILRACE_PACKAGES_RUN="postgresql-15 postgresql-client-15 python3 python3-venv"
TAILRACE_PACKAGES_TEST="binutils clang libclang-rt-14-dev clang-format openjdk-17-jdk-headless maven"

tailrace_missing() {
    local package
    for package in "$@"; do
        dpkg-query -W -f='${db:Status-Abbrev}\n' "$package" 2>/dev/null | grep -q '^.i' || printf '%s ' "$package"
    done
}

tailrace_put_back() {
    # $1: the folder with what was there before
    if [ -e "$1/policy-rc.d.ours" ]; then
        $TAILRACE_SUDO rm -f /usr/sbin/policy-rc.d
        [ ! -e "$1/policy-rc.d" ] || $TAILRACE_SUDO cp -p "$1/policy-rc.d" /usr/sbin/policy-rc.d
    fi
    if [ -e "$1/createcluster.conf" ]; then
        $TAILRACE_SUDO cp -p "$1/createcluster.conf" /etc/postgresql-common/createcluster.conf
    fi
    $TAILRACE_SUDO rm -rf "$1"
}

tailrace_apt() {
    $TAILRACE_SUDO env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Options::=--force-confold "$@" </dev/null >&2
}

# Runs in a subshell of its own, so that its trap is its own.
tailrace_apt_install() (
    saved=$(mktemp -d)
    trap 'tailrace_put_back "$saved"' EXIT
    trap 'exit 130' INT TERM HUP
    [ ! -e /usr/sbin/policy-rc.d ] || $TAILRACE_SUDO cp -p /usr/sbin/policy-rc.d "$saved/policy-rc.d"
    touch "$saved/policy-rc.d.ours"
    printf '#!/bin/sh\nexit 101\n' >"$saved/answer"
    $TAILRACE_SUDO install -m 755 "$saved/answer" /usr/sbin/policy-rc.d
    tailrace_apt update || echo "apt-get update failed; going on with the lists that are here" >&2
    case " $* " in *" postgresql-15 "*)
        tailrace_apt install --no-install-recommends postgresql-common || exit 1
        conf=/etc/postgresql-common/createcluster.conf
        if [ -e "$conf" ]; then
            $TAILRACE_SUDO cp -p "$conf" "$saved/createcluster.conf"
            { grep -v '^ *create_main_cluster' "$conf"; echo 'create_main_cluster = false'; } >"$saved/conf"
            $TAILRACE_SUDO install -m 644 "$saved/conf" "$conf"
        fi ;;
    esac
    tailrace_apt install --no-install-recommends "$@" || exit 1
)

tailrace_install() {
    local missing
    [ $# -gt 0 ] || set -- $TAILRACE_PACKAGES_BUILD $TAILRACE_PACKAGES_RUN $TAILRACE_PACKAGES_TEST
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        echo "this is no Debian: please make sure that the like of these is installed: $*" >&2
        return 0
    fi
    missing=$(tailrace_missing "$@")
    [ -n "$missing" ] || return 0
    TAILRACE_SUDO=
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "missing packages: $missing" >&2
            echo "cure: as root, apt-get install $missing" >&2
            return 1
        fi
        TAILRACE_SUDO=sudo
    fi
    echo "installing: $missing" >&2
    tailrace_apt_install $missing || { echo "cannot install: $missing" >&2; return 1; }
    missing=$(tailrace_missing "$@")
    [ -z "$missing" ] || { echo "still missing after the installation: $missing" >&2; return 1; }
}
