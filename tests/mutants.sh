#!/usr/bin/env bash
# Breaks the library in one place after the other, and expects the tests that each patch names to notice. Of the last commit, on the PostgreSQL
# that is found; about 20 minutes for all.
#   tests/mutants.sh            all of tests/mutants
#   tests/mutants.sh M05 M10    these
# The last line is "N killed, N survived"; the exit code is 0 only if none survived, and if the named tests pass without the patch.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
tree="$folder/tree"
git worktree add -q --detach "$tree" HEAD || exit 1
trap 'git worktree remove --force "$tree"; rm -rf "$folder"' EXIT
project=tests/BackgroundJobs.Outbox.PostgresTests

build() {
    dotnet build -c Release "$tree/$project" -nodeReuse:false -v quiet -p:RunAnalyzers=false -p:TreatWarningsAsErrors=false > "$folder/build" 2>&1
}

# "passed", "failed", or "no test" where none ran.
outcome() {
    "$tree/$project"/bin/Release/net*/BackgroundJobs.Outbox.PostgresTests -noColor -noLogo "$@" > "$folder/run" 2>&1
    local rc=$? summary
    summary=$(grep -oE 'Total: [0-9]+, Errors: [0-9]+, Failed: [0-9]+, Skipped: [0-9]+' "$folder/run" | tr -d 'A-Za-z:,')
    # shellcheck disable=SC2086
    set -- $summary
    if [ "$#" != 4 ] || [ "$1" = "$4" ]; then echo 'no test'; elif [ "$rc" = 0 ] && [ "$2$3" = 00 ]; then echo passed; else echo failed; fi
}

patches=()
if [ "$#" = 0 ]; then patches=("$PWD"/tests/mutants/*.patch); else for id in "$@"; do patches+=("$PWD/tests/mutants/$id.patch"); done; fi
killer() { sed -n 's/^Killed by: //p' "$1"; }

build || { cat "$folder/build"; exit 1; }
for patch in "${patches[@]}"; do
    if [ "$(outcome -method "$(killer "$patch")")" != passed ]; then
        echo "Without any patch, $(killer "$patch") does not pass:"
        tail -20 "$folder/run"
        exit 1
    fi
done

killed=0 survived=0
for patch in "${patches[@]}"; do
    name="$(basename "$patch" .patch): $(sed -n 's/^What: *//p' "$patch")"
    git -C "$tree" checkout -q . && git -C "$tree" apply "$patch" || exit 1
    build || { cat "$folder/build"; echo "$name: does not build"; exit 1; }
    case $(outcome -method "$(killer "$patch")") in
        failed) killed=$((killed + 1)); echo "killed    $name" ;;
        *) survived=$((survived + 1)); echo "SURVIVED  $name" ;;
    esac
done
echo "$killed killed, $survived survived"
[ "$survived" = 0 ] && [ "$killed" -gt 0 ]
